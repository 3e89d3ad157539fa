package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The answer to TRACE is the request's head.
func TestTraceDoesNotGiveTheTokenAway(t *testing.T) {
	s := start(t, func(w http.ResponseWriter, r *http.Request) { _ = r.Header.Write(w) })
	for _, method := range []string{"TRACE", "TRACK"} {
		a := s.raw(method + " /x HTTP/1.1\nHost: localhost\n\n")
		if a.StatusCode != http.StatusMethodNotAllowed || strings.Contains(a.body, "token-1") {
			t.Errorf("%s: %d %q", method, a.StatusCode, a.body)
		}
	}
}

func TestAPathCannotLeaveTheBasePathOfItsRoute(t *testing.T) {
	for path, want := range map[string]int{
		"/../admin":         http.StatusBadRequest,
		"/a/../../admin":    http.StatusBadRequest,
		"/%2e%2E/admin":     http.StatusBadRequest,
		"/.%2e%2fadmin":     http.StatusBadRequest,
		"/..%5cadmin":       http.StatusBadRequest,
		"/a/.":              http.StatusBadRequest,
		"/a..b/.c/d.":       http.StatusOK,
		"/openai/x:analyze": http.StatusOK,
	} {
		azure := &recorder{}
		s := start(t, azure.ServeHTTP, func(c *setup) { c.Route.Upstream.Path = "/openai-api" })
		a := s.raw("GET " + path + " HTTP/1.1\nHost: localhost\n\n")
		if a.StatusCode != want || want != http.StatusOK && len(azure.all()) > 0 {
			t.Errorf("%s: %d, %d requests at the upstream", path, a.StatusCode, len(azure.all()))
		}
	}
}

func TestWithoutABasePathDotSegmentsPassAsTheyAre(t *testing.T) {
	azure := &recorder{}
	s := start(t, azure.ServeHTTP)
	s.raw("GET /a/../b HTTP/1.1\nHost: localhost\n\n")
	if got := azure.last(t).RequestURI; got != "/a/../b" {
		t.Errorf("the upstream got %q", got)
	}
}

func TestTheGuardAcceptsAKeyWhereverItsClientsPutTheirs(t *testing.T) {
	const key = "0123456789abcdef"
	for _, header := range []string{
		"api-key: " + key, "x-api-key: " + key, "Ocp-Apim-Subscription-Key: " + key, "Authorization: Bearer " + key,
		"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key." + key,
	} {
		azure := &recorder{}
		s := start(t, azure.ServeHTTP, func(c *setup) { c.Guard.Keys = []string{key} })
		if a := s.raw("GET /x HTTP/1.1\nHost: localhost\n" + header + "\n\n"); a.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", header, a.StatusCode)
		} else if strings.Contains(fmt.Sprint(azure.last(t).Header), key) {
			t.Errorf("%s: the key reached the upstream", header)
		}
	}
}

// Images and scripts of a page send no Origin.
func TestAWebPageIsRefusedWithoutAnOrigin(t *testing.T) {
	azure := &recorder{}
	s := start(t, azure.ServeHTTP)
	for site, want := range map[string]int{"cross-site": 403, "same-site": 403, "same-origin": 403, "none": 200} {
		if a := s.raw("GET /x HTTP/1.1\nHost: localhost\nSec-Fetch-Site: " + site + "\n\n"); a.StatusCode != want {
			t.Errorf("%s: %d", site, a.StatusCode)
		}
	}
}

func TestKeysInTheQueryAreStripped(t *testing.T) {
	azure := &recorder{}
	s := start(t, azure.ServeHTTP)
	s.raw("GET /x?a=1&Ocp-Apim-Subscription-Key=k&authorization=Bearer+k&b=2 HTTP/1.1\nHost: localhost\n\n")
	if got := azure.last(t).RequestURI; got != "/x?a=1&b=2" {
		t.Errorf("the upstream got %q", got)
	}
}

// With an Idempotency-Key, net/http takes a POST for one that may be repeated
// after it was written. Nobody said that Azure makes one answer of the two.
func TestAnIdempotencyKeyDoesNotBillTwice(t *testing.T) {
	for _, header := range []string{"", "Idempotency-Key: 1\n", "X-Idempotency-Key: 1\n"} {
		var seen atomic.Int32
		s := start(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if seen.Add(1) == 2 {
				panic(http.ErrAbortHandler)
			}
		})
		s.post("/x", "1")
		a := s.raw("POST /x HTTP/1.1\nHost: localhost\n" + header + "Content-Length: 1\n\n2")
		if a.StatusCode != http.StatusBadGateway || seen.Load() != 2 {
			t.Errorf("%q: %d, the upstream saw %d requests", header, a.StatusCode, seen.Load())
		}
	}
}

// The replay sends what is held, which must stay until it has been sent.
func TestAReplayMayBeAnsweredBeforeItsBodyIsSent(t *testing.T) {
	const size = 16 << 20
	var tries atomic.Int32
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		if tries.Add(1) == 1 {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		control := http.NewResponseController(w)
		_ = control.EnableFullDuplex()
		_, _ = io.WriteString(w, "first ")
		_ = control.Flush()
		time.Sleep(100 * time.Millisecond)
		n, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprintf(w, "%d %v", n, err)
	}, func(c *setup) { c.ReplayLimit, c.ReplayBudget = 2*size, 2*size })
	a := s.do(s.request("POST", "/x", bytes.NewReader(make([]byte, size))))
	if want := fmt.Sprintf("first %d <nil>", size); a.err != nil || a.body != want {
		t.Errorf("got %q, %v, want %q", a.body, a.err, want)
	}
}

func TestAnErrorThatIsNotInTheTableIsNotHeldBack(t *testing.T) {
	hold := make(chan struct{})
	s := start(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_ = http.NewResponseController(w).Flush()
		<-hold
	})
	defer close(hold)
	w := s.dial()
	w.send("GET /x HTTP/1.1\nHost: localhost\n\n")
	_ = w.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := w.in.Peek(1); err != nil {
		t.Errorf("the head did not come while the body was open: %v", err)
	}
}

// No frame can be put into an encoded stream, but it is as broken.
func TestABrokenStreamIsCountedInAnyEncoding(t *testing.T) {
	s := start(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = io.WriteString(w, "bytes")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	if a := s.raw("GET /x HTTP/1.1\nHost: localhost\n\n"); a.err == nil || a.body != "bytes" {
		t.Errorf("%q, %v", a.body, a.err)
	}
	eventually(t, "counted", func() bool { return s.metric("entra_sidecar_broken_streams_total") == 1 })
}

// After both close frames the server hangs up, and the client should.
func TestAClientThatKeepsItsSocketDoesNotKeepItsTunnel(t *testing.T) {
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		conn, rw := hijack(t, w)
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = rw.Write([]byte{0x88, 2, 3, 232})
		_ = rw.Flush()
		_ = conn.Close()
	})
	w := s.dial()
	w.send("GET /x HTTP/1.1\nHost: localhost\nConnection: Upgrade\nUpgrade: websocket\n\n")
	eventually(t, "open", func() bool { return s.metric("entra_sidecar_tunnels") == 1 })
	deadline := time.Now().Add(closeGrace + 5*time.Second)
	for s.metric("entra_sidecar_tunnels") != 0 {
		if time.Now().After(deadline) {
			t.Fatal("the tunnel is still open")
		}
		time.Sleep(50 * time.Millisecond)
	}
}
