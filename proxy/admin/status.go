package admin

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// States of the process.
const (
	stateReady    = "ready"
	stateNotReady = "not_ready"
	stateDraining = "draining"
)

// States of an identity.
const (
	identityReady   = "ready"
	identityFailing = "renewal_failing" // and the token in hand still serves
	identityNoToken = "no_token"
)

// Health of a route.
const (
	healthOK       = "ok"
	healthDegraded = "degraded" // some requests fail, or its token is not being renewed
	healthFailing  = "failing"  // every second request fails, or more
	healthNoToken  = "no_token" // no request can be served
)

// A route is degraded from one failure in twenty, and fails from one in two.
const (
	degradedShare = 0.05
	failingShare  = 0.5
)

// document is /status.json, and what the page shows. README.md describes it:
// its names are a contract. A time that does not apply is absent.
type document struct {
	State      string           `json:"state"`
	Reasons    []string         `json:"reasons,omitempty"`
	Warnings   []string         `json:"warnings,omitempty"`
	Version    string           `json:"version"`
	Time       time.Time        `json:"time"`
	Started    time.Time        `json:"started,omitzero"`
	Routes     []routeStatus    `json:"routes"`
	Identities []identityStatus `json:"identities"`
	Failures   []failureStatus  `json:"failures"`
	Unmatched  traffic          `json:"unmatched"`
	History    timeline         `json:"history"`

	now time.Time // Time, exactly
}

// A timeline tells when each sample of a series ends.
type timeline struct {
	IntervalSeconds int         `json:"interval_seconds"`
	Times           []time.Time `json:"times"`
}

type routeStatus struct {
	Prefix   string `json:"prefix"`
	Upstream string `json:"upstream"`
	Identity string `json:"identity"`
	Scope    string `json:"scope"`
	Health   string `json:"health"`
	Reason   string `json:"reason,omitempty"`
	Cause    string `json:"cause,omitempty"`
	traffic
}

type identityStatus struct {
	Name         string          `json:"name"`
	Scope        string          `json:"scope"`
	State        string          `json:"state"`
	Credential   string          `json:"credential"`
	Source       string          `json:"source,omitempty"`
	TenantID     string          `json:"tenant_id,omitempty"`
	ClientID     string          `json:"client_id,omitempty"`
	ObjectID     string          `json:"object_id,omitempty"`
	Audience     string          `json:"audience,omitempty"`
	IssuedAt     time.Time       `json:"issued_at,omitzero"`
	ExpiresAt    time.Time       `json:"expires_at,omitzero"`
	RenewAt      time.Time       `json:"renew_at,omitzero"`
	FailingSince time.Time       `json:"failing_since,omitzero"`
	Error        string          `json:"error,omitempty"`
	Cause        string          `json:"cause,omitempty"`
	Remedy       string          `json:"remedy,omitempty"`
	Sources      []SourceFailure `json:"sources,omitempty"`
	Waits        uint64          `json:"waits"`
	Renewals     uint64          `json:"renewals"`
	Failures     uint64          `json:"failures"`
}

