package proxy

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"entra-sidecar/tokencache"
)

// triggers are the texts by which LiteLLM overrides an answer's status.
var triggers = []string{
	"internal server error", "deploymentnotfound", "connection error", "invalid_request_error", "content_policy_violation",
	"responsibleaipolicyviolation", "content_filter_policy", "could not be verified", "this model's maximum context length is",
	"rate limit", "429",
}

func assertNoTriggers(t *testing.T, text string) {
	t.Helper()
	for _, trigger := range triggers {
		if strings.Contains(strings.ToLower(text), trigger) {
			t.Errorf("%q holds %q, by which LiteLLM overrides the status", text, trigger)
		}
	}
}

// assertOwnError checks the shape that all of the sidecar's own failures share.
func assertOwnError(t *testing.T, res answer, status int, code string) {
	t.Helper()
	var body struct {
		Error struct{ Code, Message, Type string }
	}
	if err := json.Unmarshal([]byte(res.body), &body); err != nil {
		t.Fatalf("status %d: %q: %v", res.StatusCode, res.body, err)
	}
	if res.StatusCode != status || body.Error.Code != code || res.Header.Get("X-Entra-Sidecar-Error") != code {
		t.Errorf("status %d, code %q, header %q, want %d %q", res.StatusCode, body.Error.Code, res.Header.Get("X-Entra-Sidecar-Error"), status, code)
	}
	if body.Error.Type != "entra_sidecar_error" || len(body.Error.Message) < 20 {
		t.Errorf("type %q, message %q", body.Error.Type, body.Error.Message)
	}
	if got := res.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
	if wants := status == http.StatusServiceUnavailable; (res.Header.Get("Retry-After") != "") != wants {
		t.Errorf("Retry-After %q", res.Header.Get("Retry-After"))
	}
	assertNoTriggers(t, res.body)
}

func TestTheSidecarsOwnErrorsAtTheDoor(t *testing.T) {
	tests := []struct {
		name, request string
		status        int
		code          string
	}{
		{"no route", "GET /elsewhere HTTP/1.1\nHost: localhost\napi-key: k\n\n", 400, "no_route"},
		{"no key", "GET /x HTTP/1.1\nHost: localhost\n\n", 401, "invalid_inbound_key"},
		{"a page", "GET /x HTTP/1.1\nHost: localhost\nOrigin: x\napi-key: k\n\n", 403, "origin_refused"},
		{"another host", "GET /x HTTP/1.1\nHost: evil.example\napi-key: k\n\n", 403, "host_refused"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := start(t, (&recorder{}).ServeHTTP, func(c *setup) { c.Guard.Keys, c.Route.Prefix = []string{"k"}, "/x" })
			assertOwnError(t, s.raw(test.request), test.status, test.code)
		})
	}
}

func TestNoTokenIs503WithRetryAfter(t *testing.T) {
	tests := []struct {
		name       string
		err        error
		retryAfter string
	}{
		{"a failing source that tells when it tries again", &tokencache.UnavailableError{Err: errors.New("canary"), RetryAfter: 2500 * time.Millisecond}, "3"},
		{"a wrapped one", errors.Join(errors.New("canary"), &tokencache.UnavailableError{Err: errors.New("canary"), RetryAfter: 30 * time.Second}), "30"},
		{"one that does not tell", &tokencache.UnavailableError{Err: errors.New("canary")}, "1"},
		{"any other error", errors.New("canary"), "1"},
		{"a source that was too slow", context.DeadlineExceeded, "1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			azure := &recorder{}
			s := start(t, azure.ServeHTTP)
			s.tokens.set(test.err)
			res := s.post("/x", "{}")
			assertOwnError(t, res, 503, "token_unavailable")
			if got := res.Header.Get("Retry-After"); got != test.retryAfter {
				t.Errorf("Retry-After %q, want %q", got, test.retryAfter)
			}
			if strings.Contains(res.body, "canary") || len(azure.all()) > 0 {
				t.Error("the reason reached the client, or the request the upstream")
			}
			if line := s.accessLog(); line["level"] != "warn" || !strings.Contains(line["error"].(string), test.err.Error()) {
				t.Errorf("logged as %v", line)
			}
		})
	}
}

