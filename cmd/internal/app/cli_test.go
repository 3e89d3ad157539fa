package app

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"entra-sidecar/config"
)

// The scripts run the program in this process, with the environment of the
// script alone: exits CODE ARGUMENT... is a command line and its exit code.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) == 0 {
					ts.Fatalf("usage: exits CODE ARGUMENT...")
				}
				lookup := func(name string) (string, bool) { v := ts.Getenv(name); return v, v != "" }
				got := Run(t.Context(), args[1:], lookup, ts.Stdout(), ts.Stderr())
				if want, err := strconv.Atoi(args[0]); err != nil || got != want {
					ts.Fatalf("it exits with %d, not %s", got, args[0])
				}
			},
		},
	})
}

// run runs the program with flags only.
func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Run(t.Context(), args, func(string) (string, bool) { return "", false }, &out, &errs)
	return code, out.String(), errs.String()
}

// Package config decides what a value means, so each flag must hand it over as
// it is, before and after the command.
func TestEveryFlagReachesTheConfiguration(t *testing.T) {
	for _, s := range config.Settings() {
		if s.Flag == "" {
			continue
		}
		flag := "--" + s.Flag + "=\x01"
		for _, args := range [][]string{{flag, "config"}, {"config", flag}, {flag}, {"serve", flag}} {
			code, _, stderr := run(t, args...)
			if want := fmt.Sprintf("%s (--%s): holds a line break", s.Name, s.Flag); code != exitUsage || !strings.Contains(stderr, want) {
				t.Errorf("%q exits with %d and says %s", args, code, stderr)
			}
		}
	}
}

func TestASwitchNeedsNoValue(t *testing.T) {
	for _, s := range config.Settings() {
		if !s.Switch {
			continue
		}
		_, stdout, stderr := run(t, "config", "--upstream", "https://my.openai.azure.com", "--tls-listen=127.0.0.1:4443", "--tls-self-signed", "--"+s.Flag)
		key := s.Name[strings.LastIndex(s.Name, ".")+1:]
		if !strings.Contains(strings.Join(strings.Fields(stdout), " "), key+": true # --"+s.Flag) {
			t.Errorf("--%s is not set: %s%s", s.Flag, stdout, stderr)
		}
	}
}

func TestTheHelpNamesEveryFlagAndCommandAndFitsATerminal(t *testing.T) {
	t.Setenv("COLUMNS", "80")
	code, stdout, stderr := run(t, "--help")
	if code != exitOK || stderr != "" {
		t.Errorf("it exits with %d: %s", code, stderr)
	}
	for _, s := range config.Settings() {
		if s.Flag != "" && !strings.Contains(stdout, "--"+s.Flag) {
			t.Errorf("it lacks --%s", s.Flag)
		}
	}
	for _, command := range []string{"serve", "check", "healthcheck", "config", "version"} {
		if !strings.Contains(stdout, "\n  "+command+" ") {
			t.Errorf("it lacks %s", command)
		}
	}
	for line := range strings.Lines(stdout) {
		if len(strings.TrimRight(line, "\n")) > 80 {
			t.Errorf("a line is too long: %s", line)
		}
	}
}
