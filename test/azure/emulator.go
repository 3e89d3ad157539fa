package azure

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Options are the choices for a new emulator. The zero value is one on loopback
// ports of the system's choice, with one principal.
type Options struct {
	// Listen is the address of the Azure side. Default: 127.0.0.1:0, as for the others.
	Listen string
	// IdentityListen serves the identity side over plain HTTP.
	IdentityListen string
	// AuthorityListen serves the identity side over TLS.
	AuthorityListen string
	// ControlListen serves the control API.
	ControlListen string
	// Host is the name under which clients reach the emulator, if it is not the
	// listening address: a service of compose, for example.
	Host string
	// Names are further names and addresses for the certificate.
	Names []string
	// CAFile and BundleFile are where to write the CA. Default: a temporary directory.
	CAFile, BundleFile string
	// Principals are who can get a token. The first one is the system-assigned
	// managed identity. Default: [DefaultPrincipal].
	Principals []Principal
	// IdentityHeader is the secret of App Service's endpoint. Default: "emulated".
	IdentityHeader string
	// Faults are in force from the start. [Emulator.Reset] returns to them.
	Faults Faults
	// Journal is how many requests to remember. Default: 10,000; negative: none.
	Journal int
	// Logger gets a line for each request at debug level. Default: none.
	Logger *zap.Logger
}

// Emulator is a running Azure. Its exported fields never change.
type Emulator struct {
	URL          string // of the Azure side, https
	IdentityURL  string // of the identity side, http; also an HTTP proxy to the emulated host names
	AuthorityURL string // of the identity side, https, for AZURE_AUTHORITY_HOST
	ControlURL   string // of the control API, http
	CAFile       string // PEM: the emulator's CA and nothing else
	BundleFile   string // PEM: the same and the system's roots, for SSL_CERT_FILE

	initial    Faults
	switches   switches
	signer     *signer
	principals []Principal
	header     string
	routes     routes
	requests   journal[*record]
	issued     journal[TokenRequest]
	reused     reusedTokens
	ephemeral  ephemeralKeys
	objects    store
	logger     *zap.Logger
	dir        string // temporary files

	azure, identity, authority, control *gate
	servers                             []*http.Server
	running                             sync.WaitGroup
}

// Start starts an emulator. The caller must Close it.
func Start(o Options) (*Emulator, error) {
	if err := o.Faults.validate(); err != nil {
		return nil, err
	}
	e := &Emulator{
		initial:    o.Faults,
		principals: slices.Clone(o.Principals),
		header:     orElse(o.IdentityHeader, "emulated"),
		routes:     newRoutes(),
		requests:   journal[*record]{limit: o.Journal, retire: (*record).forget},
		issued:     journal[TokenRequest]{limit: o.Journal},
		logger:     o.Logger,
	}
	if e.logger == nil {
		e.logger = zap.NewNop()
	}
	if len(e.principals) == 0 {
		e.principals = []Principal{DefaultPrincipal()}
	}
	e.switches.current.Store(o.Faults.clone())
	if err := e.start(o); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

func (e *Emulator) start(o Options) (err error) {
	if e.signer, err = newSigner(); err != nil {
		return err
	}
	if e.dir, err = os.MkdirTemp("", "azure-emulator-"); err != nil {
		return err
	}
	certificates, err := newCertificates(hostsOf(o))
	if err != nil {
		return fmt.Errorf("making certificates: %w", err)
	}
	e.CAFile = orElse(o.CAFile, filepath.Join(e.dir, "ca.pem"))
	e.BundleFile = orElse(o.BundleFile, filepath.Join(e.dir, "ca-bundle.pem"))
	if err := certificates.write(e.CAFile, e.BundleFile); err != nil {
		return err
	}
	if err := e.listen(o); err != nil {
		return err
	}
	e.serve(certificates.leaf)
	return e.obey(e.switches.get())
}

// hostsOf are the names and addresses beyond loopback that the certificate must cover.
func hostsOf(o Options) []string {
	hosts := slices.Clone(o.Names)
	for _, address := range []string{o.Host, hostname(o.Listen), hostname(o.AuthorityListen)} {
		if ip := net.ParseIP(address); address != "" && (ip == nil || !ip.IsUnspecified()) {
			hosts = append(hosts, address)
		}
	}
	return hosts
}

func (e *Emulator) listen(o Options) error {
	for _, l := range []struct {
		gate    **gate
		url     *string
		scheme  string
		address string
	}{
		{&e.azure, &e.URL, "https", o.Listen},
		{&e.identity, &e.IdentityURL, "http", o.IdentityListen},
		{&e.authority, &e.AuthorityURL, "https", o.AuthorityListen},
		{&e.control, &e.ControlURL, "http", o.ControlListen},
	} {
		g, err := newGate(orElse(l.address, "127.0.0.1:0"))
		if err != nil {
			return err
		}
		host, port, _ := net.SplitHostPort(g.address)
		*l.gate, *l.url = g, l.scheme+"://"+net.JoinHostPort(orElse(o.Host, host), port)
	}
	e.azure.idle = func() (closeAfter, dropAfter time.Duration) {
		f := e.switches.get()
		return f.CloseIdleAfter.Duration(), f.DropIdleAfter.Duration()
	}
	return nil
}

// serve starts the four servers. There is no write timeout: it would end
// streams, and slow answers are what the emulator is for.
func (e *Emulator) serve(leaf tls.Certificate) {
	identity := http.HandlerFunc(e.serveIdentity)
	for _, s := range []struct {
		gate    *gate
		handler http.Handler
		tls     bool
	}{
		{e.azure, http.HandlerFunc(e.serveAzure), true},
		{e.identity, identity, false},
		{e.authority, identity, true},
		{e.control, e.controlHandler(), false},
	} {
		server := &http.Server{
			Handler:           s.handler,
			ReadHeaderTimeout: time.Minute,
			ConnState:         connState,
			ErrorLog:          zap.NewStdLog(e.logger.Named("http")),
		}
		e.servers = append(e.servers, server)
		e.running.Go(func() {
			if s.tls {
				server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{leaf}}
				_ = server.ServeTLS(s.gate, "", "")
			} else {
				_ = server.Serve(s.gate) // ends with ErrServerClosed
			}
		})
	}
}

