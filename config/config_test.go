package config

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A given is what a test loads from.
type given struct {
	file  string // content; none if empty
	env   map[string]string
	flags map[string]string
}

func (g given) sources(t testing.TB) Sources {
	t.Helper()
	flags := maps.Clone(g.flags)
	if g.file != "" {
		name := filepath.Join(t.TempDir(), "sidecar.yaml")
		if err := os.WriteFile(name, []byte(g.file), 0o600); err != nil {
			t.Fatal(err)
		}
		if flags == nil {
			flags = make(map[string]string)
		}
		flags["config"] = name
	}
	return Sources{Flags: flags, LookupEnv: func(name string) (string, bool) {
		value, ok := g.env[name]
		return value, ok
	}}
}

// load loads what is valid.
func (g given) load(t testing.TB) *Config {
	t.Helper()
	c, err := Load(g.sources(t))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// problems loads what is not, and returns the problems with the file's
// directory left out.
func (g given) problems(t testing.TB) []string {
	t.Helper()
	s := g.sources(t)
	c, err := Load(s)
	if err == nil {
		return nil
	}
	if c != nil {
		t.Error("there is a configuration besides the error")
	}
	problems, ok := err.(Problems)
	if !ok {
		t.Fatalf("the error is a %T", err)
	}
	var texts []string
	for _, p := range problems {
		texts = append(texts, strings.ReplaceAll(p.Error(), filepath.Dir(s.Flags["config"])+"/", ""))
	}
	return texts
}

// upstream is the least that must be set.
var upstream = map[string]string{"upstream": "https://my.openai.azure.com"}

// with returns the flags of a valid configuration and some more.
func with(flags ...string) map[string]string {
	all := maps.Clone(upstream)
	for i := 0; i < len(flags); i += 2 {
		all[flags[i]] = flags[i+1]
	}
	return all
}

// write returns the name of a file with the content.
func write(t *testing.T, content string, mode os.FileMode) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return name
}
