package proxy

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"entra-sidecar/proxy/diagnose"
)

// fails answers status with a body and headers, given as name, value.
func fails(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

const (
	wrongTenant = `{"error":{"code":"Tenant provided in token does not match resource token","message":"Token tenant 1234 does not match resource tenant."}}`
	tooMany     = `{"error":{"code":"429","message":"Rate limit is exceeded. Try again in 4 seconds."}}`
	filtered    = `{"error":{"message":"The response was filtered","type":null,"param":"prompt","code":"content_filter","status":400}}`
)

func TestAnAuthenticationFailureSaysItsCause(t *testing.T) {
	tests := []struct {
		name   string
		status int
		body   string
		cause  string
	}{
		{"nested", 401, noAccess, "role-not-effective"},
		{"flat", 401, missingKey, "apim-key-required"},
		{"another status", 400, wrongTenant, "wrong-tenant"},
		{"keys are disabled", 403, `{"error":{"code":"AuthenticationTypeDisabled","message": "Key based authentication is disabled for this resource."}}`, "key-auth-disabled"},
		{"no deployment", 404, `{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}`, "deployment-not-found"},
		{"the token", 401, badToken, "token-rejected"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := start(t, fails(test.status, test.body, "Apim-Request-Id", "its-id", "Etag", `"x"`))
			s.tokens.set(nil, "token-1")
			res := s.post("/x", "{}")
			assertAnnotated(t, res, test.status, test.body, test.cause)
			if res.Header.Get("Apim-Request-Id") != "its-id" {
				t.Error("Azure's other headers are gone")
			}
			if n := s.metric("entra_sidecar_upstream_auth_failures_total", "route", "/", "cause", test.cause); n != 1 {
				t.Errorf("%v failures counted", n)
			}
			if line := s.accessLog(); line["cause"] != test.cause || line["azure_request_id"] != "its-id" {
				t.Errorf("logged as %v", line)
			}
		})
	}
}

// assertAnnotated checks that the answer is Azure's with a sentence within.
func assertAnnotated(t *testing.T, res answer, status int, body, cause string) {
	t.Helper()
	if res.StatusCode != status || res.err != nil {
		t.Errorf("status %d, %v", res.StatusCode, res.err)
	}
	if got := res.Header["X-Entra-Sidecar-Cause"]; len(got) != 1 || got[0] != cause {
		t.Errorf("cause %q, want %q", got, cause)
	}
	if got := res.Header.Get("Content-Length"); got != strconv.Itoa(len(res.body)) {
		t.Errorf("Content-Length %q for %d bytes", got, len(res.body))
	}
	before, rest, found := strings.Cut(res.body, " [entra-sidecar: "+cause+": ")
	note, after, closed := strings.Cut(rest, "]")
	if !found || !closed || before+after != body {
		t.Errorf("the body is %s", res.body)
	}
	if cause != "deployment-not-found" { // there Azure's own code is one
		assertNoTriggers(t, note)
	}
}

func TestAnAnnotatedBodyThatHadNoLength(t *testing.T) {
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		w.WriteHeader(http.StatusUnauthorized)
		for c := range strings.SplitSeq(noAccess, " ") { // and came in pieces
			_, _ = io.WriteString(w, strings.TrimSuffix(c+" ", "} "))
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = io.WriteString(w, "}")
		w.Header().Set("X-Sum", "7")
	})
	assertAnnotated(t, s.post("/x", "{}"), 401, strings.Replace(noAccess, "}}", "}}", 1), "role-not-effective")
}

func TestACompressedFailureIsAnnotatedInPlain(t *testing.T) {
	for _, encoding := range []string{"gzip", "GZIP", "x-gzip"} {
		s := start(t, fails(401, gzipped(noAccess), "Content-Encoding", encoding))
		r := s.request("POST", "/x", strings.NewReader("{}"))
		r.Header.Set("Accept-Encoding", "gzip")
		res := s.do(r)
		assertAnnotated(t, res, 401, noAccess, "role-not-effective")
		if res.Header.Get("Content-Encoding") != "" {
			t.Error("it claims to be compressed still")
		}
	}
}