func TestAnUpstreamThatCannotBeReachedIs502(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	silent := listen(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	plain := httptest.NewServer(&recorder{})
	t.Cleanup(plain.Close)
	tests := map[string]func(*setup){
		"no such name": func(c *setup) {
			c.Route.Upstream = parse(t, "https://no-such-name.invalid")
			c.Transport.DialTimeout = 2 * time.Second
		},
		"nobody listens":            func(c *setup) { c.Route.Upstream = parse(t, "https://"+closed.Addr().String()) },
		"dialling takes too long":   func(c *setup) { c.Transport.DialTimeout = time.Nanosecond },
		"an unknown authority":      func(c *setup) { c.Transport.TLS = nil },
		"a certificate for another": func(c *setup) { c.Transport.TLS.ServerName = "other.example" },
		"too old a TLS":             func(c *setup) { c.Transport.TLS.MinVersion = tls.VersionTLS13 + 1 },
		"no TLS at all":             func(c *setup) { c.Route.Upstream = parse(t, strings.Replace(plain.URL, "http:", "https:", 1)) },
		"TLS takes too long": func(c *setup) {
			c.Route.Upstream, c.Transport.TLSTimeout = parse(t, "https://"+silent), 50*time.Millisecond
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			s := start(t, (&recorder{}).ServeHTTP, change)
			assertOwnError(t, s.post("/x", "{}"), 502, "upstream_unreachable")
			if line := s.accessLog(); line["level"] != "warn" || line["error"] == nil {
				t.Errorf("logged as %v", line)
			}
			if n := s.metric("entra_sidecar_requests_total", "code", "502", "route", "/"); n != 1 {
				t.Errorf("%v counted", n)
			}
		})
	}
}

// listen accepts connections and hands each to serve.
func listen(t *testing.T, serve func(net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); serve(c) }()
		}
	}()
	return l.Addr().String()
}

func TestAnUpstreamThatBreaksBeforeItsAnswerIs502(t *testing.T) {
	tests := map[string]func(net.Conn){
		"it hangs up": func(net.Conn) {},
		"it resets": func(c net.Conn) {
			_ = c.(*tls.Conn).NetConn().(*net.TCPConn).SetLinger(0)
			_ = c.(*tls.Conn).NetConn().Close()
		},
		"within the head":        func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Le") },
		"it does not speak HTTP": func(c net.Conn) { _, _ = io.WriteString(c, "220 mail.example ESMTP\r\n\r\n") },
		"its head is endless":    func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 11<<20)) },
		"after an early hint":    func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n") },
		"it lies about a length": func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n") },
	}
	for name, end := range tests {
		t.Run(name, func(t *testing.T) {
			s := start(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				conn, _ := hijack(t, w)
				end(conn)
				_ = conn.Close()
			})
			w := s.dial()
			w.send("POST /x HTTP/1.1\nHost: localhost\nContent-Length: 2\n\n{}")
			res := w.answer("POST")
			for res.StatusCode == http.StatusEarlyHints {
				res = w.answer("POST")
			}
			assertOwnError(t, res, 502, "upstream_unreachable")
			assertUsable(t, w)
		})
	}
}

// assertUsable checks that a connection survived an error of the upstream's.
func assertUsable(t *testing.T, w *wire) {
	t.Helper()
	w.send("GET //%zz HTTP/1.1\nHost: localhost\n\n") // the server's own 400
	if res := w.answer("GET"); res.StatusCode != 400 {
		t.Errorf("status %d", res.StatusCode)
	}
}

func TestAnUpstreamThatStaysSilentIs504(t *testing.T) {
	tests := map[string]string{
		"nothing comes":        "",
		"half a head comes":    "HTTP/1.1 200 OK\r\nContent-Type: te",
		"an early hint comes":  "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
		"a status line comes":  "HTTP/1.1 200 OK\r\n",
		"100 Continue is sent": "HTTP/1.1 100 Continue\r\n\r\n",
	}
	for name, begin := range tests {
		t.Run(name, func(t *testing.T) {
			over := make(chan struct{})
			s := start(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				conn, _ := hijack(t, w)
				_, _ = io.WriteString(conn, begin)
				_, _ = io.Copy(io.Discard, conn) // until the sidecar gives up
				_ = conn.Close()
				close(over)
			}, func(c *setup) { c.Transport.ResponseHeaderTimeout = 100 * time.Millisecond })
			w := s.dial()
			w.send("POST /x HTTP/1.1\nHost: localhost\nContent-Length: 2\n\n{}")
			res := w.answer("POST")
			for res.StatusCode < 200 {
				res = w.answer("POST")
			}
			assertOwnError(t, res, 504, "upstream_timeout")
			select {
			case <-over:
			case <-time.After(time.Second):
				t.Error("the upstream was not told")
			}
		})
	}
}

func TestASlowAnswerThatHasBegunIsNotCut(t *testing.T) {
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		time.Sleep(300 * time.Millisecond)
		_, _ = io.WriteString(w, "late")
	}, func(c *setup) { c.Transport.ResponseHeaderTimeout = 100 * time.Millisecond })
	if res := s.post("/x", "{}"); res.body != "late" || res.err != nil {
		t.Errorf("%q, %v", res.body, res.err)
	}
}

