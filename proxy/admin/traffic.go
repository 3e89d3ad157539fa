package admin

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
)

const (
	sampleInterval = 5 * time.Second
	window         = 10 * time.Minute
	slots          = int(window / sampleInterval)

	// clientGone is what the proxy counts for a client that left first. It says
	// nothing about the route, so it is no error.
	clientGone = 499
)

// A snapshot is what the metrics say now.
type snapshot struct {
	answers           map[answer]uint64
	inFlight, tunnels map[string]uint64 // by route
}

// An answer is counted by route (its prefix; empty if none matched) and status.
type answer struct {
	route string
	code  int
}

// gather reads the metrics. A collector that fails spoils only its own part.
func (h *Handler) gather() snapshot {
	s := snapshot{answers: make(map[answer]uint64), inFlight: make(map[string]uint64), tunnels: make(map[string]uint64)}
	families, _ := h.options.Gatherer.Gather()
	for _, family := range families {
		for _, m := range family.GetMetric() {
			route := label(m, "route")
			switch family.GetName() {
			case "entra_sidecar_requests_total":
				code, _ := strconv.Atoi(label(m, "code"))
				s.answers[answer{route, code}] += uint64(m.GetCounter().GetValue())
			case "entra_sidecar_inflight_requests":
				s.inFlight[route] = uint64(m.GetGauge().GetValue())
			case "entra_sidecar_tunnels":
				s.tunnels[route] = uint64(m.GetGauge().GetValue())
			}
		}
	}
	return s
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// A history holds the answers of the last ten minutes, five seconds a sample.
// A sample lists only what was answered, so that idle routes cost nothing.
type history struct {
	mu      sync.Mutex
	last    map[answer]uint64 // the counters at the last sample; nil before the first
	samples []sample          // the oldest first
}

type sample struct {
	at      time.Time
	answers map[answer]uint64
}

func (h *history) add(at time.Time, counters map[answer]uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last != nil {
		h.samples = append(h.samples, sample{at, increase(h.last, counters)})
	}
	h.last = counters
	h.samples = slices.DeleteFunc(h.samples, func(s sample) bool { return at.Sub(s.at) >= window })
}

func increase(before, after map[answer]uint64) map[answer]uint64 {
	grown := make(map[answer]uint64)
	for a, n := range after {
		if n > before[a] {
			grown[a] = n - before[a]
		}
	}
	return grown
}

// since returns the samples after start, the oldest first. They never change.
func (h *history) since(start time.Time) []sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	samples := slices.Clone(h.samples)
	return slices.DeleteFunc(samples, func(s sample) bool { return !s.at.After(start) })
}

// counts are numbers of answered requests. Errors are those with a status of
// 400 or more; those of clients who left first stand apart.
type counts struct {
	Requests   uint64 `json:"requests"`
	Errors     uint64 `json:"errors"`
	ClientGone uint64 `json:"client_gone"`
}

func (c *counts) add(code int, n uint64) {
	c.Requests += n
	switch {
	case code == clientGone:
		c.ClientGone += n
	case code >= http.StatusBadRequest:
		c.Errors += n
	}
}

func (c *counts) merge(o counts) {
	c.Requests += o.Requests
	c.Errors += o.Errors
	c.ClientGone += o.ClientGone
}

// ErrorShare is between 0 and 1. A client who left took no answer, and so is
// not in the whole either.
func (c counts) ErrorShare() float64 {
	if answered := c.Requests - c.ClientGone; answered > 0 {
		return float64(c.Errors) / float64(answered)
	}
	return 0
}

// Traffic is what passed on a route.
type traffic struct {
	InFlight   uint64         `json:"in_flight"`
	WebSockets uint64         `json:"websockets"`
	Total      counts         `json:"total"`
	LastMinute counts         `json:"last_minute"`
	Last10     counts         `json:"last_10_minutes"`
	Codes      map[int]uint64 `json:"codes"`
	History    series         `json:"history"`
}

// A series has one number for each sample of the document.
type series struct {
	Requests   []uint64 `json:"requests"`
	Errors     []uint64 `json:"errors"`
	ClientGone []uint64 `json:"client_gone"`
}

// A ledger has the traffic of every route that was configured or counted.
type ledger struct {
	samples int
	routes  map[string]*traffic
}

func (l ledger) of(route string) *traffic {
	t := l.routes[route]
	if t == nil {
		n := l.samples
		t = &traffic{Codes: make(map[int]uint64), History: series{make([]uint64, n), make([]uint64, n), make([]uint64, n)}}
		l.routes[route] = t
	}
	return t
}

// newLedger sorts what is known by route.
func newLedger(now time.Time, s snapshot, samples []sample) ledger {
	l := ledger{len(samples), make(map[string]*traffic)}
	for a, n := range s.answers {
		l.of(a.route).Total.add(a.code, n)
	}
	for route, n := range s.inFlight {
		l.of(route).InFlight = n
	}
	for route, n := range s.tunnels {
		l.of(route).WebSockets = n
	}
	for i, sample := range samples {
		recent := now.Sub(sample.at) < time.Minute
		for a, n := range sample.answers {
			l.of(a.route).record(i, recent, a.code, n)
		}
	}
	return l
}

func (t *traffic) record(slot int, recent bool, code int, n uint64) {
	var c counts
	c.add(code, n)
	t.Codes[code] += n
	t.Last10.merge(c)
	if recent {
		t.LastMinute.merge(c)
	}
	t.History.Requests[slot] += c.Requests
	t.History.Errors[slot] += c.Errors
	t.History.ClientGone[slot] += c.ClientGone
}

// latest counts the minute that ended with the last answer of the history. What
// a route is worth shows in its latest requests, however long ago they were,
// and old failures stop counting as soon as a newer request has succeeded for a
// minute.
func (t *traffic) latest() counts {
	end := len(t.History.Requests)
	for end > 0 && t.History.Requests[end-1] == t.History.ClientGone[end-1] {
		end--
	}
	var c counts
	for i := max(0, end-int(time.Minute/sampleInterval)); i < end; i++ {
		c.merge(counts{t.History.Requests[i], t.History.Errors[i], t.History.ClientGone[i]})
	}
	return c
}

// commonError returns the most frequent error status of the history, or 0, and
// whether it is the only one.
func (t *traffic) commonError() (common int, only bool) {
	for _, code := range slices.Sorted(maps.Keys(t.Codes)) {
		if code >= http.StatusBadRequest && code != clientGone && t.Codes[code] > t.Codes[common] {
			common = code
		}
	}
	return common, t.Codes[common] == t.Last10.Errors
}
