package proxy

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"entra-sidecar/tokencache"
)

// Bodies of 401 as Azure sends them, byte for byte.
const (
	badToken         = `{ "statusCode": 401, "message": "Unauthorized. Access token is missing, invalid, audience is incorrect (https://cognitiveservices.azure.com), or have expired." }`
	badKey           = `{"error":{"code":"401","message":"Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active subscription and use a correct regional API endpoint for your resource."}}`
	missingKey       = `{ "statusCode": 401, "message": "Access denied due to missing subscription key. Make sure to include subscription key when making requests to an API." }`
	noAccess         = `{"error":{"code":"PermissionDenied","message": "Principal does not have access to API/Operation."}}`
	lacksAction      = "{\"error\":{\"code\":\"PermissionDenied\",\"message\":\"The principal `8d1f` lacks the required data action `Microsoft.CognitiveServices/accounts/OpenAI/deployments/chat/completions/action` to perform `POST /openai/deployments/{deployment-id}/chat/completions` operation.\"}}"
	permissionUnsaid = `{"error":{"code":"PermissionDenied","message":"Something that nobody has seen yet."}}`
)

// refuses answers 401 to token-1 and to others what it got, after reading it.
func refuses(azure *recorder, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		got := azure.record(r)
		w.Header().Set("Content-Type", "application/json")
		if r.Header.Get("Authorization") != "Bearer token-1" {
			_, _ = io.WriteString(w, got.body)
			return
		}
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, body)
	}
}

func TestARefusedTokenIsReplacedAndTheRequestSentAgain(t *testing.T) {
	full := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB, the limit
	tests := []struct{ name, request, body string }{
		{"no body", "GET /x HTTP/1.1\nHost: localhost\n\n", ""},
		{"an empty body", "POST /x HTTP/1.1\nHost: localhost\nContent-Length: 0\n\n", ""},
		{"a body of known length", "POST /x HTTP/1.1\nHost: localhost\nContent-Length: 7\n\n{\"a\":1}", `{"a":1}`},
		{"a chunked body", "POST /x HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n\n3\n{\"a\n4\n\":1}\n0\n\n", `{"a":1}`},
		{"an empty chunked body", "POST /x HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n\n0\n\n", ""},
		{"a chunked GET", "GET /x HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n\n2\n{}\n0\n\n", "{}"},
		{"a body at the limit", "POST /x HTTP/1.1\nHost: localhost\nContent-Length: 1048576\n\n" + full, full},
		{"a chunked body at the limit", "POST /x HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n\n100000\n" + full + "\n0\n\n", full},
		{"HEAD", "HEAD /x HTTP/1.1\nHost: localhost\n\n", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			azure := &recorder{}
			s := start(t, refuses(azure, badToken))
			w := s.dial()
			w.send(test.request)
			method, _, _ := strings.Cut(test.request, " ")
			res := w.answer(method)
			if method == "HEAD" {
				test.body = res.body
			}
			if res.StatusCode != http.StatusOK || res.body != test.body {
				t.Fatalf("status %d, %d bytes", res.StatusCode, len(res.body))
			}
			requests := azure.all()
			if len(requests) != 2 {
				t.Fatalf("%d requests upstream", len(requests))
			}
			assertSameRequest(t, requests[0], requests[1])
			assertReplayed(t, s, 1)
		})
	}
}

func assertSameRequest(t *testing.T, first, second seen) {
	t.Helper()
	if first.body != second.body || first.bodyErr != nil || second.bodyErr != nil {
		t.Errorf("the bodies differ: %d bytes (%v), %d bytes (%v)", len(first.body), first.bodyErr, len(second.body), second.bodyErr)
	}
	if first.ContentLength != second.ContentLength || fmt.Sprint(first.TransferEncoding) != fmt.Sprint(second.TransferEncoding) {
		t.Error("the bodies' framing differs")
	}
	if second.Header.Get("Authorization") != "Bearer token-2" || len(second.Header["Authorization"]) != 1 {
		t.Errorf("the second request carries %q", second.Header["Authorization"])
	}
	first.Header.Del("Authorization")
	second.Header.Del("Authorization")
	for _, pair := range [][2]any{{first.Header, second.Header}, {first.Trailer, second.Trailer}, {first.RequestURI, second.RequestURI}, {first.Method, second.Method}} {
		if a, b := fmt.Sprint(pair[0]), fmt.Sprint(pair[1]); a != b {
			t.Errorf("%s became %s", a, b)
		}
	}
}

