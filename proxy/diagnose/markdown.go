package diagnose

import (
	"cmp"
	"fmt"
	"strings"
)

var headings = map[Kind]string{
	KindAnswer:     "What Azure answers",
	KindSignIn:     "What Entra answers",
	KindCredential: "Why there is no credential",
	KindNetwork:    "Why Azure cannot be reached",
}

// Markdown renders the table for the documentation: for each kind of cause a
// table to look it up in, and below it the commands that mend each.
func Markdown() string {
	var b strings.Builder
	rows := Causes()
	for _, kind := range []Kind{KindAnswer, KindSignIn, KindCredential, KindNetwork} {
		fmt.Fprintf(&b, "## %s\n\n| cause | seen as | meaning | exit |\n|---|---|---|---|\n", headings[kind])
		for _, r := range rows {
			if r.Kind == kind {
				fmt.Fprintf(&b, "| [`%s`](#%s) | %s | %s | %s |\n", r.name(), strings.ToLower(r.name()), r.signature(), r.Sentence, r.exit())
			}
		}
		b.WriteString("\n")
		for _, r := range rows {
			if r.Kind == kind {
				fmt.Fprintf(&b, "### %s\n\n```sh\n%s\n```\n\n", r.name(), r.example())
			}
		}
	}
	return b.String()
}

// name is what a row is called in the documentation.
func (r *Row) name() string { return cmp.Or(r.Detail, r.Cause) }

// signature is the text people search for.
func (r *Row) signature() string {
	var parts []string
	if r.Status != 0 {
		parts = append(parts, fmt.Sprint(r.Status))
	}
	if r.Code != "" {
		parts = append(parts, "`"+r.Code+"`")
	}
	if len(r.Phrases) > 0 {
		parts = append(parts, "`"+strings.Join(r.Phrases, "`, `")+"`")
	}
	return strings.Join(parts, " ")
}

// exit is the exit status of the check command, if the cause fails it.
func (r *Row) exit() string {
	if r.Class == ClassNone {
		return ""
	}
	return fmt.Sprint(int(r.Class))
}

// example is the remedy for a chat completion of which nothing else is known.
func (r *Row) example() string {
	e := &evidence{in: Input{Path: "/openai/deployments/DEPLOYMENT/chat/completions", Query: "api-version=VERSION"}}
	return expand(r.Remedy, func(name string) string {
		if name == "SKEW" {
			return "" // zero is a difference, not the lack of one
		}
		return e.fact(name)
	})
}
