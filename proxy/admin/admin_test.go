package admin

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A fake is what the handler looks at.
type fake struct {
	handler  *Handler
	requests *prometheus.CounterVec
	inflight *prometheus.GaugeVec
	status   Status
	reasons  []string
}

func newFake() *fake {
	f := &fake{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "entra_sidecar_requests_total"}, []string{"route", "method", "code"}),
		inflight: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "entra_sidecar_inflight_requests"}, []string{"route"}),
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(f.requests, f.inflight)
	f.handler = New(Options{
		Gatherer: registry,
		NotReady: func() []string { return f.reasons },
		Status:   func() Status { return f.status },
	})
	return f
}

func (f *fake) ask(method, path string) *http.Response {
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Result()
}

// serving is a status with one route and one identity, in order.
func serving() Status {
	now := time.Now()
	return Status{
		Version: "v1.2.3", Started: now.Add(-time.Hour),
		Routes:     []Route{{"/", "https://contoso.openai.azure.com", "default", "s"}},
		Identities: []Identity{{Name: "default", Scope: "s", Credential: "default", Ready: true, IssuedAt: now.Add(-time.Minute), ExpiresAt: now.Add(time.Hour)}},
	}
}

func TestAnswers(t *testing.T) {
	tests := []struct {
		name, method, path string
		reasons            []string
		status             int
		body, contentType  string
	}{
		{"alive when ready", "GET", "/livez", nil, 200, "ok\n", "text/plain"},
		{"alive when not ready: a restart would help nobody", "GET", "/livez", []string{"no token"}, 200, "ok\n", "text/plain"},
		{"ready", "GET", "/readyz", nil, 200, "ok\n", "text/plain"},
		{"not ready, one reason a line", "GET", "/readyz", []string{"one", "two"}, 503, "one\ntwo\n", "text/plain"},
		{"metrics", "GET", "/metrics", nil, 200, "entra_sidecar_requests_total", "text/plain"},
		{"the page", "GET", "/", nil, 200, "<!doctype html>", "text/html"},
		{"the page is there when not ready, too", "GET", "/", []string{"no token"}, 200, "no token", "text/html"},
		{"the status", "GET", "/status.json", nil, 200, `"state":"ready"`, "application/json"},
		{"nothing under the page", "GET", "/index.html", nil, 404, "", "text/plain"},
		{"nothing under the status", "GET", "/status.json/", nil, 404, "", "text/plain"},
		{"nothing is changed here", "POST", "/", nil, 405, "", "text/plain"},
		{"nor here", "DELETE", "/status.json", nil, 405, "", "text/plain"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFake()
			f.status, f.reasons = serving(), test.reasons
			f.requests.WithLabelValues("/", "POST", "200")
			answer := f.ask(test.method, test.path)
			body := text(t, answer)
			if answer.StatusCode != test.status || !strings.Contains(body, test.body) {
				t.Errorf("%d %s", answer.StatusCode, body)
			}
			if got := answer.Header.Get("Content-Type"); !strings.HasPrefix(got, test.contentType) {
				t.Errorf("Content-Type: %s", got)
			}
		})
	}
}
