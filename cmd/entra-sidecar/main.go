// Command entra-sidecar gives every request to Azure OpenAI an Entra ID token.
package main

import (
	"os"

	"entra-sidecar/cmd/internal/app"
)

func main() {
	os.Exit(app.Run(app.UntilSignal(), os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
}