func assertReplayed(t *testing.T, s *sidecar, want float64) {
	t.Helper()
	if got := s.metric("entra_sidecar_token_replays_total", "route", "/"); got != want {
		t.Errorf("%v replays counted, want %v", got, want)
	}
	if got, _ := s.accessLog()["replayed"].(bool); got != (want > 0) {
		t.Errorf("replayed in the access log: %t", got)
	}
}

func TestTrailersAreSentAgainToo(t *testing.T) {
	azure := &recorder{}
	s := start(t, refuses(azure, badToken))
	s.raw("POST /x HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\nTrailer: X-Sum, X-Absent\n\n2\n{}\n0\nX-Sum: 7\n\n")
	requests := azure.all()
	if len(requests) != 2 {
		t.Fatalf("%d requests upstream", len(requests))
	}
	if got := requests[1].Trailer.Get("X-Sum"); got != "7" {
		t.Errorf("X-Sum = %q", got)
	}
	assertSameRequest(t, requests[0], requests[1])
}

func TestWhich401MakesAReplay(t *testing.T) {
	tests := []struct {
		name, body string
		header     []string
		replayed   bool
	}{
		{"the token is refused", badToken, nil, true},
		{"another audience is named", `{ "statusCode": 401, "message": "Unauthorized. Access token is missing, invalid, audience is incorrect (https://ai.azure.com), or have expired." }`, nil, true},
		{"the body is empty", "", nil, true},
		{"the body is unknown", `{"error":{"code":"Unauthorized","message":"The signature does not verify."}}`, nil, true},
		{"the body is no JSON", "<html>401</html>", []string{"Content-Type", "text/html"}, true},
		{"no role", noAccess, nil, false},
		{"a missing data action", lacksAction, nil, false},
		{"permission denied in words unknown", permissionUnsaid, nil, false},
		{"permission denied beside a challenge", noAccess, []string{"Www-Authenticate", `Bearer error="insufficient_claims", claims="e30="`}, false},
		{"an invalid key", badKey, nil, false},
		{"a missing key", missingKey, nil, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			azure := &recorder{}
			s := start(t, refuses(azure, test.body, test.header...), func(c *setup) { c.AnnotateErrors = false })
			res := s.post("/x", "{}")
			wantRequests, wantStatus, wantBody := 1, http.StatusUnauthorized, test.body
			if test.replayed {
				wantRequests, wantStatus, wantBody = 2, http.StatusOK, "{}"
			}
			if res.StatusCode != wantStatus || res.body != wantBody {
				t.Errorf("status %d: %s", res.StatusCode, res.body)
			}
			if n := len(azure.all()); n != wantRequests {
				t.Errorf("%d requests upstream, want %d", n, wantRequests)
			}
			if n := len(s.tokens.reports()); (n == 1) != test.replayed {
				t.Errorf("%d refusals reported", n)
			}
		})
	}
}

func TestOtherStatusesMakeNoReplay(t *testing.T) {
	for _, status := range []int{200, 301, 400, 403, 404, 407, 408, 429, 500, 503} {
		azure := &recorder{}
		s := start(t, func(w http.ResponseWriter, r *http.Request) {
			azure.record(r)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, badToken)
		})
		res := s.post("/x", "{}")
		if res.StatusCode != status || len(azure.all()) != 1 || len(s.tokens.reports()) != 0 {
			t.Errorf("%d became %d, %d requests, %d reports", status, res.StatusCode, len(azure.all()), len(s.tokens.reports()))
		}
	}
}

