package admin

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

//go:embed page.js
var pageJS string

// These bound the page; /status.json has everything.
const (
	shownConcerns = 5
	shownFailures = 20
)

// page is the status page.
type page struct {
	document func() *document
	template *template.Template
	policy   string
}

func newPage(d func() *document) *page {
	functions := template.FuncMap{
		"span": span, "age": age, "number": number, "percent": percent, "lines": remedyLines, "plural": plural,
		"dict": func(what, value string) map[string]string { return map[string]string{"What": what, "Value": value} },
	}
	return &page{
		document: d,
		template: template.Must(template.New("page").Funcs(functions).Parse(pageHTML)),
		// The style and the script are named by their hashes. Nothing else may
		// run or load, were it ever to find its way into the page.
		policy: fmt.Sprintf("default-src 'none'; style-src '%s'; script-src '%s'; connect-src 'self'; img-src data:; "+
			"base-uri 'none'; form-action 'none'; frame-ancestors 'none'", hash(pageCSS), hash(pageJS)),
	}
}

// hash names an inline style or script as a content security policy does.
func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// ServeHTTP renders the page as a whole before it sends the first byte.
func (p *page) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	var b bytes.Buffer
	if err := p.template.Execute(&b, view{p.document()}); err != nil {
		http.Error(w, "the page could not be rendered; /status.json has the same", http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", p.policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "no-referrer")
	_, _ = w.Write(b.Bytes())
}

// A view is the document with what only the page needs.
type view struct{ *document }

func (view) CSS() template.CSS { return template.CSS(pageCSS) }
func (view) JS() template.JS   { return template.JS(pageJS) }

// Assets changes with the style or the script: the sign for a page that is open
// to load itself anew.
func (view) Assets() string { return hash(pageCSS + pageJS) }

// Now is exact, so that seconds tick evenly in the browser.
func (v view) Now() time.Time { return v.now.UTC() }

// Tone colours the state: ok, warn or bad.
func (v view) Tone() string {
	switch {
	case v.State == stateNotReady:
		return "bad"
	case v.State == stateDraining || len(v.Warnings) > 0:
		return "warn"
	}
	return "ok"
}

func (v view) Headline() string {
	switch {
	case v.State == stateNotReady:
		return "Not ready"
	case v.State == stateDraining:
		return "Draining"
	case len(v.Warnings) > 0:
		return "Ready, with " + plural(uint64(len(v.Warnings)), "warning")
	}
	return "Ready"
}

// Concerns are the reasons and the warnings, as many as can be taken in.
func (v view) Concerns() []string {
	all := slices.Concat(v.Reasons, v.Warnings)
	if more := len(all) - shownConcerns; more > 1 {
		all = append(all[:shownConcerns:shownConcerns], fmt.Sprintf("and %d more", more))
	}
	return all
}

// Total sums up all routes.
func (v view) Total() counts {
	total := v.Unmatched.Total
	for _, r := range v.Routes {
		total.merge(r.Total)
	}
	return total
}

// Waits counts requests that found no usable token: the promise is none.
func (v view) Waits() (n uint64) {
	for _, i := range v.Identities {
		n += i.Waits
	}
	return n
}

// Rows are the routes and, if anything missed them, a last row for that.
func (v view) Rows() []row {
	var rows []row
	for _, r := range v.Routes {
		rows = append(rows, row{r, newPlot(v.History.Times, r.History)})
	}
	if v.Unmatched.Total.Requests > 0 {
		rows = append(rows, row{routeStatus{traffic: v.Unmatched}, newPlot(v.History.Times, v.Unmatched.History)})
	}
	return rows
}

// Latest are the failures that the page shows.
func (v view) Latest() []failureStatus { return v.Failures[:min(len(v.Failures), shownFailures)] }

// More is how many it does not.
func (v view) More() int { return len(v.Failures) - len(v.Latest()) }

// Recent says whether the plots still show that time.
func (v view) Recent(t time.Time) bool { return v.Time.Sub(t) < window }

// A moment is a point in time as seen from the document's.
type moment struct {
	Stamp, Clock string
	Left, Ago    time.Duration // never negative
}

func (v view) Moment(t time.Time) moment {
	return moment{t.Format(time.RFC3339), v.Clock(t), max(0, t.Sub(v.Time)), max(0, v.Time.Sub(t))}
}

// A life is how much of a token's life is spent, and when in it the renewal is
// due, in thousandths.
type life struct{ Spent, Renewal int }

// Life returns nil where the token does not say when it was issued.
func (v view) Life(i identityStatus) *life {
	whole := i.ExpiresAt.Sub(i.IssuedAt)
	if i.IssuedAt.IsZero() || whole <= 0 {
		return nil
	}
	part := func(t time.Time) int { return int(min(max(0, t.Sub(i.IssuedAt)*1000/whole), 1000)) }
	return &life{part(v.Time), part(i.RenewAt)}
}

// A row is a line of the table of routes. One without a prefix is for the
// requests that matched no route.
type row struct {
	routeStatus
	Plot plot
}

func (r row) Tone() string {
	switch r.Health {
	case healthFailing, healthNoToken:
		return "bad"
	case healthDegraded:
		return "warn"
	case healthOK:
		return "ok"
	}
	return "none"
}

// Host is the upstream without what goes without saying.
func (r row) Host() string { return strings.TrimPrefix(r.Upstream, "https://") }

// Troubled says whether the errors of the last minute are worth a colour.
func (r row) Troubled() bool { return r.LastMinute.ErrorShare() >= degradedShare }

// Label is Health for people.
func (r row) Label() string {
	return map[string]string{healthOK: "Healthy", healthDegraded: "Degraded", healthFailing: "Failing", healthNoToken: "No token"}[r.Health]
}

// A codeCount is how often a status was answered.
type codeCount struct {
	Code  int
	Count uint64
}

// Kind is what the status is counted as.
func (c codeCount) Kind() string {
	switch {
	case c.Code == clientGone:
		return "gone"
	case c.Code >= http.StatusBadRequest:
		return "error"
	}
	return "fine"
}

func (r row) ByCode() []codeCount {
	var all []codeCount
	for _, code := range slices.Sorted(maps.Keys(r.Codes)) {
		all = append(all, codeCount{code, r.Codes[code]})
	}
	return all
}

func (i identityStatus) Tone() string {
	return map[string]string{identityReady: "ok", identityFailing: "warn", identityNoToken: "bad"}[i.State]
}

// Label is State for people.
func (i identityStatus) Label() string {
	return map[string]string{identityReady: "Ready", identityFailing: "Renewal fails", identityNoToken: "No token"}[i.State]
}

// Summary is the error where the sources do not say the same again below it.
func (i identityStatus) Summary() string {
	for _, s := range i.Told() {
		if !strings.Contains(i.Error, s.Reason) {
			return i.Error
		}
	}
	if len(i.Told()) > 0 {
		return "No source gave a token."
	}
	return i.Error
}

// Told are the sources if there are several. One alone is the error itself.
func (i identityStatus) Told() []SourceFailure {
	if len(i.Sources) < 2 {
		return nil
	}
	return i.Sources
}

// A remedyLine is what a shell runs and what it ignores.
type remedyLine struct{ Command, Comment string }

// remedyLines parts commands from comments, for the eye only: what is copied is
// the remedy itself.
func remedyLines(remedy string) []remedyLine {
	var all []remedyLine
	for line := range strings.SplitSeq(strings.TrimRight(remedy, "\n"), "\n") {
		at := strings.Index(" "+line, " #")
		if at < 0 {
			at = len(line)
		}
		all = append(all, remedyLine{line[:at], line[at:]})
	}
	return all
}

// span is an exact duration in its two largest units, as page.js has it too.
func span(d time.Duration) string {
	s := int(d / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%d h %d min", s/3600, s/60%60)
	}
	return fmt.Sprintf("%d d %d h", s/86400, s/3600%24)
}

// age is a duration in its largest unit: for the past, where no second counts.
func age(d time.Duration) string {
	s := int(d / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min", s/60)
	case s < 86400:
		return fmt.Sprintf("%d h", s/3600)
	}
	return fmt.Sprintf("%d d", s/86400)
}

// number groups digits by thousands.
func number(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for at := len(s) - 3; at > 0; at -= 3 {
		s = s[:at] + "," + s[at:]
	}
	return s
}

// percent has a digit after the point where it would be 0 or 100 otherwise.
func percent(share float64) string {
	p := share * 100
	switch {
	case p == 0 || p == 100:
		return fmt.Sprintf("%.0f%%", p)
	case p < 0.1:
		return "<0.1%"
	case p < 10 || p > 99:
		return fmt.Sprintf("%.1f%%", p)
	}
	return fmt.Sprintf("%.0f%%", p)
}

func plural(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return number(n) + " " + noun + "s"
}
