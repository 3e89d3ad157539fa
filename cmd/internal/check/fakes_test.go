package check

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"entra-sidecar/config"
	"entra-sidecar/tokencache"
)

const (
	tenantID = "11111111-1111-4111-8111-111111111111"
	objectID = "33333333-3333-4333-8333-333333333333"
	resource = "https://my-eastus.openai.azure.com"
	scope    = "https://cognitiveservices.azure.com/.default"
)

// A claimSet is the payload of a token.
type claimSet map[string]any

func goodClaims() claimSet {
	return claimSet{
		"aud": "https://cognitiveservices.azure.com", "tid": tenantID, "oid": objectID,
		"appid": "22222222-2222-4222-8222-222222222222",
		"iat":   time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
}

func (c claimSet) with(name string, value any) claimSet {
	c[name] = value
	return c
}

// token is the claims as a JWT; nobody here looks at its signature.
func (c claimSet) token() *tokencache.Token {
	payload, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return tokencache.NewToken(encode([]byte(`{"alg":"RS256"}`))+"."+encode(payload)+"."+encode([]byte("canary-signature")), time.Now().Add(time.Hour))
}

func gives(t *tokencache.Token) func(context.Context, config.Identity, string) (Login, error) {
	return func(context.Context, config.Identity, string) (Login, error) {
		return Login{Token: t, Source: "ManagedIdentityCredential"}, nil
	}
}

func failsWith(text string) func(context.Context, config.Identity, string) (Login, error) {
	return func(context.Context, config.Identity, string) (Login, error) { return Login{}, errors.New(text) }
}

// zone is a resolver that knows some names.
type zone map[string]string // addresses, separated by blanks

func (z zone) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for address := range strings.FieldsSeq(z[host]) {
		addrs = append(addrs, netip.MustParseAddr(address))
	}
	if addrs == nil {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return addrs, nil
}

// azureAnswers is an Azure that answers in process.
type azureAnswers func(*http.Request) *http.Response

func (f azureAnswers) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

func reply(status int, body string) *http.Response {
	now := time.Now().UTC().Format(http.TimeFormat)
	return &http.Response{StatusCode: status, Header: http.Header{"Date": {now}}, Body: io.NopCloser(strings.NewReader(body))}
}

func always(status int, body string) azureAnswers {
	return func(*http.Request) *http.Response { return reply(status, body) }
}

// route is a route to the upstream, as config.Load would complete it.
func route(prefix, upstream string) config.Route {
	u, err := url.Parse(upstream)
	if err != nil {
		panic(err)
	}
	return config.Route{Prefix: prefix, Upstream: u, Scope: config.DefaultScope(u), Identity: "default"}
}

// healthy are options with which everything passes.
func healthy(routes ...config.Route) Options {
	if routes == nil {
		routes = []config.Route{route("/", resource)}
	}
	return Options{
		Config: &config.Config{
			Routes: routes, Identities: map[string]config.Identity{"default": {Name: "default", Credential: "default"}},
			DialTimeout: time.Second, TLSTimeout: time.Second,
		},
		Timeout:   10 * time.Second,
		Token:     gives(goodClaims().token()),
		Getenv:    func(string) string { return "" },
		Proxy:     func(*http.Request) (*url.URL, error) { return nil, nil },
		Resolver:  zone{"my-eastus.openai.azure.com": "20.10.1.2"},
		Transport: always(200, `{"data":[]}`),
	}
}

// overTLS answers like f behind a real connection, whatever the host.
func overTLS(t *testing.T, f azureAnswers) *http.Transport {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := f(r)
		for name, values := range answer.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(w, answer.Body)
	}))
	t.Cleanup(server.Close)
	transport := server.Client().Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.ServerName = "example.com" // which its certificate is for
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// run examines, and returns the report and what both printers made of it.
func run(t *testing.T, o Options) (Report, string, string) {
	t.Helper()
	var text, document bytes.Buffer
	report, err := Run(t.Context(), o, both{&Text{W: &text}, JSON{W: &document}})
	if err != nil {
		t.Fatal(err)
	}
	return report, text.String(), document.String()
}

type both struct{ a, b Printer }

func (p both) Begin(r Report) { p.a.Begin(r); p.b.Begin(r) }
func (p both) Route(r Route)  { p.a.Route(r); p.b.Route(r) }
func (p both) Step(s Step)    { p.a.Step(s); p.b.Step(s) }
func (p both) End(r Report)   { p.a.End(r); p.b.End(r) }

// step returns a step of the first route.
func (r Report) step(t *testing.T, name string) Step {
	t.Helper()
	for _, s := range r.Routes[0].Steps {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no step %s in %+v", name, r)
	return Step{}
}

// outline is the status of each step of a route.
func (r Route) outline() string {
	var b strings.Builder
	for _, s := range r.Steps {
		fmt.Fprintf(&b, "%s:%s ", s.Name, s.Status)
	}
	return strings.TrimSpace(b.String())
}

// cause is that of the first finding.
func (s Step) cause() string {
	if s.Findings == nil {
		return ""
	}
	return s.Findings[0].Cause
}
