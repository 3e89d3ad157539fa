package admin

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

func text(t *testing.T, answer *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestStateOfTheProcess(t *testing.T) {
	tests := []struct {
		name     string
		draining bool
		reasons  []string
		state    string
		listed   int
	}{
		{"ready", false, nil, stateReady, 0},
		{"not ready", false, []string{"one", "two"}, stateNotReady, 2},
		{"draining, which is no failure", true, []string{"draining"}, stateDraining, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFake()
			f.status, f.reasons = serving(), test.reasons
			f.status.Draining = test.draining
			d := f.handler.document()
			if d.State != test.state || len(d.Reasons) != test.listed {
				t.Errorf("%s %q", d.State, d.Reasons)
			}
		})
	}
}

func TestHealthOfARoute(t *testing.T) {
	failing := func(i *Identity) { i.FailingSince, i.Error = time.Now(), "refused" }
	tests := []struct {
		name     string
		identity func(*Identity)
		samples  []map[string]float64 // by status, five seconds each
		health   string
		reason   string // contained
		warnings int
	}{
		{"no request yet", nil, nil, healthOK, "", 0},
		{"all well", nil, []map[string]float64{{"200": 9}}, healthOK, "", 0},
		{"one failure in a hundred", nil, []map[string]float64{{"200": 99, "500": 1}}, healthOK, "", 0},
		{"one in twenty", nil, []map[string]float64{{"200": 19, "429": 1}}, healthDegraded, "1 of the latest 20 requests failed with 429", 1},
		{"one in two", nil, []map[string]float64{{"200": 3, "429": 1, "500": 2}}, healthFailing, "3 of the latest 6 requests failed, mostly with 500", 1},
		{"all of them", nil, []map[string]float64{{"401": 3}}, healthFailing, "the latest 3 requests all failed with 401", 1},
		{"the only one", nil, []map[string]float64{{"401": 1}}, healthFailing, "the latest request failed with 401", 1},
		{"clients that left say nothing", nil, []map[string]float64{{"499": 7}}, healthOK, "", 0},
		{"nor do they hide failures", nil, []map[string]float64{{"401": 1}, {"499": 100}}, healthFailing, "the latest request failed with 401", 1},
		{"a failure counts until a newer request", nil, append([]map[string]float64{{"401": 5}}, make([]map[string]float64, 60)...), healthFailing, "all failed", 1},
		{"and is forgotten a minute after it", nil, append([]map[string]float64{{"401": 5}}, append(make([]map[string]float64, 11), map[string]float64{"200": 1})...), healthOK, "", 0},
		{"a token that is not renewed", failing, []map[string]float64{{"200": 9}}, healthDegraded, "its token cannot be renewed and serves until", 1},
		{"failing requests count for more", failing, []map[string]float64{{"401": 9}}, healthFailing, "the latest 9 requests", 2},
		{"no token", func(i *Identity) { i.Ready = false }, nil, healthNoToken, "no usable token for identity default", 0},
		{"an identity that nobody told of", func(i *Identity) { i.Scope = "other" }, nil, healthNoToken, "no usable token", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFake()
			f.status = serving()
			if test.identity != nil {
				test.identity(&f.status.Identities[0])
			}
			start := time.Now().Add(-time.Duration(len(test.samples)) * sampleInterval)
			f.handler.Sample(start)
			for i, sample := range test.samples {
				for code, n := range sample {
					f.requests.WithLabelValues("/", "POST", code).Add(n)
				}
				f.handler.Sample(start.Add(time.Duration(i+1) * sampleInterval))
			}
			d := f.handler.document()
			r := d.Routes[0]
			if r.Health != test.health || !strings.Contains(r.Reason, test.reason) || (r.Reason == "") != (test.reason == "") {
				t.Errorf("%s: %s", r.Health, r.Reason)
			}
			if len(d.Warnings) != test.warnings {
				t.Errorf("warnings: %q", d.Warnings)
			}
		})
	}
}

func TestStateOfAnIdentity(t *testing.T) {
	since := time.Now()
	tests := []struct {
		name string
		Identity
		want string
	}{
		{"ready", Identity{Ready: true}, identityReady},
		{"renewal fails while the token serves", Identity{Ready: true, FailingSince: since}, identityFailing},
		{"no token", Identity{FailingSince: since}, identityNoToken},
		{"no token yet", Identity{}, identityNoToken},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := newIdentityStatus(test.Identity).State; got != test.want {
				t.Errorf("%s, not %s", got, test.want)
			}
		})
	}
}

func TestCauseOfARouteIsItsLatest(t *testing.T) {
	f := newFake()
	f.status = serving()
	now := time.Now()
	f.status.Failures = []Failure{
		{Route: "/other", Cause: "firewall", Last: now},
		{Route: "/", Cause: "missing-role", Last: now.Add(-time.Minute)},
		{Route: "/", Cause: "wrong-path", Last: now.Add(-2 * time.Minute)},
	}
	if got := f.handler.document().Routes[0].Cause; got != "missing-role" {
		t.Errorf("%q", got)
	}
	f.status.Failures = []Failure{{Route: "/", Cause: "missing-role", Last: now.Add(-time.Hour)}}
	if got := f.handler.document().Routes[0].Cause; got != "" {
		t.Errorf("%q, an hour later", got)
	}
}

// A program finds lists, no zero time and no field that is not documented.
func TestStatusJSON(t *testing.T) {
	f := newFake()
	empty := text(t, f.ask("GET", "/status.json"))
	for _, wrong := range []string{"null", "0001-01-01"} {
		if strings.Contains(empty, wrong) {
			t.Errorf("%s in %s", wrong, empty)
		}
	}
	f.status = serving()
	f.status.Started = time.Date(2026, 3, 4, 5, 6, 7, 890, time.FixedZone("", 3600))
	answer := f.ask("GET", "/status.json")
	for name, want := range map[string]string{
		"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
	} {
		if got := answer.Header.Get(name); got != want {
			t.Errorf("%s: %s, not %s", name, got, want)
		}
	}
	full := text(t, answer)
	if !json.Valid([]byte(full)) || !strings.Contains(full, `"started":"2026-03-04T04:06:07Z"`) {
		t.Error(full)
	}
	if strings.Contains(full, "renew_at") || strings.Contains(full, "failing_since") {
		t.Errorf("a time that does not apply: %s", full)
	}
}

func TestEveryFieldIsDocumented(t *testing.T) {
	manual, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range fields(reflect.TypeFor[document]()) {
		if !strings.Contains(string(manual), "`"+field+"`") {
			t.Errorf("README.md does not know %s", field)
		}
	}
}

// fields returns the JSON names within t.
func fields(t reflect.Type) []string {
	switch {
	case t.Kind() == reflect.Slice:
		return fields(t.Elem())
	case t.Kind() != reflect.Struct || t == reflect.TypeFor[time.Time]():
		return nil
	}
	var all []string
	for f := range t.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			all = append(all, name)
		}
		if f.IsExported() || f.Anonymous {
			all = append(all, fields(f.Type)...)
		}
	}
	return all
}
