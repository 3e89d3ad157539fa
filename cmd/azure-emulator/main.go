// Command azure-emulator serves an emulated Entra ID and Azure OpenAI, for
// compose demonstrations and manual work. It issues tokens to whoever asks,
// and they open nothing but the emulator itself.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
