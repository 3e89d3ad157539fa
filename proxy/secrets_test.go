package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// A lockedBuffer takes what several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// secrets are what must appear nowhere but in the upstream's Authorization.
var secrets = []string{"canary-token", "canary-inbound", "canary-client", "canary-header"}

// TestNoSecretIsSeenAnywhere lets requests end in every way there is, with a
// secret wherever one can be, and then looks at all that came out: the log at
// every level, in both of its formats, net/http's own log, the metrics, and what
// clients were answered.
func TestNoSecretIsSeenAnywhere(t *testing.T) {
	out, serverLog := &lockedBuffer{}, &lockedBuffer{}
	cores := zapcore.NewTee(
		zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(out), zapcore.DebugLevel),
		zapcore.NewCore(zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig()), zapcore.AddSync(out), zapcore.DebugLevel),
	)
	s := start(t, misbehave(t), func(c *setup) {
		c.Logger = zap.New(cores, zap.AddStacktrace(zapcore.WarnLevel))
		c.Guard = Guard{Keys: []string{"canary-inbound"}}
		c.Route.Header = http.Header{"Ocp-Apim-Subscription-Key": {"canary-header"}}
		c.Transport.ResponseHeaderTimeout = 100 * time.Millisecond
	})
	s.front.Config.ErrorLog = log.New(serverLog, "", 0)
	var answers strings.Builder
	for _, path := range []string{
		"/ok", "/401", "/403", "/404", "/500", "/reset", "/garbage", "/silent", "/cut", "/cut-stream", "/switch",
		"/elsewhere", "/panic", "/no-token", "/ok?api-key=canary-client&subscription-key=canary-client&%61pi-key=canary-client",
	} {
		for _, key := range []string{"canary-inbound", "canary-client"} { // a good one and a bad one
			failure := map[string]error{"/panic": errPanic, "/no-token": errors.New("the source is away")}[path]
			s.tokens.set(failure, jwt(`{"oid":"canary-token"}`)+"canary-token", "another-canary-token")
			_, _ = fmt.Fprintln(&answers, s.exchangeSecrets(path, key))
		}
	}
	eventually(t, "the access log", func() bool { return strings.Contains(out.String(), "/ok") })

	assertNoSecret(t, "log", out.String())
	assertNoSecret(t, "server's log", serverLog.String())
	assertNoSecret(t, "answers", answers.String())
	assertNoSecret(t, "metrics", s.exposition())
	assertNoSecret(t, "failures", fmt.Sprintf("%+v", s.Failures()))
	if !strings.Contains(out.String(), "upstream_unreachable") || !strings.Contains(serverLog.String(), "on purpose") {
		t.Error("not all that should have happened did")
	}
}

// misbehave fails in as many ways as it has paths.
func misbehave(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch r.URL.Path {
		case "/401":
			fails(401, badToken)(w, r)
		case "/403":
			fails(403, `{"error":{"code":"AuthenticationTypeDisabled","message": "Key based authentication is disabled for this resource."}}`)(w, r)
		case "/404":
			fails(404, `{"error":{"code":"404","message": "Resource not found"}}`)(w, r)
		case "/500":
			w.WriteHeader(500)
		case "/reset":
			writeRaw(t, w, "")
		case "/garbage":
			writeRaw(t, w, "garbage\n\n")
		case "/silent":
			conn, _ := hijack(t, w)
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		case "/cut":
			writeRaw(t, w, "HTTP/1.1 200 OK\nContent-Length: 9\n\nx")
		case "/cut-stream":
			writeRaw(t, w, "HTTP/1.1 200 OK\nContent-Type: text/event-stream\nTransfer-Encoding: chunked\n\n3\nda")
		case "/switch":
			writeRaw(t, w, "HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: x\n\n")
		}
	}
}

// exchangeSecrets sends a request that is full of secrets and returns all that
// comes back.
func (s *sidecar) exchangeSecrets(path, key string) string {
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = io.WriteString(conn, strings.ReplaceAll("POST "+path+" HTTP/1.1\nHost: localhost\nConnection: close\nContent-Length: 13\n"+
		"api-key: "+key+"\nX-Api-Key: canary-client\nCookie: canary-client\nAuthorization: Bearer canary-client\n"+
		"User-Agent: canary-client\nX-Secret: canary-client\n\ncanary-client", "\n", "\r\n"))
	got, _ := io.ReadAll(conn)
	return string(got)
}

func assertNoSecret(t *testing.T, where, text string) {
	t.Helper()
	for _, secret := range secrets {
		if at := strings.Index(text, secret); at >= 0 {
			t.Errorf("%s in the %s: …%s…", secret, where, text[max(0, at-200):min(len(text), at+50)])
		}
	}
}

// exposition is what Prometheus would read.
func (s *sidecar) exposition() string {
	families, err := s.registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	var b strings.Builder
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(&b, family); err != nil {
			s.t.Fatal(err)
		}
	}
	return b.String()
}