func TestABodyThatIsNotHeldIsNotSentAgainButReported(t *testing.T) {
	big := strings.Repeat("x", 1<<20+1)
	tests := []struct {
		name string
		body io.Reader
	}{
		{"known to be over the limit", strings.NewReader(big)},
		{"found to be over the limit", io.MultiReader(strings.NewReader(big))},
		{"far over the limit", strings.NewReader(strings.Repeat(big, 5))},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			azure := &recorder{}
			s := start(t, refuses(azure, badToken), func(c *setup) { c.AnnotateErrors = false })
			res := s.do(s.request("POST", "/x", test.body))
			if res.StatusCode != http.StatusUnauthorized || res.body != badToken {
				t.Errorf("status %d: %.100s", res.StatusCode, res.body)
			}
			if n := len(azure.all()); n != 1 {
				t.Errorf("%d requests upstream", n)
			}
			assertReportedWithoutWaiting(t, s)
			assertReplayed(t, s, 0)
			if res := s.post("/x", "{}"); res.StatusCode != http.StatusOK {
				t.Errorf("the next request got %d: the report must serve it", res.StatusCode)
			}
		})
	}
}

func assertReportedWithoutWaiting(t *testing.T, s *sidecar) {
	t.Helper()
	reports := s.tokens.reports()
	if len(reports) != 1 || reports[0].token != "token-1" || !reports[0].cancelled {
		t.Errorf("reported: %+v", reports)
	}
}

func TestTheBudgetBoundsWhatAllRequestsHold(t *testing.T) {
	azure := &recorder{}
	hold, reached := make(chan struct{}), make(chan struct{})
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/first" {
			_, _ = io.Copy(io.Discard, r.Body)
			close(reached)
			<-hold
			return
		}
		refuses(azure, badToken)(w, r)
	}, func(c *setup) { c.ReplayLimit, c.ReplayBudget = 1000, 1000 })

	first := make(chan answer)
	go func() { first <- s.post("/first", strings.Repeat("x", 600)) }()
	<-reached
	if used := s.budget.used.Load(); used != 600 {
		t.Errorf("%d bytes are held", used)
	}
	if res := s.post("/known", strings.Repeat("y", 600)); res.StatusCode != 401 {
		t.Errorf("no room for it, and yet %d", res.StatusCode)
	}
	assertReportedWithoutWaiting(t, s)
	s.tokens.set(nil, "token-1", "token-2")
	if res := s.do(s.request("POST", "/unknown", io.MultiReader(strings.NewReader(strings.Repeat("y", 600))))); res.StatusCode != 401 {
		t.Errorf("no room for it when chunked, and yet %d", res.StatusCode)
	}
	s.tokens.set(nil, "token-1", "token-2")
	if res := s.post("/small", strings.Repeat("y", 300)); res.StatusCode != 200 {
		t.Errorf("room for it, and yet %d", res.StatusCode)
	}
	close(hold)
	<-first
	eventually(t, "the budget to be free", func() bool { return s.budget.used.Load() == 0 })
	s.tokens.set(nil, "token-1", "token-2")
	if res := s.post("/later", strings.Repeat("y", 1000)); res.StatusCode != 200 {
		t.Errorf("room for all of it, and yet %d", res.StatusCode)
	}
}

func TestTheBudgetIsFreeWhenTheAnswerBegins(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusUnauthorized} {
		hold := make(chan struct{})
		s := start(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, strings.Repeat(" ", errorBodyLimit)+"more")
			_ = http.NewResponseController(w).Flush()
			<-hold
		})
		s.tokens.set(nil, "token-1") // and no other to try
		res, err := s.client.Do(s.request("POST", "/x", strings.NewReader("body")))
		if err != nil {
			t.Fatal(err)
		}
		if used := s.budget.used.Load(); used != 0 || res.StatusCode != status {
			t.Errorf("%d bytes are held while the answer %d streams", used, res.StatusCode)
		}
		close(hold)
		_ = res.Body.Close()
	}
}

