// Command entra-sidecar gives every request to Azure OpenAI an Entra ID token.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"entra-sidecar/cmd/internal/app"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(app.Run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
}
