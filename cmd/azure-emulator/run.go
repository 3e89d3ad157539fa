package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"entra-sidecar/test/azure"
)

// flags are the settings of the program; each can also be set by the
// environment variable AZURE_EMULATOR_ and its name.
type flags struct {
	Listen          string   `default:"127.0.0.1:4011" help:"Address of the Azure side (https)."`
	IdentityListen  string   `default:"127.0.0.1:4012" help:"Address of the identity side (http)."`
	AuthorityListen string   `default:"127.0.0.1:4013" help:"Address of the identity side (https)."`
	ControlListen   string   `default:"127.0.0.1:4010" help:"Address of the control API (http)."`
	Host            string   `help:"Name under which clients reach the emulator, such as a compose service." placeholder:"NAME"`
	TLSName         []string `help:"Further name or address for the certificate." placeholder:"NAME"`
	CAFile          string   `help:"Where to write the CA (default: a temporary file)." placeholder:"FILE"`
	BundleFile      string   `help:"Where to write the CA and the system's roots (default: a temporary file)." placeholder:"FILE"`

	TenantID              string `default:"${tenant}" help:"Tenant of the principal and the resource."`
	ClientID              string `default:"${client}" help:"Client id of the principal."`
	ObjectID              string `default:"${object}" help:"Object id of the principal."`
	ClientSecret          string `default:"${secret}" help:"Client secret of the principal."`
	ClientCertificateFile string `help:"Certificate (PEM) that the principal may sign assertions with." type:"existingfile" placeholder:"FILE"`
	IdentityHeader        string `default:"emulated" help:"IDENTITY_HEADER that the managed identity endpoint demands."`

	TokenLife  time.Duration `default:"1h" help:"Life of the tokens issued."`
	Role       []string      `help:"Role of the principal on the resource, repeatable (default: all that are needed)." placeholder:"ROLE"`
	Deployment []string      `help:"Deployment that exists, repeatable; * for any (default: the usual ones)." placeholder:"NAME"`
	Key        string        `default:"${key}" help:"The resource's own api-key."`
	KeyAuth    bool          `help:"Permit the api-key (disableLocalAuth=false)."`
	Chunks     int           `help:"Number of content deltas in a stream (default: one for each word)."`
	ChunkDelay time.Duration `help:"Pause between them."`
	Fault      []string      `help:"Fault from the start, repeatable: ${faults}." placeholder:"NAME"`
	Faults     string        `default:"{}" help:"Faults from the start as the control API's JSON." placeholder:"JSON"`
	Verbose    bool          `help:"Log each request to standard error."`
}

// Exit codes.
const (
	failed = 1
	misuse = 2
)

// run is the program. It serves until ctx ends and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var f flags
	helped := false
	parser, err := kong.New(&f, kong.Name("azure-emulator"),
		kong.Description("Emulates Entra ID and Azure OpenAI."), kong.DefaultEnvars("AZURE_EMULATOR"),
		kong.Writers(stdout, stderr), kong.Exit(func(int) { helped = true }), defaults())
	if err != nil {
		return report(stderr, err, failed)
	}
	if _, err := parser.Parse(args); err != nil {
		return report(stderr, err, misuse)
	}
	if helped {
		return 0
	}
	options, err := f.options(stderr)
	if err != nil {
		return report(stderr, err, misuse)
	}
	emulator, err := azure.Start(options)
	if err != nil {
		return report(stderr, err, failed)
	}
	defer emulator.Close()
	greet(stdout, emulator)
	<-ctx.Done()
	return 0
}

func report(stderr io.Writer, err error, code int) int {
	fmt.Fprintf(stderr, "azure-emulator: %v\n", err)
	return code
}

func defaults() kong.Vars {
	p := azure.DefaultPrincipal()
	return kong.Vars{
		"tenant": p.TenantID, "client": p.ClientID, "object": p.ObjectID, "secret": p.ClientSecret,
		"key": azure.DefaultKey, "faults": strings.Join(azure.FaultNames(), ", "),
	}
}

func (f *flags) options(stderr io.Writer) (azure.Options, error) {
	faults, err := f.faults()
	if err != nil {
		return azure.Options{}, err
	}
	principal := azure.Principal{
		TenantID: f.TenantID, ClientID: f.ClientID, ObjectID: f.ObjectID, ClientSecret: f.ClientSecret,
	}
	if f.ClientCertificateFile != "" {
		if principal.Certificate, err = readCertificate(f.ClientCertificateFile); err != nil {
			return azure.Options{}, fmt.Errorf("--client-certificate-file: %w", err)
		}
	}
	return azure.Options{
		Listen: f.Listen, IdentityListen: f.IdentityListen, AuthorityListen: f.AuthorityListen, ControlListen: f.ControlListen,
		Host: f.Host, Names: f.TLSName, CAFile: f.CAFile, BundleFile: f.BundleFile,
		Principals: []azure.Principal{principal}, IdentityHeader: f.IdentityHeader,
		Faults: faults, Logger: f.logger(stderr),
	}, nil
}

// faults combines the flags, the names and the JSON, of which the last has the
// last word.
func (f *flags) faults() (azure.Faults, error) {
	faults := azure.Faults{
		Resource: azure.Resource{Roles: f.Role, Deployments: f.Deployment, Key: f.Key, KeyAuth: f.KeyAuth},
		Tokens:   azure.Tokens{Life: azure.Seconds(f.TokenLife.Seconds())},
		Pace:     azure.Pace{Chunks: f.Chunks, ChunkDelay: azure.Seconds(f.ChunkDelay.Seconds())},
	}
	for _, name := range f.Fault {
		if err := faults.Add(name); err != nil {
			return faults, fmt.Errorf("--fault: %w", err)
		}
	}
	if _, err := faults.Patched([]byte("{}")); err != nil {
		return faults, err
	}
	patched, err := faults.Patched([]byte(f.Faults))
	if err != nil {
		return faults, fmt.Errorf("--faults: %w", err)
	}
	return patched, nil
}

func (f *flags) logger(stderr io.Writer) *zap.Logger {
	if !f.Verbose {
		return zap.NewNop()
	}
	encoder := zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig())
	return zap.New(zapcore.NewCore(encoder, zapcore.AddSync(stderr), zap.DebugLevel))
}

func readCertificate(file string) (*x509.Certificate, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
	}
	return nil, errors.New("no certificate in " + file)
}

// greet prints what to paste.
func greet(w io.Writer, e *azure.Emulator) {
	fmt.Fprintf(w, "Azure is emulated at %s. A client needs:\n\n", e.URL)
	for _, variable := range e.Env() {
		fmt.Fprintf(w, "  export %s\n", variable)
	}
	fmt.Fprintf(w, `
Entra ID   %s (https: %s)
Proxy      HTTPS_PROXY=%s makes https://NAME.openai.azure.com lead here
CA         %s
Control    %s lists what can be done; for example
           curl -X POST %s/faults/missing-role
`, e.IdentityURL, e.AuthorityURL, e.IdentityURL, e.CAFile, e.ControlURL, e.ControlURL)
}