func TestASecondRefusalPassesAzuresSecondAnswer(t *testing.T) {
	var n atomic.Int32
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Apim-Request-Id", fmt.Sprint("id-", n.Add(1)))
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, badToken)
	}, func(c *setup) { c.AnnotateErrors = false })
	s.tokens.set(nil, "token-1", "token-2", "token-3")
	res := s.post("/x", "{}")
	if res.StatusCode != 401 || res.body != badToken || res.Header.Get("Apim-Request-Id") != "id-2" || n.Load() != 2 {
		t.Errorf("status %d, %q after %d requests: %s", res.StatusCode, res.Header.Get("Apim-Request-Id"), n.Load(), res.body)
	}
	if len(s.tokens.reports()) != 1 {
		t.Errorf("reported: %+v", s.tokens.reports())
	}
	assertReplayed(t, s, 1)
}

func TestASecondAnswerIsDiagnosedOnItsOwn(t *testing.T) {
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer token-1" {
			fails(401, badToken)(w, r)
			return
		}
		fails(403, `{"error":{"code":"403","message": "Access denied due to Virtual Network/Firewall rules."}}`)(w, r)
	})
	res := s.post("/x", "{}")
	if res.StatusCode != 403 || res.Header.Get("X-Entra-Sidecar-Cause") != "firewall" || !strings.Contains(res.body, "Firewall rules. [entra-sidecar: firewall: ") {
		t.Errorf("status %d, cause %q: %s", res.StatusCode, res.Header.Get("X-Entra-Sidecar-Cause"), res.body)
	}
	if n := s.metric("entra_sidecar_upstream_auth_failures_total"); n != 1 {
		t.Errorf("%v failures counted for one answer", n)
	}
}

func TestWithoutAnotherTokenTheRefusalStands(t *testing.T) {
	var n atomic.Int32
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		w.Header().Set("X-Of-Azure", "1")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, badToken)
	}, func(c *setup) { c.AnnotateErrors = false })
	s.tokens.set(nil, "token-1")
	res := s.post("/x", "{}")
	if res.StatusCode != 401 || res.body != badToken || res.Header.Get("X-Of-Azure") != "1" || n.Load() != 1 {
		t.Errorf("status %d after %d requests: %s", res.StatusCode, n.Load(), res.body)
	}
	assertReplayed(t, s, 0)
}

// A refusalSource lets a test decide about Refused.
type refusalSource struct {
	*tokens
	refused func(context.Context) (*tokencache.Token, error)
}

func (s *refusalSource) Refused(ctx context.Context, _ *tokencache.Token, _ string) (*tokencache.Token, error) {
	return s.refused(ctx)
}

func TestReplacingATokenIsBoundedInTime(t *testing.T) {
	var left time.Duration
	source := &refusalSource{newTokens("token-1"), func(ctx context.Context) (*tokencache.Token, error) {
		deadline, _ := ctx.Deadline()
		left = time.Until(deadline)
		return nil, tokencache.ErrNotReplaced
	}}
	s := start(t, refuses(&recorder{}, badToken), func(c *setup) { c.Route.Tokens = source })
	s.post("/x", "{}")
	if left <= 0 || left > refusalTimeout {
		t.Errorf("%v to wait", left)
	}
}

func TestAClientThatLeavesEndsTheWaitForAToken(t *testing.T) {
	waiting, over := make(chan struct{}), make(chan struct{})
	source := &refusalSource{newTokens("token-1"), func(ctx context.Context) (*tokencache.Token, error) {
		close(waiting)
		<-ctx.Done()
		close(over)
		return nil, ctx.Err()
	}}
	s := start(t, refuses(&recorder{}, badToken), func(c *setup) { c.Route.Tokens = source })
	w := s.dial()
	w.send("POST /x HTTP/1.1\nHost: localhost\nContent-Length: 2\n\n{}")
	<-waiting
	_ = w.Close()
	select {
	case <-over:
	case <-time.After(time.Second):
		t.Error("it goes on")
	}
	if got := s.accessLog()["status"]; got != int64(statusClientGone) {
		t.Errorf("logged as %v", got)
	}
}

