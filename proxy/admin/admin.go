// Package admin answers the questions that Kubernetes, Prometheus and people
// ask of a running sidecar. Nothing here is secret and nothing changes state, so
// that the listener may be open to the cluster while the proxy's is not.
package admin

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Options are all required.
type Options struct {
	// NotReady says what keeps the process from serving every route, one
	// reason a line; none means ready.
	NotReady func() []string
	// Gatherer holds the metrics.
	Gatherer prometheus.Gatherer
}

// New returns the handler of the admin listener.
func New(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", live)
	mux.HandleFunc("GET /readyz", ready(o.NotReady))
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{}))
	return mux
}

// live is 200 as long as anything is. It never depends on Entra: a restart
// would throw away tokens that still work.
func live(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, "ok\n")
}

// ready is 503, with the reasons, until every route has a token, and again from
// the moment that the process begins to drain.
func ready(notReady func() []string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if reasons := notReady(); len(reasons) > 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = fmt.Fprintln(w, strings.Join(reasons, "\n"))
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	}
}
