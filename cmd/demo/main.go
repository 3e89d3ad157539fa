// Command demo shows, without an Azure account, the failure that entra-sidecar
// is made for and the fix: it runs an emulator of Azure and the sidecar, the
// same program as cmd/entra-sidecar, in one process and sends real requests.
//
//	go run ./cmd/demo        shows everything, then stays up to be played with
//	go run ./cmd/demo -once  exits with 0 if every step showed what it should
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	once := flag.Bool("once", false, "run through and exit: 0 if every step showed what it should, 1 if not")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, *once)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}