func TestAClaimsChallengeIsDecoded(t *testing.T) {
	const claims = `{"access_token":{"nbf":{"essential":true,"value":"1700000000"}}}`
	standard, urlSafe := base64.StdEncoding.EncodeToString([]byte(claims)), base64.RawURLEncoding.EncodeToString([]byte(claims))
	tests := []struct{ name, header, want string }{
		{"with padding", `Bearer realm="", authorization_uri="https://login.microsoftonline.com/common", error="insufficient_claims", claims="` + standard + `"`, claims},
		{"for URLs, without padding", `Bearer error="insufficient_claims",claims="` + urlSafe + `"`, claims},
		{"in capitals", `BEARER Error="insufficient_claims", CLAIMS="` + standard + `"`, claims},
		{"another error", `Bearer error="invalid_token", claims="` + standard + `"`, ""},
		{"no claims", `Bearer error="insufficient_claims"`, ""},
		{"no base64", `Bearer error="insufficient_claims", claims="%%%"`, ""},
		{"no JSON", `Bearer error="insufficient_claims", claims="` + base64.StdEncoding.EncodeToString([]byte("hello")) + `"`, ""},
		{"JSON, but no object", `Bearer error="insufficient_claims", claims="` + base64.StdEncoding.EncodeToString([]byte(`"x"`)) + `"`, ""},
		{"another parameter that ends alike", `Bearer error="insufficient_claims", xclaims="` + standard + `"`, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			azure := &recorder{}
			s := start(t, refuses(azure, "", "Www-Authenticate", test.header))
			if res := s.post("/x", "{}"); res.StatusCode != 200 {
				t.Errorf("status %d", res.StatusCode)
			}
			if reports := s.tokens.reports(); len(reports) != 1 || reports[0].claims != test.want {
				t.Errorf("reported %+v", reports)
			}
		})
	}
}

func FuzzChallenge(f *testing.F) {
	f.Add(`Bearer error="insufficient_claims", claims="e30="`)
	f.Fuzz(func(t *testing.T, value string) {
		if got := challenge(http.Header{"Www-Authenticate": {value}}); got != "" && got[0] != '{' {
			t.Errorf("%q gives %q", value, got)
		}
	})
}

func TestARefusedWebSocketHandshakeIsSentAgain(t *testing.T) {
	azure := &recorder{}
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer token-1" {
			refuses(azure, badToken)(w, r)
			return
		}
		echoWebSocket(t)(w, r)
	})
	c, _, err := websocket.Dial(t.Context(), s.url+"/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	assertEcho(t, c, "hello")
	_ = c.Close(websocket.StatusNormalClosure, "")
	assertReplayed(t, s, 1)
}

// Azure may answer 401 before it has read the body, and the client may still be
// sending it.
func TestAnEarly401IsReplayedWhileTheClientIsStillSending(t *testing.T) {
	body := strings.Repeat("0123456789", 60_000)
	for _, chunked := range []bool{false, true} {
		t.Run(fmt.Sprint("chunked ", chunked), func(t *testing.T) {
			refused, got := make(chan struct{}), make(chan string, 1)
			s := start(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") == "Bearer token-1" {
					_ = http.NewResponseController(w).EnableFullDuplex() // or it would read on first
					w.WriteHeader(http.StatusUnauthorized)
					_, _ = io.WriteString(w, badToken)
					close(refused)
					return
				}
				read, _ := io.ReadAll(r.Body)
				got <- string(read)
				_, _ = io.WriteString(w, "done")
			})
			in, out := io.Pipe()
			r := s.request("POST", "/x", in)
			if !chunked {
				r.ContentLength = int64(len(body))
			}
			go func() {
				_, _ = io.WriteString(out, body[:1000])
				<-refused
				eventually(t, "the replay", func() bool { return s.metric("entra_sidecar_token_replays_total") == 1 })
				for rest := body[1000:]; rest != ""; rest = rest[min(len(rest), 7000):] {
					_, _ = io.WriteString(out, rest[:min(len(rest), 7000)])
				}
				_ = out.Close()
			}()
			if res := s.do(r); res.StatusCode != 200 || res.body != "done" {
				t.Errorf("status %d: %s", res.StatusCode, res.body)
			}
			if read := <-got; read != body {
				t.Errorf("the upstream got %d bytes of %d, or others", len(read), len(body))
			}
		})
	}
}

