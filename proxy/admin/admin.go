// Package admin answers the questions that Kubernetes, Prometheus and people
// ask of a running sidecar:
//
//	/livez        is the process alive?
//	/readyz       can it serve every route?
//	/metrics      for Prometheus
//	/             the status page, for people
//	/status.json  the same for programs; README.md beside this file describes it
//
// Nothing here is secret and nothing changes state, so that the listener may be
// open to the cluster while the proxy's is not.
//
// The page is one document without any other file: its style and script are
// part of it, and the policy that it is sent with admits nothing else. It is
// rendered here, and its script only asks for it again and takes over what is
// different. So there is one renderer, whose escaping is html/template's, and
// without JavaScript the page is the same but for standing still.
package admin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Options are all required.
type Options struct {
	// NotReady says what keeps the process from serving every route, one
	// reason a line; none means ready.
	NotReady func() []string
	// Gatherer holds the metrics. Of these the page uses
	// entra_sidecar_requests_total, _inflight_requests and _tunnels.
	Gatherer prometheus.Gatherer
	// Status says how things are now. It is called for each request of the
	// page, by several goroutines at a time.
	Status func() Status
}

// Status is what the page knows beside the metrics. None of it may be secret.
type Status struct {
	Version    string
	Started    time.Time
	Draining   bool
	Routes     []Route
	Identities []Identity
	Failures   []Failure // the latest first
}

// A Route leads from a path prefix to an upstream. It uses the Identity of that
// name and scope.
type Route struct{ Prefix, Upstream, Identity, Scope string }

// An Identity is the state of one identity's token for one scope.
type Identity struct {
	Name, Scope string
	Credential  string // as configured, such as "default"
	Source      string // which credential answers, such as "ManagedIdentityCredential"; empty if none has

	// What the token says of itself; empty if it is opaque or there is none.
	TenantID, ClientID, ObjectID, Audience string

	Ready        bool      // there is a token that can be used
	IssuedAt     time.Time // of the token; zero if unknown
	ExpiresAt    time.Time // of the token; zero if there was none yet
	RenewAt      time.Time // the next renewal, or the next attempt after a failure
	FailingSince time.Time // zero if the last attempt succeeded

	Error         string          // the last failure, in one line
	Cause, Remedy string          // of Error, if it was diagnosed
	Sources       []SourceFailure // Error, source by source

	Waits, Renewals, Failures uint64 // since the start
}

// A SourceFailure says why one source of a credential gave no token.
type SourceFailure struct {
	Source string `json:"source"`
	Reason string `json:"reason"`
}

// A Failure is a cause that was diagnosed on a route.
type Failure struct {
	Route, Cause, Sentence, Remedy string
	First, Last                    time.Time
	Count                          int
}

// Handler answers the requests of the admin listener.
type Handler struct {
	http.Handler
	options Options
	history history
}

// New returns a handler. It starts nothing: see [Handler.Run].
func New(o Options) *Handler {
	h := &Handler{options: o}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", live)
	mux.HandleFunc("GET /readyz", ready(o.NotReady))
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /status.json", h.serveStatus)
	mux.Handle("GET /{$}", newPage(h.document))
	h.Handler = mux
	return h
}

// Run samples the traffic until ctx is done, and then returns nil. It runs from
// the start rather than from the first look at the page, so that whoever comes
// to see what is wrong finds the minutes in which it went wrong.
func (h *Handler) Run(ctx context.Context) error {
	tick := time.NewTicker(sampleInterval)
	defer tick.Stop()
	for {
		h.Sample(time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Sample records what was answered between the sample before and this one. The
// first only says from where to count. [Handler.Run] calls it.
func (h *Handler) Sample(at time.Time) {
	h.history.add(at, h.gather().answers)
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
