// Package config holds the settings: their types, names, defaults, loading and
// validation.
//
// A setting has one name, such as tls.ca_bundle_file, which is its place in the
// YAML file; the flag (--tls-ca-bundle-file) and the environment variable
// (ENTRA_SIDECAR_TLS_CA_BUNDLE_FILE) follow from it. A flag wins over the
// environment, the environment over the file, the file over the default.
//
// The tags of [Config] document each setting once. The command line, its help,
// the README's table and the printed configuration are made from them.
//
// Nothing is started on a doubtful configuration: [Load] reports every problem
// at once, each with the setting, where its value came from, and what to write
// instead. No problem, and no way to print a [Config], shows a secret.
package config

import (
	"cmp"
	"net/url"
	"strings"
	"time"
)

// Config is everything that can be set. It is immutable once loaded.
//
// Tags: key is the name in the file; flag another name for the flag, or "-" for
// none; nofile why the file cannot hold it; default the default, unset what
// happens without one; value a placeholder; group a heading, until the next.
type Config struct {
	shorthand

	Listen string `key:"listen" group:"Listeners" value:"ADDRESS" default:"127.0.0.1:4001" help:"Where the proxy listens. Beyond loopback it asks for an inbound key."`
	Admin  Admin  `key:"admin"`
	TLS    TLS    `key:"tls"`

	Inbound Inbound `key:"inbound"`

	Identities map[string]Identity `key:"identities"`
	Routes     []Route             `key:"routes"` // in the order of the file

	DialTimeout           time.Duration `key:"dial_timeout" group:"Upstream connections" default:"10s" help:"Limit for connecting to the upstream."`
	TLSTimeout            time.Duration `key:"tls_timeout" default:"10s" help:"Limit for the TLS handshake with the upstream."`
	ResponseHeaderTimeout time.Duration `key:"response_header_timeout" default:"10m" help:"Limit for the upstream's first answer to a sent request. Nothing limits a whole answer."`
	IdleTimeout           time.Duration `key:"idle_timeout" default:"60s" help:"How long an unused upstream connection is kept. Azure drops them silently after about 4 minutes."`
	MaxConnectionAge      time.Duration `key:"max_connection_age" default:"10m" help:"How long an upstream connection gets new requests, so that changes of DNS land."`

	FirstTokenTimeout time.Duration `key:"first_token_timeout" group:"Requests" default:"10s" help:"How long a request waits for the first token before it is answered 503."`
	DrainTimeout      time.Duration `key:"drain_timeout" default:"5m" help:"How long running requests may take after SIGTERM."`
	AnnotateErrors    bool          `key:"annotate_errors" default:"true" help:"Append the diagnosed cause to the message of Azure's authentication errors."`
	ReplayLimit       Size          `key:"replay_limit" default:"4MiB" help:"Largest request body that is held to be sent again after a refused token. 0 holds none."`
	ReplayBudget      Size          `key:"replay_budget" default:"64MiB" help:"Limit for all bodies held at one time."`

	Log Log `key:"log" group:"Logging"`

	// Warnings are oddities that do not keep the program from running, a
	// sentence each.
	Warnings []string

	origins map[string]string // by setting: the flag, the variable, file:line:column
}

// shorthand are the settings that Load turns into others.
type shorthand struct {
	ConfigFile string `key:"config" nofile:"it names this file" group:"Upstream" value:"FILE" unset:"none" help:"YAML file with further settings."`
	Upstream   string `key:"upstream" nofile:"write it as the upstream of one of routes" value:"URL" unset:"$AZURE_OPENAI_ENDPOINT, else the file's routes" help:"Azure resource of the one route /, such as https://NAME.openai.azure.com."`
	Scope      string `key:"scope" nofile:"write it as the scope of one of routes" value:"SCOPE" unset:"by the upstream's host" help:"What the tokens of that route are for."`
}

// Admin is the listener for probes, metrics and the status page.
type Admin struct {
	Listen string `key:"listen" value:"ADDRESS" default:"127.0.0.1:4002" help:"Where /livez, /readyz, /metrics and the status page are. May be open: nothing there is secret or changes anything."`
}

