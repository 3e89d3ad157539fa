package admin

import (
	"strings"
	"testing"
	"time"
)

func TestPageHeaders(t *testing.T) {
	f := newFake()
	f.status = serving()
	header := f.ask("GET", "/").Header
	for name, want := range map[string]string{
		"Content-Type":           "text/html; charset=utf-8",
		"Cache-Control":          "no-store",
		"X-Content-Type-Options": "nosniff",
		"Referrer-Policy":        "no-referrer",
	} {
		if got := header.Get(name); got != want {
			t.Errorf("%s: %s, not %s", name, got, want)
		}
	}
	policy := header.Get("Content-Security-Policy")
	for _, want := range []string{
		"default-src 'none'", "style-src 'sha256-", "script-src 'sha256-", "connect-src 'self'",
		"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
	} {
		if !strings.Contains(policy, want) {
			t.Errorf("no %s in %s", want, policy)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Error(policy)
	}
}

// The policy names the style and the script as they are sent.
func TestPageIsOneDocument(t *testing.T) {
	f := newFake()
	f.status = serving()
	answer := f.ask("GET", "/")
	page, policy := text(t, answer), answer.Header.Get("Content-Security-Policy")
	for _, tag := range []string{"style", "script"} {
		_, after, _ := strings.Cut(page, "<"+tag+">")
		inside, _, found := strings.Cut(after, "</"+tag+">")
		if !found || !strings.Contains(policy, hash(inside)) {
			t.Errorf("the policy does not admit the %s", tag)
		}
	}
	for _, foreign := range []string{" src=", "@import", "url(", "style="} {
		if strings.Contains(page, foreign) {
			t.Errorf("%q in the page", foreign)
		}
	}
}

// Whatever is not ours arrives as text.
func TestPageEscapes(t *testing.T) {
	const hostile = `</code></script><script>alert(1)</script><img src=x onerror=alert(1)>"'` + "`{{.}}"
	f := newFake()
	now := time.Now()
	f.status = Status{
		Version: hostile, Started: now,
		Routes: []Route{{hostile, hostile, hostile, hostile}},
		Identities: []Identity{{
			Name: hostile, Scope: hostile, Credential: hostile, Source: hostile, TenantID: hostile, ClientID: hostile,
			ObjectID: hostile, Audience: hostile, Error: hostile, Cause: hostile, Remedy: hostile, FailingSince: now,
			Sources: []SourceFailure{{hostile, hostile}, {hostile, hostile + " "}},
		}},
		Failures: []Failure{{hostile, hostile, hostile, hostile, now, now, 2}},
	}
	f.reasons = []string{hostile}
	f.requests.WithLabelValues(hostile, "POST", "200").Inc()
	page := text(t, f.ask("GET", "/"))
	for _, raw := range []string{"<script>alert", "<img", `"'` + "`"} {
		if strings.Contains(page, raw) {
			t.Errorf("%s came through", raw)
		}
	}
	if got := strings.Count(page, "<script"); got != 1 {
		t.Errorf("%d scripts", got)
	}
	if strings.Count(page, "&lt;img src=x onerror=alert(1)&gt;") < 15 {
		t.Error("the text is not there")
	}
}

func TestHeadline(t *testing.T) {
	tests := []struct {
		name           string
		document       document
		headline, tone string
	}{
		{"ready", document{State: stateReady}, "Ready", "ok"},
		{"ready, and something is odd", document{State: stateReady, Warnings: []string{"a"}}, "Ready, with 1 warning", "warn"},
		{"two odd things", document{State: stateReady, Warnings: []string{"a", "b"}}, "Ready, with 2 warnings", "warn"},
		{"draining", document{State: stateDraining}, "Draining", "warn"},
		{"not ready, whatever else", document{State: stateNotReady, Warnings: []string{"a"}}, "Not ready", "bad"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v := view{&test.document}
			if v.Headline() != test.headline || v.Tone() != test.tone {
				t.Errorf("%s, %s", v.Headline(), v.Tone())
			}
		})
	}
}

// A page stays readable however much goes wrong; status.json has it all.
func TestPageIsBounded(t *testing.T) {
	f := newFake()
	f.status = serving()
	for range 30 {
		f.status.Failures = append(f.status.Failures, Failure{Route: "/", Cause: "firewall", Last: time.Now(), Count: 1})
		f.reasons = append(f.reasons, "a reason")
	}
	page := text(t, f.ask("GET", "/"))
	if got := strings.Count(page, `class="failure`); got != shownFailures {
		t.Errorf("%d failures", got)
	}
	if got := strings.Count(page, "<li>a reason"); got != shownConcerns {
		t.Errorf("%d reasons", got)
	}
	if !strings.Contains(page, "and 25 more") || !strings.Contains(page, "10 more, seen longer ago") {
		t.Error("the page does not say that there are more")
	}
	if got := strings.Count(text(t, f.ask("GET", "/status.json")), `"firewall"`); got != 31 { // and as the route's
		t.Errorf("%d in status.json", got)
	}
}