// A client that waits for 100 Continue gets it once, and from the try that
// wants the body; and a refusal without it.
func TestAClientThatWaitsFor100Continue(t *testing.T) {
	const request = "POST /x HTTP/1.1\nHost: localhost\nExpect: 100-continue\nContent-Length: 4\n\n"
	t.Run("the first try does not want the body", func(t *testing.T) {
		azure := &recorder{}
		s := start(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == "Bearer token-1" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			azure.ServeHTTP(w, r)
		})
		w := s.dial()
		w.send(request)
		if res := w.answer("POST"); res.StatusCode != http.StatusContinue {
			t.Fatalf("status %d", res.StatusCode)
		}
		w.send("body")
		if res := w.answer("POST"); res.StatusCode != http.StatusOK || azure.last(t).body != "body" {
			t.Errorf("status %d, body %q", res.StatusCode, azure.last(t).body)
		}
	})
	t.Run("no try wants the body", func(t *testing.T) {
		s := start(t, fails(403, ""))
		s.tokens.set(errors.New("no token"))
		w := s.dial()
		w.send(request)
		assertOwnError(t, w.answer("POST"), 503, "token_unavailable")
	})
}

// A retrier does what http.Transport does when a pooled connection turns out to
// be dead: it closes the body and asks for another.
type retrier struct {
	http.RoundTripper
	t *testing.T
}

func (r retrier) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body == nil {
		return r.RoundTripper.RoundTrip(req)
	}
	_, _ = io.ReadFull(req.Body, make([]byte, 3))
	_ = req.Body.Close()
	body, err := req.GetBody()
	if err != nil {
		r.t.Errorf("GetBody: %v", err)
		return nil, err
	}
	again := *req
	again.Body = body
	return r.RoundTripper.RoundTrip(&again)
}

func TestTheTransportMayTakeAnotherConnection(t *testing.T) {
	azure := &recorder{}
	s := start(t, refuses(azure, badToken), func(c *setup) {
		c.Upstream = retrier{NewTransport(c.Transport), t}
	})
	t.Cleanup(func() {
		s.reverse.Transport.(*injector).next.(retrier).RoundTripper.(*Transport).CloseIdleConnections()
	})
	for _, body := range []io.Reader{strings.NewReader("a body"), io.MultiReader(strings.NewReader("a body"))} {
		s.tokens.set(nil, "token-1", "token-2")
		if res := s.do(s.request("POST", "/x", body)); res.StatusCode != 200 || res.body != "a body" {
			t.Errorf("status %d: %s", res.StatusCode, res.body)
		}
	}
}

// An upstream may close an idle connection at the very moment of its reuse. A
// request that may be repeated survives that; one that may not is never sent
// twice once the upstream could have seen it.
func TestConnectionsThatTheUpstreamClosesAfterEachAnswer(t *testing.T) {
	var posts atomic.Int32
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method == "POST" {
			posts.Add(1)
		}
		conn, _ := hijack(t, w)
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		_ = conn.Close()
	})
	answered := int32(0)
	for i := range 100 {
		if res := s.get("/x"); res.StatusCode != 200 {
			t.Fatalf("GET %d: %d: %s", i, res.StatusCode, res.body)
		}
		body := fmt.Sprint("body of ", i)
		switch res := s.post("/x", body); {
		case res.StatusCode == 200 && res.body == body:
			answered++
		case res.StatusCode != 502:
			t.Fatalf("POST %d: %d: %s", i, res.StatusCode, res.body)
		}
	}
	if posts.Load() > 100 {
		t.Errorf("%d POSTs became %d", 100, posts.Load())
	}
	if answered < 50 {
		t.Errorf("only %d of 100 POSTs were answered", answered)
	}
}