// TLS is a second listener of the proxy, for clients that insist on https or wss.
type TLS struct {
	Listen       string `key:"listen" value:"ADDRESS" unset:"none" help:"A second listener of the proxy, with TLS, for clients that insist on https or wss."`
	SelfSigned   bool   `key:"self_signed" default:"false" help:"Make a certificate for this machine's loopback names."`
	CABundleFile string `key:"ca_bundle_file" value:"FILE" unset:"none" help:"Written with self_signed: our authority and the system's, for a client's SSL_CERT_FILE."`
	CertFile     string `key:"cert_file" value:"FILE" unset:"none" help:"Your own certificate chain, PEM. Read again when it changes."`
	KeyFile      string `key:"key_file" value:"FILE" unset:"none" help:"Its private key, PEM."`
}

// Inbound says which clients may use the proxy.
type Inbound struct {
	KeysFile               string `key:"keys_file" group:"Clients" value:"FILE" unset:"none" help:"Keys of which clients must show one, as api-key, x-api-key or Bearer: one a line, # begins a comment."`
	Key                    Secret `key:"key" flag:"-" nofile:"put it into a file of its own, for inbound.keys_file, or into ENTRA_SIDECAR_INBOUND_KEY" unset:"none" help:"One more such key."`
	InsecureAllowAnonymous bool   `key:"insecure_allow_anonymous" flag:"insecure-allow-anonymous" default:"false" help:"Let anybody who reaches the proxy use its identity."`

	// Keys are those of KeysFile, and Key. A client needs one of them, unless
	// there are none.
	Keys []Secret
}

// Log says what is logged, and how.
type Log struct {
	Level  string `key:"level" value:"LEVEL" default:"info" help:"debug, info, warn or error."`
	Format string `key:"format" value:"FORMAT" unset:"json, console at a terminal" help:"json or console."`
}

// An Identity says which credential obtains tokens, and with what. Which fields
// a credential takes is in the table credentialKinds.
type Identity struct {
	Name                string // its key in the file; "default" is DefaultAzureCredential unless the file says otherwise
	Credential          string `key:"credential" group:"Identities" default:"default" help:"default, environment, workload-identity, managed-identity, client-secret, client-certificate, azure-cli or azure-developer-cli."`
	TenantID            string `key:"tenant_id" unset:"$AZURE_TENANT_ID" help:"The Entra tenant."`
	ClientID            string `key:"client_id" unset:"$AZURE_CLIENT_ID, the system-assigned identity" help:"The application, or the managed identity (its client id or its resource id)."`
	ClientSecret        Secret `key:"client_secret" unset:"none" help:"For client-secret."`
	CertificateFile     string `key:"certificate_file" unset:"none" help:"For client-certificate: PEM or PKCS #12 with an RSA key."`
	CertificatePassword Secret `key:"certificate_password" unset:"none" help:"For an encrypted certificate_file."`
	TokenFile           string `key:"token_file" unset:"$AZURE_FEDERATED_TOKEN_FILE" help:"For workload-identity: the federated token."`
	Authority           string `key:"authority" unset:"$AZURE_AUTHORITY_HOST, else by the upstream's host" help:"public, government, china or an https URL."`
}

// A Route sends what comes in below its prefix to one upstream.
type Route struct {
	// Prefix is "/" or begins with "/", does not end in one, and needs no escaping.
	Prefix string `key:"prefix" group:"Routes" default:"/" help:"Path below which the route answers; removed on the way."`
	// Upstream has scheme, host and, before an API Management front, a path that
	// does not end in "/". Nothing else. It is https unless the host is loopback.
	Upstream *url.URL `key:"upstream" unset:"required" help:"The Azure resource, or an API Management front with its base path."`
	Scope    string   `key:"scope" unset:"by the upstream's host" help:"What the tokens are for. Ends in /.default."`
	Identity string   `key:"identity" default:"default" help:"One of identities; default is DefaultAzureCredential."`
	// Path is empty, or like a Prefix other than "/".
	Path string `key:"path" unset:"none" help:"Put in front of the request's path, such as /models for azure_ai clients that leave it out."`
	// Headers have canonical names.
	Headers map[string]Secret `key:"headers" unset:"none" help:"Set on every request, such as Ocp-Apim-Subscription-Key for an API Management front."`
}

// Origin returns where a setting's value came from: a flag, an environment
// variable, file:line:column, or "default".
func (c *Config) Origin(setting string) string {
	if c.origins["routes"] == "" {
		setting = strings.TrimPrefix(setting, "routes[0].") // it was made of --upstream and --scope
	}
	return cmp.Or(c.origins[setting], "default")
}
