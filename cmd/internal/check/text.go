package check

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"entra-sidecar/proxy/diagnose"
)

// Text is a [Printer] for people. It writes each step as it ends.
type Text struct {
	W      io.Writer
	Colour bool
	ASCII  bool // for terminals that do not speak UTF-8

	notReached []string // of the current route
	spaced     bool     // the last line is empty
}

const (
	width  = 80 // to which sentences are wrapped; commands never are
	column = 19 // where summaries begin
)

// The codes of ECMA-48 that the report uses.
const bold, dim, red, green, yellow = "1", "2", "31", "32", "33"

var looks = map[Status]struct{ mark, ascii, colour string }{
	Passed:  {"✓", "+", green},
	Advice:  {"!", "!", yellow},
	Failed:  {"✗", "x", red},
	Skipped: {"–", "-", dim},
}

// shown are the facts that people want to see; others are in the summaries.
var shown = map[string][]string{
	"claims":     {"aud", "tid", "oid", "appid", "upn"},
	"connection": {"certificate", "issuer", "valid_until"},
	"call":       {"message", "azure_request_id"},
	"deployment": {"message", "azure_request_id"},
}

// Begin prints what concerns all routes.
func (t *Text) Begin(r Report) {
	t.gap()
	for _, problem := range r.Problems {
		t.line(Failed, "configuration", problem)
	}
	for _, warning := range r.Warnings {
		t.line(Advice, "configuration", warning)
	}
	for _, f := range r.Findings {
		t.line(Advice, "environment", f.Sentence)
		t.remedy(f.Remedy)
	}
}

// Route prints the heading of a route.
func (t *Text) Route(r Route) {
	t.endRoute()
	t.print("%s  %s\n", t.paint(bold, r.Prefix), t.paint(bold, r.Upstream))
	t.gap()
}

// Step prints a step, with all there is to say if it did not just pass.
func (t *Text) Step(s Step) {
	if s.Status == NotReached {
		t.notReached = append(t.notReached, s.Name)
		return
	}
	t.line(s.Status, s.Name, s.Summary)
	for _, name := range shown[s.Name] {
		if value := s.Facts[name]; value != "" && (s.Status != Passed || name != "azure_request_id") {
			name = strings.TrimPrefix(strings.ReplaceAll(name, "_", " "), "azure ")
			t.under("", fmt.Sprintf("%-12s", name), value)
		}
	}
	for i, source := range s.Sources {
		status := Skipped
		if source.Reason == "" {
			status, source.Reason = Passed, "gave the token"
		} else if i == len(s.Sources)-1 && source.Remedy == nil {
			status = Failed
		}
		t.under(t.mark(status)+" ", fmt.Sprintf("%-28s", source.Source), source.Reason)
	}
	for _, f := range s.Findings {
		t.finding(f)
	}
	t.choices(s.Sources)
}

// choices tells what would make each source of a chain answer; those that want
// the same are named together.
func (t *Text) choices(sources []Source) {
	var remedies []string
	names := make(map[string]string)
	for _, s := range sources {
		if s.Remedy == nil {
			continue
		}
		if names[s.Remedy.Remedy] == "" {
			remedies = append(remedies, s.Remedy.Remedy)
		} else {
			names[s.Remedy.Remedy] += ", "
		}
		names[s.Remedy.Remedy] += s.Source
	}
	for _, remedy := range remedies {
		t.print("    %s\n", t.paint(bold, names[remedy]))
		t.remedy(remedy)
	}
}

// endRoute says which steps of a route there was no way to.
func (t *Text) endRoute() {
	if t.notReached != nil {
		t.line(Skipped, "not reached", strings.Join(t.notReached, ", "))
	}
	t.notReached = nil
	t.gap()
}

// classes say what an exit code means.
var classes = map[int]string{
	2:                                "configuration",
	int(diagnose.ClassToken):         "no token",
	int(diagnose.ClassNetwork):       "network",
	int(diagnose.ClassAuthorization): "authorization",
	int(diagnose.ClassEndpoint):      "endpoint, deployment or api-version",
}

// End prints the verdict.
func (t *Text) End(r Report) {
	t.endRoute()
	if r.OK {
		t.print("%s\n", t.paint(green, "All is well."))
		return
	}
	verdict := fmt.Sprintf("Exit code %d: %s.", r.ExitCode, classes[r.ExitCode])
	if first := slices.IndexFunc(r.Routes, func(r Route) bool { return !r.OK }); len(r.Routes) > 1 {
		verdict = fmt.Sprintf("Exit code %d: %s, of route %s.", r.ExitCode, classes[r.ExitCode], r.Routes[first].Prefix)
	}
	t.print("%s\n", t.paint(red, verdict))
}

func (t *Text) line(status Status, name, summary string) {
	colour := ""
	if status == Skipped {
		colour = dim
	}
	t.print("  %s %s\n", t.mark(status), t.paint(colour, fmt.Sprintf("%-*s%s", column-4, name, summary)))
}

// finding prints a cause, what it means, and the commands that mend it.
func (t *Text) finding(f Finding) {
	name := f.Cause
	if f.Detail != "" {
		name += ": " + f.Detail
	}
	t.gap()
	t.print("    %s\n", t.paint(bold, name))
	for _, line := range wrap(f.Sentence, width-4) {
		t.print("    %s\n", line)
	}
	t.gap()
	if f.Remedy != "" {
		t.remedy(f.Remedy)
	}
}

// remedy prints commands to copy. They are not wrapped, for a shell would take
// a broken line for two.
func (t *Text) remedy(commands string) {
	for line := range strings.SplitSeq(commands, "\n") {
		command, comment, commented := strings.Cut(line, "#")
		if commented {
			comment = t.paint(dim, "#"+comment)
		}
		t.print("      %s%s\n", command, comment)
	}
	t.gap()
}

// under prints something below a summary, with the lines of its text aligned.
func (t *Text) under(mark, name, text string) {
	blank := ""
	if mark != "" {
		blank = "  "
	}
	for _, line := range wrap(printable(text), width-column) {
		t.print("%*s%s%s\n", column, "", mark, t.paint(dim, name+line))
		mark, name = blank, strings.Repeat(" ", len(name))
	}
}

// wrap breaks text at blanks.
func wrap(text string, width int) []string {
	lines := []string{""}
	for word := range strings.FieldsSeq(text) {
		last := &lines[len(lines)-1]
		if *last != "" && len(*last)+1+len(word) > width {
			lines = append(lines, word)
		} else {
			*last = strings.TrimSpace(*last + " " + word)
		}
	}
	return lines
}

// gap separates what follows by one empty line.
func (t *Text) gap() {
	if !t.spaced {
		t.print("\n")
	}
	t.spaced = true
}

func (t *Text) print(format string, args ...any) {
	_, _ = fmt.Fprintf(t.W, format, args...)
	t.spaced = false
}

func (t *Text) paint(colour, text string) string {
	if !t.Colour || colour == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (t *Text) mark(s Status) string {
	look := looks[s]
	if t.ASCII {
		return t.paint(look.colour, look.ascii)
	}
	return t.paint(look.colour, look.mark)
}