type failureStatus struct {
	Route    string    `json:"route"`
	Cause    string    `json:"cause"`
	Sentence string    `json:"sentence"`
	Remedy   string    `json:"remedy,omitempty"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Count    uint64    `json:"count"`
}

func (h *Handler) serveStatus(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	_ = json.NewEncoder(w).Encode(h.document()) // the client may have gone
}

// document puts together what is known now.
func (h *Handler) document() *document {
	status, now := h.options.Status(), time.Now()
	samples := h.history.since(now.Add(-window))
	ledger := newLedger(now, h.gather(), samples)
	d := &document{
		Version: status.Version,
		Time:    utc(now),
		now:     now,
		Started: utc(status.Started),
		// Never null: a program should find a list.
		Routes:     make([]routeStatus, 0, len(status.Routes)),
		Identities: make([]identityStatus, 0, len(status.Identities)),
		Failures:   make([]failureStatus, 0, len(status.Failures)),
		Unmatched:  *ledger.of(""),
		History:    newTimeline(samples),
	}
	for _, i := range status.Identities {
		d.Identities = append(d.Identities, newIdentityStatus(i))
	}
	for _, f := range status.Failures {
		d.Failures = append(d.Failures, failureStatus{f.Route, f.Cause, f.Sentence, f.Remedy, utc(f.First), utc(f.Last), uint64(f.Count)})
	}
	for _, r := range status.Routes {
		d.Routes = append(d.Routes, d.newRouteStatus(r, ledger.of(r.Prefix)))
	}
	d.State, d.Reasons = state(status.Draining, h.options.NotReady())
	d.Warnings = d.warnings()
	return d
}

// utc has no fraction: nothing here is that exact.
func utc(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

func newTimeline(samples []sample) timeline {
	t := timeline{int(sampleInterval / time.Second), make([]time.Time, len(samples))}
	for i, s := range samples {
		t.Times[i] = utc(s.at)
	}
	return t
}

// state has no reasons but for not being ready.
func state(draining bool, reasons []string) (string, []string) {
	switch {
	case draining:
		return stateDraining, nil
	case len(reasons) > 0:
		return stateNotReady, reasons
	}
	return stateReady, nil
}

func newIdentityStatus(i Identity) identityStatus {
	s := identityStatus{
		Name: i.Name, Scope: i.Scope, State: identityReady, Credential: i.Credential, Source: i.Source,
		TenantID: i.TenantID, ClientID: i.ClientID, ObjectID: i.ObjectID, Audience: i.Audience,
		IssuedAt: utc(i.IssuedAt), ExpiresAt: utc(i.ExpiresAt), RenewAt: utc(i.RenewAt), FailingSince: utc(i.FailingSince),
		Error: i.Error, Cause: i.Cause, Remedy: i.Remedy, Sources: i.Sources,
		Waits: i.Waits, Renewals: i.Renewals, Failures: i.Failures,
	}
	switch {
	case !i.Ready:
		s.State = identityNoToken
	case !i.FailingSince.IsZero():
		s.State = identityFailing
	}
	return s
}

func (d *document) newRouteStatus(r Route, t *traffic) routeStatus {
	s := routeStatus{Prefix: r.Prefix, Upstream: r.Upstream, Identity: r.Identity, Scope: r.Scope, traffic: *t}
	s.Cause = d.recentCause(r.Prefix)
	s.Health, s.Reason = d.health(&s)
	return s
}

// recentCause returns what was last diagnosed on a route, unless it is no
// longer in the plots.
func (d *document) recentCause(route string) string {
	for _, f := range d.Failures {
		if f.Route == route && d.Time.Sub(f.Last) < window {
			return f.Cause
		}
	}
	return ""
}

// health tells what a request on this route has to expect, and why.
func (d *document) health(r *routeStatus) (health, reason string) {
	latest := r.latest()
	share, identity := latest.ErrorShare(), d.identity(r)
	switch {
	case identity == nil || identity.State == identityNoToken:
		return healthNoToken, "no usable token for identity " + r.Identity
	case share >= failingShare:
		return healthFailing, r.lately(latest)
	case share >= degradedShare:
		return healthDegraded, r.lately(latest)
	case identity.State == identityFailing:
		return healthDegraded, fmt.Sprintf("its token cannot be renewed and serves until %s", d.Clock(identity.ExpiresAt))
	}
	return healthOK, ""
}

func (d *document) identity(r *routeStatus) *identityStatus {
	for i := range d.Identities {
		if d.Identities[i].Name == r.Identity && d.Identities[i].Scope == r.Scope {
			return &d.Identities[i]
		}
	}
	return nil
}

// lately puts into words how the latest requests of a route went.
func (r *routeStatus) lately(c counts) string {
	how := r.failed()
	switch answered := c.Requests - c.ClientGone; {
	case answered == 1:
		return "the latest request " + how
	case c.Errors == answered:
		return fmt.Sprintf("the latest %d requests all %s", answered, how)
	default:
		return fmt.Sprintf("%d of the latest %d requests %s", c.Errors, answered, how)
	}
}

// failed says with which status.
func (r *routeStatus) failed() string {
	switch code, only := r.commonError(); {
	case code == 0:
		return "failed"
	case only:
		return fmt.Sprintf("failed with %d", code)
	default:
		return fmt.Sprintf("failed, mostly with %d", code)
	}
}

// warnings lists what wants attention though requests are served. A route that
// suffers from its identity only is not listed beside it.
func (d *document) warnings() []string {
	var all []string
	for _, i := range d.Identities {
		if i.State == identityFailing {
			all = append(all, fmt.Sprintf("identity %s: its token cannot be renewed and serves until %s", i.Name, d.Clock(i.ExpiresAt)))
		}
	}
	for _, r := range d.Routes {
		if r.Health == healthFailing || r.Health == healthDegraded && d.identity(&r).State == identityReady {
			all = append(all, fmt.Sprintf("route %s: %s", r.Prefix, cmp.Or(r.Reason, r.Health)))
		}
	}
	return all
}

// Clock is the time of day, with the date where that could be mistaken.
func (d *document) Clock(t time.Time) string {
	t = t.UTC()
	if t.Sub(d.Time).Abs() < 12*time.Hour {
		return t.Format("15:04:05 UTC")
	}
	return t.Format("2006-01-02 15:04:05 UTC")
}
