package proxy

import (
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"entra-sidecar/proxy/diagnose"
)

// causeInterval is how often one cause on one route is logged.
const causeInterval = time.Minute

// A Failure is a cause that was diagnosed on a route, for the status page.
type Failure struct {
	Route       string
	Cause       string
	Sentence    string
	Remedy      string
	First, Last time.Time
	Count       int
}

// causeLog remembers what went wrong on each route and logs it at a bounded
// rate: a wrong set-up fails every request in the same way.
type causeLog struct {
	logger *zap.Logger

	mu       sync.Mutex
	failures map[causeKey]*causeEntry
}

type causeKey struct{ route, cause string }

type causeEntry struct {
	Failure
	logged   time.Time
	unlogged int
}

func newCauseLog(logger *zap.Logger) *causeLog {
	return &causeLog{logger: logger, failures: make(map[causeKey]*causeEntry)}
}

// report counts d and logs it unless it was logged a short while ago.
func (l *causeLog) report(r *Route, d diagnose.Diagnosis) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	key := causeKey{r.Prefix, d.Cause}
	entry := l.failures[key]
	if entry == nil {
		entry = &causeEntry{Failure: Failure{Route: r.Prefix, Cause: d.Cause, First: now}}
		l.failures[key] = entry
	}
	entry.Sentence, entry.Remedy, entry.Last = d.Sentence, d.Remedy, now
	entry.Count++
	if !entry.logged.IsZero() && now.Sub(entry.logged) < causeInterval {
		entry.unlogged++
		return
	}
	l.logger.Warn("requests fail on this route",
		zap.String("route", r.Prefix), zap.String("cause", d.Cause), zap.String("explanation", d.Sentence),
		zap.String("remedy", d.Remedy), zap.Int("count", entry.Count), zap.Int("since_last_line", entry.unlogged+1))
	entry.logged, entry.unlogged = now, 0
}

// Failures returns the causes seen so far, the latest first.
func (h *Handler) Failures() []Failure {
	h.causes.mu.Lock()
	defer h.causes.mu.Unlock()
	var all []Failure
	for _, entry := range h.causes.failures {
		all = append(all, entry.Failure)
	}
	slices.SortFunc(all, func(a, b Failure) int { return b.Last.Compare(a.Last) })
	return all
}