// Close ends all connections and removes what was written to the temporary directory.
func (e *Emulator) Close() {
	for _, g := range []*gate{e.azure, e.identity, e.authority, e.control} {
		if g != nil {
			g.Close()
		}
	}
	for _, server := range e.servers {
		_ = server.Close()
	}
	e.running.Wait()
	if e.dir != "" {
		_ = os.RemoveAll(e.dir)
	}
}

// Set changes the faults. The function gets a copy that it may change at will;
// what it leaves behind is in force when Set returns. A fault by an unknown
// name is a mistake of the caller's and panics.
func (e *Emulator) Set(change func(*Faults)) {
	if err := e.change(func(f *Faults) error { change(f); return f.validate() }); err != nil {
		panic(err)
	}
}

// Reset returns to the faults of the start.
func (e *Emulator) Reset() { e.Set(func(f *Faults) { *f = *e.initial.clone() }) }

// Faults returns a copy of the faults in force, with the rules' counts as they
// stand; a rule whose times are over shows -1.
func (e *Emulator) Faults() Faults { return *e.switches.get().clone() }

func (e *Emulator) change(change func(*Faults) error) error {
	e.switches.mu.Lock()
	defer e.switches.mu.Unlock()
	next := e.switches.get().clone()
	if err := change(next); err != nil {
		return err
	}
	e.switches.current.Store(next)
	return e.obey(next)
}

// obey brings the listeners into the state that f asks for.
func (e *Emulator) obey(f *Faults) error {
	return errors.Join(
		e.azure.setDown(f.AzureDown),
		e.identity.setDown(f.EntraDown),
		e.authority.setDown(f.EntraDown),
	)
}

// Revoke makes the resource refuse every token that was issued so far.
func (e *Emulator) Revoke() { e.signer.revoke() }

// RotateKeys signs from now on with a new key. Earlier tokens stay good.
func (e *Emulator) RotateKeys() error { return e.signer.rotate() }

// Requests returns what the Azure side received, oldest first, including what
// is still being answered.
func (e *Emulator) Requests() []Request {
	records := e.requests.latest()
	requests := make([]Request, len(records))
	for i, rec := range records {
		requests[i] = rec.snapshot()
	}
	return requests
}

// TokenRequests returns what the identity side received, oldest first.
func (e *Emulator) TokenRequests() []TokenRequest { return e.issued.latest() }

// Forget empties both journals.
func (e *Emulator) Forget() {
	e.requests.clear()
	e.issued.clear()
}

// Env is the environment of a client process that is to meet this Azure through
// App Service's managed identity endpoint.
func (e *Emulator) Env() []string {
	return []string{
		"AZURE_OPENAI_ENDPOINT=" + e.URL,
		"IDENTITY_ENDPOINT=" + e.IdentityURL + appServicePath,
		"IDENTITY_HEADER=" + e.header,
		"SSL_CERT_FILE=" + e.BundleFile,
	}
}
