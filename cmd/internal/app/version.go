package app

import (
	"fmt"
	"runtime"
)

type versionCommand struct{}

func (versionCommand) Run(e env) error {
	_, err := fmt.Fprintln(e.stdout, thisBuild())
	return err
}

// String is one line, such as "entra-sidecar v1.2.0 (0a1b2c3) go1.26.8 linux/amd64".
func (b build) String() string {
	text := "entra-sidecar " + b.version
	if b.revision != "" {
		text += " (" + b.revision + ")"
	}
	return fmt.Sprintf("%s %s %s/%s", text, b.goVersion, runtime.GOOS, runtime.GOARCH)
}
