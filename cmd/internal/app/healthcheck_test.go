package app

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"entra-sidecar/config"
)

func TestHealthcheck(t *testing.T) {
	answer := func(status int, header, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || r.URL.Path != "/readyz" {
				t.Errorf("it asks %s %s", r.Method, r.URL)
			}
			w.Header().Set("Location", header)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	tests := []struct {
		name           string
		handler        http.HandlerFunc
		code           int
		stdout, stderr string
	}{
		{"ready", answer(200, "", "ok"), 0, "ready\n", ""},
		{"not ready", answer(503, "", "route /: no usable token for identity default\n"), 1, "", "entra-sidecar: not ready (503 Service Unavailable): route /: no usable token for identity default\n"},
		{"moved elsewhere", answer(302, "/livez", ""), 1, "", "entra-sidecar: not ready (302 Found)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			admin := httptest.NewServer(tt.handler)
			defer admin.Close()
			code, stdout, stderr := run(t, "healthcheck", "--admin-listen", admin.Listener.Addr().String())
			if code != tt.code || stdout != tt.stdout || !strings.HasPrefix(stderr, tt.stderr) {
				t.Errorf("it exits with %d and says %q, %q", code, stdout, stderr)
			}
		})
	}
}

func TestHealthcheckWhereNobodyListens(t *testing.T) {
	code, _, stderr := run(t, "healthcheck", "--admin-listen", freeAddress(t))
	if code != 1 || !strings.Contains(stderr, "nobody answers at admin.listen") {
		t.Errorf("it exits with %d and says %s", code, stderr)
	}
}

// Docker reserves exit code 2 of a health check.
func TestHealthcheckFailsWithOneWhateverIsWrong(t *testing.T) {
	code, _, stderr := run(t, "healthcheck", "--admin-listen", "nowhere")
	if code != 1 || !strings.Contains(stderr, "admin.listen (--admin-listen)") {
		t.Errorf("it exits with %d and says %s", code, stderr)
	}
}

func TestHealthcheckGivesUpOnASilentListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // the kernel connects, nobody answers
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := ready(ctx, config.Sources{Flags: map[string]string{"admin-listen": l.Addr().String()}, LookupEnv: noEnv}); err == nil {
		t.Error("it takes silence for an answer")
	}
}

// A listener on all interfaces is asked through loopback.
func TestHealthcheckFindsTheListener(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:4002": "127.0.0.1:4002",
		":4002":          "127.0.0.1:4002",
		"0.0.0.0:4002":   "127.0.0.1:4002",
		"[::]:4002":      "[::1]:4002",
		"[::1]:4002":     "[::1]:4002",
		"10.1.2.3:4002":  "10.1.2.3:4002",
		"localhost:4002": "localhost:4002",
	} {
		if got := reachable(listen); got != want {
			t.Errorf("it asks %s at %s", listen, got)
		}
	}
}

// The whole way: a sidecar without a token is alive, says by its health check
// what it lacks, and ends with its context and code 0.
func TestServeRunsUntilItsContextEnds(t *testing.T) {
	admin := freeAddress(t)
	file := filepath.Join(t.TempDir(), "sidecar.yaml")
	content := `
listen: 127.0.0.1:0
admin: {listen: "` + admin + `"}
identities: {default: {credential: client-secret, tenant_id: adfs, client_id: c, client_secret: s, authority: "https://127.0.0.1:1"}}
routes: [{upstream: "http://127.0.0.1:1"}]
`
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	var log bytes.Buffer
	go func() { ended <- Run(ctx, []string{"--config", file}, noEnv, &log, &log) }()

	deadline := time.Now().Add(10 * time.Second)
	for {
		code, _, stderr := run(t, "healthcheck", "--config", file)
		if code == 1 && strings.Contains(stderr, "not ready (503") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the health check exits with %d: %s", code, stderr)
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("it exits with %d: %s", code, &log)
	}
}

func TestAnAddressInUseIsAFailureOfTheRunNotOfTheConfiguration(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	code, _, stderr := run(t, "--upstream", "http://127.0.0.1:1", "--listen", other.Addr().String(), "--admin-listen", "127.0.0.1:0")
	if code != exitFailure || !strings.Contains(stderr, "listen: "+other.Addr().String()+" is in use") {
		t.Errorf("it exits with %d and says %s", code, stderr)
	}
}

func noEnv(string) (string, bool) { return "", false }

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
