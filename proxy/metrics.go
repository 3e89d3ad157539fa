package proxy

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// durationBuckets, in seconds, reach from an embedding to a long reasoning.
var durationBuckets = []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}

// metrics has no label that a client could fill: no path, user agent or
// deployment. A route is its prefix.
type metrics struct {
	requests     *prometheus.CounterVec
	duration     *prometheus.HistogramVec
	firstByte    *prometheus.HistogramVec
	inflight     *prometheus.GaugeVec
	tunnels      *prometheus.GaugeVec
	replays      *prometheus.CounterVec
	authFailures *prometheus.CounterVec
	broken       *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, routes []Route) *metrics {
	f := promauto.With(r)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Namespace: "entra_sidecar", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return f.NewGaugeVec(prometheus.GaugeOpts{Namespace: "entra_sidecar", Name: name, Help: help}, []string{"route"})
	}
	histogram := func(name, help string) *prometheus.HistogramVec {
		return f.NewHistogramVec(prometheus.HistogramOpts{Namespace: "entra_sidecar", Name: name, Help: help, Buckets: durationBuckets}, []string{"route"})
	}
	m := &metrics{
		requests:     counter("requests_total", "Requests answered, by status; 499 is a client that left first.", "route", "method", "code"),
		duration:     histogram("request_duration_seconds", "From a request's arrival to the end of its answer."),
		firstByte:    histogram("time_to_first_byte_seconds", "From a request's arrival to the first byte of its answer's body."),
		inflight:     gauge("inflight_requests", "Requests under way, tunnels included."),
		tunnels:      gauge("tunnels", "WebSockets open."),
		replays:      counter("token_replays_total", "Requests sent again with a fresh token after Azure refused the first.", "route"),
		authFailures: counter("upstream_auth_failures_total", "Answers that were diagnosed as a failure of authentication or set-up, by cause.", "route", "cause"),
		broken:       counter("broken_streams_total", "Event streams that Azure did not finish.", "route"),
	}
	m.preset(routes)
	return m
}

// preset makes every route's series present from the start, so that a rate over
// the first event is not lost.
func (m *metrics) preset(routes []Route) {
	for _, r := range routes {
		m.inflight.WithLabelValues(r.Prefix)
		m.tunnels.WithLabelValues(r.Prefix)
		m.replays.WithLabelValues(r.Prefix)
		m.broken.WithLabelValues(r.Prefix)
		m.duration.WithLabelValues(r.Prefix)
		m.firstByte.WithLabelValues(r.Prefix)
	}
}

func (m *metrics) begin(r *Route)        { m.inflight.WithLabelValues(r.Prefix).Inc() }
func (m *metrics) end(r *Route)          { m.inflight.WithLabelValues(r.Prefix).Dec() }
func (m *metrics) replay(r *Route)       { m.replays.WithLabelValues(r.Prefix).Inc() }
func (m *metrics) brokenStream(r *Route) { m.broken.WithLabelValues(r.Prefix).Inc() }

func (m *metrics) authFailure(r *Route, cause string) {
	m.authFailures.WithLabelValues(r.Prefix, cause).Inc()
}

// observe counts a finished request. One that matched no route has none.
func (m *metrics) observe(x *exchange, status int) {
	route := ""
	if x.route != nil {
		route = x.route.Prefix
	}
	m.requests.WithLabelValues(route, knownMethod(x.inbound.Method), strconv.Itoa(status)).Inc()
	if x.route == nil || status == http.StatusSwitchingProtocols {
		return // a tunnel's length says nothing about Azure's speed
	}
	m.duration.WithLabelValues(route).Observe(time.Since(x.started).Seconds())
	if !x.first.IsZero() {
		m.firstByte.WithLabelValues(route).Observe(x.first.Sub(x.started).Seconds())
	}
}

var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
	http.MethodDelete, http.MethodOptions, http.MethodConnect, http.MethodTrace,
}

// knownMethod keeps a client from making up label values.
func knownMethod(method string) string {
	if slices.Contains(methods, method) {
		return method
	}
	return "other"
}