func TestAClientThatLeavesCancelsItsRequest(t *testing.T) {
	tests := map[string]string{
		"a request without a body":     "GET /x HTTP/1.1\nHost: localhost\n\n",
		"a request with a body":        "POST /x HTTP/1.1\nHost: localhost\nContent-Length: 2\n\n{}",
		"a chunked request":            "POST /x HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n\n2\n{}\n0\n\n",
		"a request with an empty body": "POST /x HTTP/1.1\nHost: localhost\nContent-Length: 0\n\n",
	}
	for name, request := range tests {
		t.Run(name, func(t *testing.T) {
			asked, over := make(chan struct{}), make(chan struct{})
			s := start(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				close(asked)
				<-r.Context().Done()
				close(over)
			})
			w := s.dial()
			w.send(request)
			<-asked
			_ = w.Close()
			select {
			case <-over:
			case <-time.After(time.Second):
				t.Error("the upstream does not know after a second")
			}
			line := s.accessLog()
			if line["status"] != int64(statusClientGone) || line["bytes"] != int64(0) || line["level"] != "info" {
				t.Errorf("logged as %v", line)
			}
			eventually(t, "a request counted as 499", func() bool { return s.metric("entra_sidecar_requests_total", "code", "499") == 1 })
		})
	}
}

// An answer may come just when the client has left.
func TestAnAnswerThatFindsNoClientIsNotCounted(t *testing.T) {
	closed := make(chan struct{})
	s := start(t, nil, func(c *setup) {
		c.Upstream = roundTripperFunc(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: closer(closed), Request: r}, nil
		})
	})
	w := s.dial()
	w.send("GET /x HTTP/1.1\nHost: localhost\n\n")
	_ = w.Close()
	if line := s.accessLog(); line["status"] != int64(statusClientGone) {
		t.Errorf("logged as %v", line)
	}
	<-closed
}

// A closer is an empty body that closes a channel when it is closed.
type closer chan struct{}

func (closer) Read([]byte) (int, error) { return 0, io.EOF }
func (c closer) Close() error           { close(c); return nil }

// The drain's end cancels the context under all requests. No client may take
// that for an empty answer.
func TestARequestThatIsCutByTheServersEndIsNotAnswered(t *testing.T) {
	asked := make(chan struct{})
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(asked)
		<-r.Context().Done()
	})
	ctx, end := context.WithCancel(context.Background())
	front := httptest.NewUnstartedServer(s.front.Config.Handler)
	front.Config.ErrorLog = debugLog(s.logger)
	front.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	front.Start()
	t.Cleanup(front.Close)
	s.addr = front.Listener.Addr().String()
	w := s.dial()
	w.send("POST /x HTTP/1.1\nHost: localhost\nContent-Length: 2\n\n{}")
	<-asked
	end()
	if got, err := io.ReadAll(w.in); len(got) > 0 {
		t.Errorf("the client got %q, %v", got, err)
	}
}

func TestARequestBodyThatIsCutShort(t *testing.T) {
	tests := []struct {
		name, request string
		code          string // of the answer; "" is none
	}{
		{"no number of bytes", "POST /x HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n\n2\n{}\nzz\n", "request_unreadable"},
		{"no end of a chunk", "POST /x HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n\n2\n{}}}\n", "request_unreadable"},
		{"a length that is not reached", "POST /x HTTP/1.1\nHost: localhost\nContent-Length: 100\n\n{}", ""},
		{"chunks without a last one", "POST /x HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n\n2\n{}\n", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			azure := &recorder{}
			s := start(t, azure.ServeHTTP)
			w := s.dial()
			w.send(test.request)
			_ = w.Conn.(*net.TCPConn).CloseWrite()
			if test.code != "" {
				assertOwnError(t, w.answer("POST"), 400, test.code)
			} else if got, _ := io.ReadAll(w.in); len(got) > 0 {
				t.Errorf("answered %q", got)
			}
			if test.code == "" {
				if line := s.accessLog(); line["status"] != int64(statusClientGone) {
					t.Errorf("logged as %v", line)
				}
			}
			for _, r := range azure.all() {
				if r.bodyErr == nil {
					t.Errorf("the upstream takes %q for complete", r.body)
				}
			}
		})
	}
}

func TestNoTextOfOursTriggersLiteLLM(t *testing.T) {
	for _, e := range []apiError{
		errNoRoute, errInvalidInboundKey, errOriginRefused, errHostRefused, errTokenUnavailable, errUnreachable, errTimeout, errUnreadable,
	} {
		assertNoTriggers(t, e.message)
		assertNoTriggers(t, e.code)
	}
	assertNoTriggers(t, brokenFrame)
}