func TestAPostThatMayHaveBeenHeardIsNotSentTwice(t *testing.T) {
	var posts atomic.Int32
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" {
			return
		}
		posts.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		conn, _ := hijack(t, w)
		_ = conn.Close()
	})
	s.get("/warm") // so that the POST takes a connection from the pool
	if res := s.post("/x", "{}"); res.StatusCode != 502 || posts.Load() != 1 {
		t.Errorf("status %d after %d POSTs", res.StatusCode, posts.Load())
	}
}

func TestTheBudgetComesBackHoweverARequestEnds(t *testing.T) {
	ending := errors.New("ending")
	tests := map[string]func(*testing.T, *sidecar){
		"the client aborts its upload": func(t *testing.T, s *sidecar) {
			w := s.dial()
			w.send("POST /x HTTP/1.1\nHost: localhost\nContent-Length: 1000\n\nhalf")
			eventually(t, "the body to be held", func() bool { return s.budget.used.Load() > 0 })
			_ = w.Close()
		},
		"the client leaves while it waits": func(t *testing.T, s *sidecar) {
			w := s.dial()
			w.send("POST /wait HTTP/1.1\nHost: localhost\nContent-Length: 2\n\n{}")
			eventually(t, "the body to be held", func() bool { return s.budget.used.Load() > 0 })
			_ = w.Close()
		},
		"the upstream hangs up": func(t *testing.T, s *sidecar) {
			if res := s.post("/hang-up", "{}"); res.StatusCode != 502 {
				t.Errorf("status %d", res.StatusCode)
			}
		},
		"no token": func(t *testing.T, s *sidecar) {
			s.tokens.set(ending)
			if res := s.post("/x", "{}"); res.StatusCode != 503 {
				t.Errorf("status %d", res.StatusCode)
			}
		},
		"no route": func(t *testing.T, s *sidecar) {
			s.raw("POST x://localhost HTTP/1.1\nHost: localhost\nContent-Length: 2\n\n{}")
		},
		"the answer breaks off": func(t *testing.T, s *sidecar) {
			if res, err := s.client.Do(s.request("POST", "/break-off", strings.NewReader("{}"))); err == nil {
				t.Errorf("status %d", res.StatusCode)
			}
		},
		"the token source panics": func(t *testing.T, s *sidecar) {
			s.tokens.set(errPanic)
			if _, err := s.client.Do(s.request("POST", "/x", strings.NewReader("{}"))); err == nil {
				t.Error("no error")
			}
		},
	}
	for name, end := range tests {
		t.Run(name, func(t *testing.T) {
			s := start(t, func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/hang-up":
					writeRaw(t, w, "")
				case "/break-off":
					writeRaw(t, w, "HTTP/1.1 200 OK\nContent-Length: 10\n\nhalf")
				case "/wait":
					_, _ = io.Copy(io.Discard, r.Body)
					<-r.Context().Done()
				default:
					_, _ = io.Copy(io.Discard, r.Body)
				}
			})
			end(t, s)
			eventually(t, "the budget to be free", func() bool { return s.budget.used.Load() == 0 })
		})
	}
}

func TestTheFirstTryStopsReadingWhenTheSecondBegins(t *testing.T) {
	var first io.Reader
	s := start(t, (&recorder{}).ServeHTTP, func(c *setup) {
		c.Upstream = roundTripperFunc(func(r *http.Request) (*http.Response, error) {
			if first == nil {
				first = r.Body
				return &http.Response{StatusCode: 401, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(badToken)), Request: r}, nil
			}
			if n, err := first.Read(make([]byte, 1)); n != 0 || !errors.Is(err, errBodyClosed) {
				t.Errorf("it read %d bytes, %v", n, err)
			}
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: r.Body, Request: r, ContentLength: -1}, nil
		})
	})
	if res := s.post("/x", "{}"); res.body != "{}" {
		t.Errorf("status %d: %s", res.StatusCode, res.body)
	}
}