func TestWhatIsNotAnnotatedPassesByteForByte(t *testing.T) {
	long := strings.TrimSuffix(noAccess, "}") + `,"padding":"` + strings.Repeat("x", 20<<10) + `"}`
	tests := []struct {
		name   string
		status int
		body   string
		header []string
		cause  string // in the header
	}{
		{"an unknown failure", 401, `{"error":{"code":"401","message":"Something else."}}`, nil, ""},
		{"no JSON", 403, "<html>Virtual Network/Firewall</html>", []string{"Content-Type", "text/html"}, ""},
		{"half JSON", 401, `{"error":{"code":"PermissionDenied","message":"Principal does not have acc`, nil, ""},
		{"nothing", 401, "", nil, ""},
		{"a message that is an object", 401, `{"error":{"code":"PermissionDenied","message":{"Principal does not have access":1}}}`, nil, ""},
		{"a spent quota", 429, tooMany, []string{"Retry-After", "4", "Retry-After-Ms", "3999", "X-Should-Retry", "true"}, ""},
		{"the content filter", 400, filtered, nil, ""},
		{"a failure of Azure's own", 500, `{ "statusCode": 500, "message": "Internal server error", "activityId": "x" }`, nil, ""},
		{"one that is no failure", 200, noAccess, nil, ""},
		{"over 16 KiB", 401, long, nil, "role-not-effective"},
		{"over 16 KiB, compressed into less", 401, gzipped(long), []string{"Content-Encoding", "gzip"}, "role-not-effective"},
		{"compressed, and cut short", 401, gzipped(noAccess)[:len(gzipped(noAccess))-9], []string{"Content-Encoding", "gzip"}, "role-not-effective"},
		{"compressed, and damaged", 401, gzipped(noAccess)[:60] + strings.Repeat("\xff", 60), []string{"Content-Encoding", "gzip"}, ""},
		{"not compressed as it says", 401, noAccess, []string{"Content-Encoding", "gzip"}, ""},
		{"compressed otherwise", 401, noAccess, []string{"Content-Encoding", "br"}, ""},
		{"compressed twice", 401, gzipped(gzipped(noAccess)), []string{"Content-Encoding", "gzip, gzip"}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := start(t, fails(test.status, test.body, test.header...))
			s.tokens.set(nil, "token-1")
			res := s.post("/x", "{}")
			if res.StatusCode != test.status || res.body != test.body || res.err != nil {
				t.Errorf("status %d, %v: %.200q", res.StatusCode, res.err, res.body)
			}
			if got := res.Header.Get("X-Entra-Sidecar-Cause"); got != test.cause {
				t.Errorf("cause %q, want %q", got, test.cause)
			}
			for i := 0; i < len(test.header); i += 2 {
				if got := res.Header.Get(test.header[i]); got != test.header[i+1] {
					t.Errorf("%s is %q", test.header[i], got)
				}
			}
		})
	}
}

func TestAnnotationCanBeSwitchedOff(t *testing.T) {
	s := start(t, fails(401, noAccess, "Etag", "x"), func(c *setup) { c.AnnotateErrors = false })
	res := s.post("/x", "{}")
	if res.body != noAccess || res.Header.Get("Etag") != "x" || res.Header.Get("X-Entra-Sidecar-Cause") != "role-not-effective" {
		t.Errorf("%v: %s", res.Header, res.body)
	}
}

func TestHeadIsNotAnnotated(t *testing.T) {
	s := start(t, fails(403, noAccess, "Content-Length", "1234"))
	w := s.dial()
	w.send("HEAD /x HTTP/1.1\nHost: localhost\n\n")
	res := w.answer("HEAD")
	if res.StatusCode != 403 || res.Header.Get("Content-Length") != "1234" || res.body != "" {
		t.Errorf("status %d, Content-Length %q", res.StatusCode, res.Header.Get("Content-Length"))
	}
	assertUsable(t, w)
}

