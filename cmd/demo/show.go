package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// A show prints what happens. It uses colour at a terminal only, and not where
// NO_COLOR asks for none (https://no-color.org).
type show struct {
	out    *os.File
	colour bool
}

func newShow(out *os.File) *show {
	info, err := out.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &show{out: out, colour: terminal && os.Getenv("NO_COLOR") == ""}
}

const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
	cyan  = "36"
)

func (s *show) paint(code, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s *show) print(text string) { _, _ = fmt.Fprint(s.out, text) }
func (s *show) line(text string)  { s.print("  " + text + "\n") }

func (s *show) title(name, subtitle string) {
	s.print("\n  " + s.paint(bold, name) + "\n  " + s.paint(dim, subtitle) + "\n")
}

func (s *show) step(n int, title string) {
	s.print(fmt.Sprintf("\n%s  %s\n", s.paint(cyan, fmt.Sprintf("%d", n)), s.paint(bold, title)))
}

func (s *show) status(code string, status int) string { return s.paint(code, fmt.Sprint(status)) }

// refused shows an error's message as it stands in the answer.
func (s *show) refused(status int, body string) {
	var answer struct{ Error struct{ Message string } }
	if json.Unmarshal([]byte(body), &answer) == nil && answer.Error.Message != "" {
		body = answer.Error.Message
	}
	s.line(" " + s.status(red, status) + "  " + wrap(body, 8))
}

func (s *show) answered(status int, text string) {
	s.line(" " + s.status(green, status) + "  " + wrap(text, 8))
}

func (s *show) beginStream(status int) { s.print("   " + s.status(green, status) + "  ") }
func (s *show) delta(text string)      { s.print(text) }
func (s *show) endStream()             { s.print("\n") }
func (s *show) facts(facts ...string) {
	s.line(" " + s.paint(green, "ok") + "   " + strings.Join(facts, " · "))
}
func (s *show) remark(text string) { s.line("      " + s.paint(dim, wrap(text, 8))) }
func (s *show) failure(err error)  { s.line(" " + s.paint(red, "FAILED: "+err.Error())) }

func (s *show) invitation(title, text string) {
	s.print("\n  " + s.paint(bold, title) + "\n\n    " + strings.ReplaceAll(text, "\n", "\n    ") + "\n")
}

// wrap breaks text at the width of an ordinary terminal, indenting what follows.
func wrap(text string, indent int) string {
	const width = 96
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && indent+len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return strings.Join(append(lines, line), "\n"+strings.Repeat(" ", indent))
}