func TestDurationsForPeople(t *testing.T) {
	tests := []struct {
		d         time.Duration
		span, age string
	}{
		{0, "0 s", "0 s"},
		{59999 * time.Millisecond, "59 s", "59 s"},
		{time.Minute, "1 min 0 s", "1 min"},
		{time.Hour - time.Second, "59 min 59 s", "59 min"},
		{time.Hour, "1 h 0 min", "1 h"},
		{24*time.Hour - time.Second, "23 h 59 min", "23 h"},
		{50 * time.Hour, "2 d 2 h", "2 d"},
	}
	for _, test := range tests {
		if span(test.d) != test.span || age(test.d) != test.age {
			t.Errorf("%v: %s, %s", test.d, span(test.d), age(test.d))
		}
	}
}

func TestNumbersForPeople(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := number(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
	for share, want := range map[float64]string{0: "0%", .0001: "<0.1%", .004: "0.4%", .07: "7.0%", .5: "50%", .996: "99.6%", 1: "100%"} {
		if got := percent(share); got != want {
			t.Errorf("%v: %s", share, got)
		}
	}
}

// Whole lines and ends of lines are comments; what is within a word is not.
func TestRemedyLines(t *testing.T) {
	got := remedyLines("# first\naz a --b '#c'\nrun   # why\nx#y\n")
	want := []remedyLine{{"", "# first"}, {"az a --b '#c'", ""}, {"run   ", "# why"}, {"x#y", ""}}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%q, not %q", got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%q", got)
	}
}

func TestLifeOfAToken(t *testing.T) {
	now := time.Now()
	v := view{&document{Time: now}}
	at := func(minutes int) time.Time { return now.Add(time.Duration(minutes) * time.Minute) }
	tests := []struct {
		name             string
		issued, renewal  time.Time
		expires          time.Time
		spent, renewalAt int
	}{
		{"in the middle", at(-30), at(15), at(30), 500, 750},
		{"new", at(0), at(30), at(60), 0, 500},
		{"after its end", at(-60), at(1), at(-1), 1000, 1000},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := v.Life(identityStatus{IssuedAt: test.issued, RenewAt: test.renewal, ExpiresAt: test.expires})
			if l == nil || l.Spent != test.spent || l.Renewal != test.renewalAt {
				t.Errorf("%v", l)
			}
		})
	}
	if l := v.Life(identityStatus{ExpiresAt: at(1)}); l != nil {
		t.Errorf("%v of a token that does not say", l)
	}
}

func TestPlot(t *testing.T) {
	end := time.Now()
	times := []time.Time{end.Add(-20 * time.Second), end.Add(-5*time.Second - 40*time.Millisecond), end}
	p := newPlot(times, series{Requests: []uint64{31, 0, 1000}, Errors: []uint64{0, 0, 1}})
	// What was not sampled stays a gap, and one error in a thousand can be seen.
	if p.Requests != "M115 32V30.5h1V32zM119 32V1.0h1V32z" {
		t.Errorf("requests: %s", p.Requests)
	}
	if p.Errors != "M119 32V30.5h1V32z" || p.Top != 1000 || p.Start != 115 || p.Points != "115:31:0 119:1000:1" {
		t.Errorf("%+v", p)
	}
	if empty := newPlot(nil, series{}); empty.Start != slots || empty.Requests != "" {
		t.Errorf("%+v", empty)
	}
}

func TestSourcesAreNotToldTwice(t *testing.T) {
	a, b := SourceFailure{"A", "one"}, SourceFailure{"B", "two"}
	tests := []struct {
		name, err string
		sources   []SourceFailure
		summary   string
		told      int
	}{
		{"nothing is known of sources", "one", nil, "one", 0},
		{"one source is the error", "A: one", []SourceFailure{a}, "A: one", 0},
		{"the last one decided", "B: two", []SourceFailure{a, b}, "B: two", 2},
		{"each was passed over", "A: one; B: two", []SourceFailure{a, b}, "No source gave a token.", 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			i := identityStatus{Error: test.err, Sources: test.sources}
			if i.Summary() != test.summary || len(i.Told()) != test.told {
				t.Errorf("%q, %d told", i.Summary(), len(i.Told()))
			}
		})
	}
}
