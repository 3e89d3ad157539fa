package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"entra-sidecar/cmd/internal/app"
	"entra-sidecar/test/azure"
)

// rotationLife is how long tokens live while the demo runs, so that a rotation
// can be watched. The sidecar renews at half of it. Real ones live an hour or more.
const rotationLife = azure.Seconds(8)

// demo is an emulated Azure and a sidecar before it.
type demo struct {
	show    *show
	azure   *azure.Emulator
	client  *http.Client // trusts the emulator, as the machine would trust Azure
	sidecar string       // the sidecar's base URL
	admin   string
}

// run shows every step. Unless once is set it then stays until ctx ends.
func run(ctx context.Context, out *os.File, once bool) error {
	emulator, err := azure.Start(azure.Options{Faults: azure.Faults{Tokens: azure.Tokens{Life: rotationLife}}})
	if err != nil {
		return err
	}
	defer emulator.Close()

	d := &demo{show: newShow(out), azure: emulator}
	if d.client, err = trusting(emulator.CAFile); err != nil {
		return err
	}
	stop, err := d.startSidecar(ctx)
	if err != nil {
		return err
	}
	defer stop()

	d.show.title("entra-sidecar: Azure OpenAI without a key", "an emulated Azure, the real sidecar, real requests")
	err = d.steps(ctx)
	emulator.Set(func(f *azure.Faults) { f.Tokens.Life = 0 }) // an hour from here on
	if err != nil || once || ctx.Err() != nil {
		return err
	}
	d.invite()
	<-ctx.Done()
	return nil
}

// steps runs all of them, whatever fails, and reports what did.
func (d *demo) steps(ctx context.Context) error {
	var failed []error
	for i, step := range []struct {
		title string
		run   func(context.Context) error
	}{
		{"LiteLLM's request straight to Azure, with a dummy key", d.withoutSidecar},
		{"The same request through the sidecar", d.throughSidecar},
		{"A streamed answer", d.streamed},
		{"Embeddings", d.embeddings},
		{"A realtime WebSocket", d.realtime},
		{"Tokens rotate under traffic", d.rotation},
	} {
		d.show.step(i+1, step.title)
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		err := step.run(ctx)
		cancel()
		if err != nil {
			d.show.failure(err)
			failed = append(failed, fmt.Errorf("step %d, %s: %w", i+1, step.title, err))
		}
	}
	return errors.Join(failed...)
}

// startSidecar runs the program of cmd/entra-sidecar with nothing but settings
// that a user has, too. Its credential is the real DefaultAzureCredential, which
// finds the emulator as it would find App Service's managed identity.
func (d *demo) startSidecar(ctx context.Context) (stop func(), err error) {
	for _, variable := range d.azure.Env() {
		name, value, _ := strings.Cut(variable, "=")
		if err := os.Setenv(name, value); err != nil {
			return nil, err
		}
	}
	listen, adminListen := freeAddress("127.0.0.1:4001"), freeAddress("127.0.0.1:4002")
	d.sidecar, d.admin = "http://"+listen, "http://"+adminListen

	ctx, cancel := context.WithCancel(ctx)
	var log bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		args := []string{"serve", "--listen", listen, "--admin-listen", adminListen, "--drain-timeout", "2s", "--log-level", "warn"}
		ended <- app.Run(ctx, args, os.LookupEnv, io.Discard, &log)
	}()
	stop = func() {
		cancel()
		<-ended
	}
	if err := d.awaitReady(ctx); err != nil {
		stop()
		return nil, fmt.Errorf("the sidecar did not start: %w\n%s", err, log.String())
	}
	return stop, nil
}

func (d *demo) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		res, err := d.send(ctx, http.MethodGet, d.admin+"/readyz", nil)
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(res.Status)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// freeAddress returns address, or another port if that one is taken.
func freeAddress(address string) string {
	for _, candidate := range []string{address, "127.0.0.1:0"} {
		if l, err := net.Listen("tcp", candidate); err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	return address
}

func trusting(caFile string) (*http.Client, error) {
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("no certificate in %s", caFile)
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}, nil
}

// invite prints what to try next.
func (d *demo) invite() {
	d.show.invitation("It stays up. Try it:",
		`curl `+d.sidecar+chatPath+` \
    -H 'Content-Type: application/json' -d '{"messages":[{"role":"user","content":"hello"}]}'`)
	d.show.invitation("LiteLLM's config.yaml:", `model_list:
  - model_name: gpt-4o
    litellm_params:
      model: azure/gpt-4o
      api_base: `+d.sidecar+`
      api_version: "`+apiVersion+`"
      api_key: sidecar        # any word: the sidecar takes it off`)
	d.show.invitation("Look inside:",
		"status   "+d.admin+"/\nmetrics  "+d.admin+"/metrics\nfaults   "+d.azure.ControlURL+"/faults   (of the emulated Azure)")
	d.show.line("\n  Ctrl-C ends it.")
}