// A whole message in an unfinished body must not turn into a whole body.
func TestAFailureThatIsCutShortIsNotCompleted(t *testing.T) {
	tests := map[string]string{
		"known length":                  "Content-Length: 100\n\n" + noAccess[:98],
		"known length, the last missed": "Content-Length: 99\n\n" + noAccess[:98],
		"chunked":                       "Transfer-Encoding: chunked\n\n63\n" + noAccess + "\n",
		"over 16 KiB":                   "Content-Length: 40000\n\n" + noAccess[:98] + strings.Repeat(" ", 30000),
	}
	for name, answer := range tests {
		t.Run(name, func(t *testing.T) {
			s := start(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				writeRaw(t, w, "HTTP/1.1 401 Unauthorized\nContent-Type: application/json\n"+answer)
			})
			res, err := s.client.Do(s.request("POST", "/x", strings.NewReader("{}")))
			if err == nil {
				_, err = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
			if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
				t.Errorf("it ends with %v", err)
			}
		})
	}
}

// jwt makes a token that Azure would not take, with the claims.
func jwt(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

func TestAnAnnotationNamesNoIdentity(t *testing.T) {
	const claims = `{"aud":"https://canary-audience","tid":"canary-tenant","oid":"canary-object","appid":"canary-app","upn":"canary-person","exp":4000000000}`
	for _, body := range []string{noAccess, lacksAction, badToken, wrongTenant, missingKey} {
		for _, status := range []int{400, 401, 403} {
			s := start(t, fails(status, body))
			s.tokens.set(nil, jwt(claims))
			res := s.post("/x", "{}")
			if strings.Contains(res.body, "canary") || strings.Contains(fmt.Sprint(res.Header), "canary") {
				t.Errorf("%v %s", res.Header, res.body)
			}
		}
	}
}

func TestADiagnosisKnowsTokenPathAndQuery(t *testing.T) {
	s := start(t, fails(401, badToken))
	s.tokens.set(nil, jwt(`{"aud":"https://ai.azure.com","oid":"an-object"}`))
	if got := s.post("/x", "{}").Header.Get("X-Entra-Sidecar-Cause"); got != "wrong-audience" {
		t.Errorf("cause %q: the token's claims are not known to it", got)
	}
	s = start(t, fails(404, `{"error":{"code":"404","message": "Resource not found"}}`), func(c *setup) { c.Route.Prefix = "/e" })
	s.post("/e/openai/openai/x?api-version=2020-01-01&api-key=canary", "{}")
	failures := s.Failures()
	if len(failures) != 1 || !strings.Contains(failures[0].Remedy, "/openai/openai/x?api-version=2020-01-01") || strings.Contains(failures[0].Remedy, "canary") {
		t.Errorf("failures: %+v", failures)
	}
}

func TestCausesAreLoggedAtABoundedRateAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.DebugLevel)
		causes := newCauseLog(zap.New(core))
		east, west := &Route{Prefix: "/east"}, &Route{Prefix: "/west"}
		role := diagnose.Diagnosis{Cause: "missing-role", Sentence: "The identity lacks a role.", Remedy: "az role assignment create"}
		began := time.Now()
		for range 100 {
			causes.report(east, role)
			time.Sleep(time.Second / 2)
		}
		if n := logs.Len(); n != 1 {
			t.Errorf("%d lines within a minute", n)
		}
		causes.report(west, role)
		causes.report(east, diagnose.Diagnosis{Cause: "firewall"})
		if n := logs.Len(); n != 3 {
			t.Errorf("%d lines: each route and each cause has its own", n)
		}
		time.Sleep(10 * time.Second)
		causes.report(east, role)
		lines := logs.All()
		last := lines[len(lines)-1].ContextMap()
		if len(lines) != 4 || last["count"] != int64(101) || last["since_last_line"] != int64(100) || last["remedy"] != role.Remedy || last["route"] != "/east" {
			t.Errorf("after a minute: %v", last)
		}

		failures := (&Handler{causes: causes}).Failures()
		if len(failures) != 3 || failures[0].Cause != "missing-role" || failures[0].Route != "/east" {
			t.Fatalf("failures, the latest first: %+v", failures)
		}
		if f := failures[0]; f.Count != 101 || !f.First.Equal(began) || !f.Last.Equal(time.Now()) || f.Sentence != role.Sentence {
			t.Errorf("%+v", f)
		}
	})
}
