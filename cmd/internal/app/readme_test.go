package app

import (
	"flag"
	"os"
	"strings"
	"testing"

	"entra-sidecar/config"
)

var update = flag.Bool("update", false, "write the README's table of settings instead of comparing it")

const readme = "../../../README.md"

// Each setting is documented once, in package config.
func TestTheReadmeListsTheSettings(t *testing.T) {
	content, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(content), "<!-- settings: ")
	marker, rest, ok2 := strings.Cut(rest, "-->\n")
	got, tail, ok3 := strings.Cut(rest, "<!-- /settings -->")
	if !ok || !ok2 || !ok3 {
		t.Fatal("the README has no place for the settings")
	}
	want := "\n" + strings.TrimSpace(config.MarkdownTable()) + "\n\n"
	if got == want {
		return
	}
	if !*update {
		t.Fatal("the README's settings are out of date: go test ./cmd/internal/app -run ReadmeLists -update")
	}
	content = []byte(head + "<!-- settings: " + marker + "-->\n" + want + "<!-- /settings -->" + tail)
	if err := os.WriteFile(readme, content, 0o644); err != nil {
		t.Fatal(err)
	}
}
