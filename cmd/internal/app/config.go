package app

import (
	"fmt"

	"entra-sidecar/config"
)

type configCommand struct{}

func (configCommand) Run(e env) error {
	c, err := config.Load(e.sources)
	if err != nil {
		return err
	}
	for _, warning := range c.Warnings {
		fmt.Fprintf(e.stderr, "entra-sidecar: warning: %s\n", warning)
	}
	return c.Print(e.stdout)
}
