// Package app is the program entra-sidecar: its commands, and the wiring of
// settings, tokens and proxy. Each command has a file of its own.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"

	"entra-sidecar/config"
)

// Exit codes of all commands. The command check has more of its own.
const (
	exitOK      = 0
	exitFailure = 1 // at run time
	exitUsage   = 2 // configuration or command line
)

// An env is what a command gets from the process that it runs in.
type env struct {
	lookup         func(name string) (string, bool) // such as os.LookupEnv
	stdout, stderr io.Writer
	sources        config.Sources // flags and environment, for config.Load
}

// Run runs the program until it is done or ctx ends, and returns its exit code.
func Run(ctx context.Context, args []string, lookup func(string) (string, bool), stdout, stderr io.Writer) int {
	e := env{lookup: lookup, stdout: stdout, stderr: stderr}
	err := parseAndRun(ctx, args, e)
	if err != nil && err.Error() != "" {
		fmt.Fprintf(stderr, "entra-sidecar: %v\n", err)
	}
	return exitCode(err)
}

// An exitError ends the program with a code of its own. Without an error in it,
// the command has already said what there is to say.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Unwrap() error { return e.err }

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if _, ok := errors.AsType[config.Problems](err); ok {
		return exitUsage
	}
	return exitFailure
}
