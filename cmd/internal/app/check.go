package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	azlog "github.com/Azure/azure-sdk-for-go/sdk/azcore/log"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"entra-sidecar/cmd/internal/check"
	"entra-sidecar/config"
	"entra-sidecar/proxy"
	"entra-sidecar/tokencache"
)

type checkCommand struct {
	Route      string        `placeholder:"PREFIX" help:"Examine this route only." group:"Check:"`
	Deployment string        `placeholder:"NAME" help:"Ask this deployment for one token as well." group:"Check:"`
	Timeout    time.Duration `default:"30s" help:"Limit for each route. Default ${default}." group:"Check:"`
	Output     string        `enum:"text,json" default:"text" placeholder:"FORMAT" help:"text or json. Default ${default}." group:"Check:"`
}

// Run examines the configuration. It starts no listener, so that it can be run
// beside the proxy (kubectl exec) as well as before it (an init container).
func (c checkCommand) Run(ctx context.Context, e env) error {
	loaded, err := config.Load(e.sources)
	if problems, ok := errors.AsType[config.Problems](err); ok {
		return verdict(ctx, check.Refuse(problems, c.printer(e)))
	}
	if err != nil {
		return err
	}
	report, err := check.Run(ctx, check.Options{
		Config:     loaded,
		Token:      newLogins().login,
		Route:      c.Route,
		Deployment: c.Deployment,
		Timeout:    c.Timeout,
		Getenv:     e.getenv,
		Proxy:      http.ProxyFromEnvironment,
		Resolver:   net.DefaultResolver,
		Transport:  proxy.NewTransport(proxy.TransportOptions{DialTimeout: loaded.DialTimeout, TLSTimeout: loaded.TLSTimeout}),
	}, c.printer(e))
	if err != nil {
		return &exitError{exitUsage, err}
	}
	return verdict(ctx, report)
}

// verdict is the report's exit code. What is wrong has been printed.
func verdict(ctx context.Context, r check.Report) error {
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case r.OK:
		return nil
	}
	return &exitError{r.ExitCode, nil}
}

func (c checkCommand) printer(e env) check.Printer {
	if c.Output == "json" {
		return check.JSON{W: e.stdout}
	}
	locale := cmp.Or(e.getenv("LC_ALL"), e.getenv("LC_CTYPE"), e.getenv("LANG"), "UTF-8") // a container has none
	utf8 := strings.ReplaceAll(strings.ToUpper(locale), "-", "")
	return &check.Text{
		W:      e.stdout,
		Colour: isTerminal(e.stdout) && e.getenv("NO_COLOR") == "" && e.getenv("TERM") != "dumb",
		ASCII:  !strings.Contains(utf8, "UTF8"),
	}
}

func (e env) getenv(name string) string {
	value, _ := e.lookup(name)
	return value
}

// logins obtains tokens as serve does, but for the cache around them: a first
// failure is to be told at once, not tried again.
type logins struct {
	known map[tokenKey]func() (check.Login, error)

	mu       sync.Mutex
	reasons  map[string]string // why sources of the default chain were passed over
	answered string            // the one that was not
}

// newLogins listens to azidentity's log, which alone tells how the default
// chain came to its token. The listener is process-wide.
func newLogins() *logins {
	l := &logins{known: make(map[tokenKey]func() (check.Login, error))}
	l.forget()
	azlog.SetEvents(azidentity.EventAuthentication)
	azlog.SetListener(func(_ azlog.Event, message string) { l.note(message) })
	return l
}

// chain is the order of DefaultAzureCredential.
var chain = []string{
	"EnvironmentCredential", "WorkloadIdentityCredential", "ManagedIdentityCredential",
	"AzureCLICredential", "AzureDeveloperCLICredential", "AzurePowerShellCredential",
}

// note reads azidentity's messages: those of a source that cannot be set up are
// worded like the errors of a chain that gives no token.
func (l *logins) note(message string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if list, ok := strings.CutPrefix(message, "NewDefaultAzureCredential failed to initialize some credentials:"); ok {
		for _, f := range tokencache.Explain(errors.New("DefaultAzureCredential: failed to acquire a token.\nAttempted credentials:" + list)) {
			l.reasons[f.Source] = f.Reason
		}
	}
	if strings.HasPrefix(message, "ManagedIdentityCredential will use ") {
		l.reasons["ManagedIdentityCredential"] = "no managed identity answered" // unless it did
	}
	if source, ok := strings.CutPrefix(message, "DefaultAzureCredential authenticated with "); ok {
		l.answered = source
	}
}

// login asks once for each identity and scope: a chain that fails can take most
// of the time that a route has.
func (l *logins) login(ctx context.Context, id config.Identity, scope string) (check.Login, error) {
	key := tokenKey{id.Name, scope}
	if l.known[key] == nil {
		l.known[key] = sync.OnceValues(func() (check.Login, error) { return l.ask(ctx, id, scope) })
	}
	return l.known[key]()
}

func (l *logins) ask(ctx context.Context, id config.Identity, scope string) (check.Login, error) {
	l.forget()
	credential, err := tokencache.NewCredential(identity(id), tokencache.CredentialOptions{})
	if err != nil {
		return check.Login{}, err
	}
	got, err := credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}, EnableCAE: true})
	switch {
	case err != nil:
		return check.Login{}, err
	case got.Token == "":
		return check.Login{}, errors.New("the credential answered without a token")
	case !time.Now().Before(got.ExpiresOn):
		return check.Login{}, fmt.Errorf("the credential answered with a token that expired at %s, while this machine's clock says %s",
			got.ExpiresOn.UTC().Format(time.RFC3339), time.Now().UTC().Format(time.RFC3339))
	}
	source, passed := l.told()
	if source == "" {
		source = tokencache.New(credential, tokencache.Options{}).Status().Source
	}
	return check.Login{Token: tokencache.NewToken(got.Token, got.ExpiresOn), Source: source, PassedOver: passed}, nil
}

func (l *logins) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reasons, l.answered = make(map[string]string), ""
}

// told returns which source of the default chain answered, empty if the
// credential is no chain, and those that were asked before it.
func (l *logins) told() (source string, passed []tokencache.SourceFailure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range chain[:max(0, slices.Index(chain, l.answered))] {
		if reason := l.reasons[name]; reason != "" {
			passed = append(passed, tokencache.SourceFailure{Source: name, Reason: reason})
		}
	}
	return l.answered, passed
}
