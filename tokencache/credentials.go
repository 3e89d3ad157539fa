package tokencache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// An Identity says which credential to use, and with what. It prints its name
// and kind only, since it may hold secrets.
type Identity struct {
	Name string // as in the settings: errors begin with identities.<name>

	// Credential is the kind: default (also when empty), environment,
	// workload-identity, managed-identity, client-secret, client-certificate,
	// azure-cli or azure-developer-cli.
	Credential string

	TenantID string

	// ClientID chooses the application or the user-assigned managed identity;
	// for the latter it may also be a resource id ("/subscriptions/…").
	ClientID string

	ClientSecret        string
	CertificateFile     string // PEM or PKCS #12, RSA, with its key; read again when it changes
	CertificatePassword string
	TokenFile           string // default: $AZURE_FEDERATED_TOKEN_FILE

	// Authority is "public", "government", "china" or an https URL.
	// Default: $AZURE_AUTHORITY_HOST, else public.
	Authority string
}

func (id Identity) String() string { return id.Name + " (" + cmp.Or(id.Credential, "default") + ")" }

// Format keeps the secrets out of every fmt verb.
func (id Identity) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, id.String()) }

// MarshalText keeps them out of JSON, YAML and logs.
func (id Identity) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// CredentialOptions are the same for all credentials of a process.
type CredentialOptions struct {
	Transport policy.Transporter // default: azcore's; the CLI credentials use none
	Log       *AzureLog          // from ListenAzure; tells which source DefaultAzureCredential chose
}

// A kind is one value of Identity.Credential.
type kind struct {
	build    func(Identity, azcore.ClientOptions, CredentialOptions) (azcore.TokenCredential, error)
	required []string // settings
	optional []string // settings; any other is refused, rather than silently without effect
}

var kinds = map[string]kind{
	"default":             {newDefault, nil, []string{"tenant_id"}},
	"environment":         {newEnvironment, nil, nil},
	"workload-identity":   {newWorkloadIdentity, nil, []string{"tenant_id", "client_id", "token_file"}},
	"managed-identity":    {newManagedIdentity, nil, []string{"client_id"}},
	"client-secret":       {newClientSecret, []string{"tenant_id", "client_id", "client_secret"}, nil},
	"client-certificate":  {newClientCertificate, []string{"tenant_id", "client_id", "certificate_file"}, []string{"certificate_password"}},
	"azure-cli":           {newAzureCLI, nil, []string{"tenant_id"}},
	"azure-developer-cli": {newAzureDeveloperCLI, nil, []string{"tenant_id"}},
}

// NewCredential returns the credential of an identity. It asks nobody for a
// token yet. The error joins all problems, each naming the setting to change.
func NewCredential(id Identity, o CredentialOptions) (azcore.TokenCredential, error) {
	k, known := kinds[cmp.Or(id.Credential, "default")]
	if !known {
		return nil, id.problem("credential", fmt.Sprintf("%q is none of %s", id.Credential, strings.Join(slices.Sorted(maps.Keys(kinds)), ", ")))
	}
	authority, err := id.cloud()
	if err = errors.Join(id.checkSettings(k), err); err != nil {
		return nil, err
	}
	return k.build(id, clientOptions(authority, o.Transport), o)
}

// clientOptions are the HTTP settings of all credentials. Few retries, since
// the cache's writer repeats a failed attempt anyway and knows how urgent it is.
func clientOptions(c cloud.Configuration, t policy.Transporter) azcore.ClientOptions {
	return azcore.ClientOptions{
		Cloud:     c,
		Transport: t,
		Retry:     policy.RetryOptions{MaxRetries: 2, TryTimeout: 10 * time.Second, RetryDelay: time.Second, MaxRetryDelay: 5 * time.Second},
		Telemetry: policy.TelemetryOptions{ApplicationID: "entra-sidecar"},
	}
}

func (id Identity) problem(setting, text string) error {
	return fmt.Errorf("identities.%s.%s: %s", cmp.Or(id.Name, "default"), setting, text)
}

// checkSettings reports the settings that are missing, and those that would
// have no effect.
func (id Identity) checkSettings(k kind) error {
	set := map[string]string{
		"tenant_id": id.TenantID, "client_id": id.ClientID, "client_secret": id.ClientSecret, "token_file": id.TokenFile,
		"certificate_file": id.CertificateFile, "certificate_password": id.CertificatePassword,
	}
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(set)) {
		switch required := slices.Contains(k.required, name); {
		case set[name] == "" && required:
			problems = append(problems, id.problem(name, "required for the credential "+id.Credential))
		case set[name] != "" && !required && !slices.Contains(k.optional, name):
			problems = append(problems, id.problem(name, "has no effect for the credential "+cmp.Or(id.Credential, "default")))
		}
	}
	return errors.Join(problems...)
}

// cloud returns the configured cloud; its zero value lets azidentity choose,
// by AZURE_AUTHORITY_HOST.
func (id Identity) cloud() (cloud.Configuration, error) {
	switch id.Authority {
	case "":
		return cloud.Configuration{}, nil
	case "public":
		return cloud.AzurePublic, nil
	case "government":
		return cloud.AzureGovernment, nil
	case "china":
		return cloud.AzureChina, nil
	}
	u, err := url.Parse(id.Authority)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return cloud.Configuration{}, id.problem("authority", "is neither public, government or china nor an https URL")
	}
	return cloud.Configuration{ActiveDirectoryAuthorityHost: id.Authority}, nil
}

// microsoftAuthorities are the hosts that MSAL knows.
var microsoftAuthorities = []string{
	"login.microsoftonline.com", "login.microsoft.com", "login.windows.net", "sts.windows.net",
	"login.microsoftonline.us", "login.usgovcloudapi.net", "login.chinacloudapi.cn", "login.partner.microsoftonline.cn",
	"login.sovcloud-identity.fr", "login.sovcloud-identity.de", "login.sovcloud-identity.sg",
}

// private reports whether the authority is not Microsoft's: MSAL would ask
// login.microsoft.com about it, which a private cloud may not reach, and would
// not cache its tokens.
func private(o azcore.ClientOptions) bool {
	authority := cmp.Or(o.Cloud.ActiveDirectoryAuthorityHost, os.Getenv("AZURE_AUTHORITY_HOST"))
	u, err := url.Parse(authority)
	return err == nil && authority != "" && !slices.Contains(microsoftAuthorities, strings.ToLower(u.Hostname()))
}

func newDefault(id Identity, o azcore.ClientOptions, co CredentialOptions) (azcore.TokenCredential, error) {
	if v, set := os.LookupEnv("AZURE_TOKEN_CREDENTIALS"); set && v == "" {
		return nil, id.problem("credential", "AZURE_TOKEN_CREDENTIALS is set but empty (a chart's empty value, perhaps): "+
			"unset it, or set it to dev, prod or a credential's name")
	}
	cred, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
		ClientOptions: o, TenantID: id.TenantID, DisableInstanceDiscovery: private(o),
	})
	if err != nil {
		return nil, id.problem("credential", Describe(err))
	}
	return defaultCredential{cred, co.Log}, nil
}

// A defaultCredential knows which source of the chain answers.
type defaultCredential struct {
	*azidentity.DefaultAzureCredential
	log *AzureLog
}

// Source returns the name of the chosen source, as far as it is known.
func (c defaultCredential) Source() string {
	return cmp.Or(c.log.defaultSource(), "DefaultAzureCredential")
}

func newEnvironment(id Identity, o azcore.ClientOptions, _ CredentialOptions) (azcore.TokenCredential, error) {
	cred, err := azidentity.NewEnvironmentCredential(&azidentity.EnvironmentCredentialOptions{
		ClientOptions: o, DisableInstanceDiscovery: private(o),
	})
	return orProblem(cred, err, id, "credential", "EnvironmentCredential: ")
}

// newWorkloadIdentity lets AKS identity bindings work by their environment
// variables, AZURE_KUBERNETES_TOKEN_PROXY and its kin.
func newWorkloadIdentity(id Identity, o azcore.ClientOptions, _ CredentialOptions) (azcore.TokenCredential, error) {
	if err := errors.Join(
		id.orVariable("client_id", id.ClientID, "AZURE_CLIENT_ID"),
		id.orVariable("tenant_id", id.TenantID, "AZURE_TENANT_ID"),
		id.orVariable("token_file", id.TokenFile, "AZURE_FEDERATED_TOKEN_FILE"),
	); err != nil {
		return nil, err
	}
	cred, err := azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
		ClientOptions: o, TenantID: id.TenantID, ClientID: id.ClientID, TokenFilePath: id.TokenFile,
		DisableInstanceDiscovery: private(o), EnableAzureProxy: true,
	})
	return orProblem(cred, err, id, "tenant_id", "")
}

// orVariable reports a setting that is given neither by itself nor by the
// environment variable that stands in for it.
func (id Identity) orVariable(setting, value, variable string) error {
	if value != "" || os.Getenv(variable) != "" {
		return nil
	}
	return id.problem(setting, "not set, nor is "+variable+", which the workload identity webhook would set")
}

func newManagedIdentity(id Identity, o azcore.ClientOptions, _ CredentialOptions) (azcore.TokenCredential, error) {
	mo := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: o}
	switch {
	case strings.HasPrefix(id.ClientID, "/"):
		mo.ID = azidentity.ResourceID(id.ClientID)
	case id.ClientID != "":
		mo.ID = azidentity.ClientID(id.ClientID)
	}
	cred, err := azidentity.NewManagedIdentityCredential(mo)
	return orProblem(cred, err, id, "client_id", "")
}

func newClientSecret(id Identity, o azcore.ClientOptions, _ CredentialOptions) (azcore.TokenCredential, error) {
	cred, err := azidentity.NewClientSecretCredential(id.TenantID, id.ClientID, id.ClientSecret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: o, DisableInstanceDiscovery: private(o)})
	return orProblem(cred, err, id, "tenant_id", "")
}

func newAzureCLI(id Identity, _ azcore.ClientOptions, _ CredentialOptions) (azcore.TokenCredential, error) {
	cred, err := azidentity.NewAzureCLICredential(&azidentity.AzureCLICredentialOptions{TenantID: id.TenantID})
	return orProblem(uncached{cred, "AzureCLICredential"}, err, id, "tenant_id", "")
}

func newAzureDeveloperCLI(id Identity, _ azcore.ClientOptions, _ CredentialOptions) (azcore.TokenCredential, error) {
	cred, err := azidentity.NewAzureDeveloperCLICredential(&azidentity.AzureDeveloperCLICredentialOptions{TenantID: id.TenantID})
	return orProblem(uncached{cred, "AzureDeveloperCLICredential"}, err, id, "tenant_id", "")
}

// orProblem returns cred or, if there was an error, a problem with the setting
// that most likely caused it. prefix lets Describe recognise azidentity's text.
func orProblem(cred azcore.TokenCredential, err error, id Identity, setting, prefix string) (azcore.TokenCredential, error) {
	if err != nil {
		return nil, id.problem(setting, Describe(errors.New(prefix+err.Error())))
	}
	return cred, nil
}

// An uncached credential runs a tool for each token. Forcing it would be
// needless, and az takes no claims; azd takes them from version 1.18 on and
// reports their refusal as a failure to authenticate.
type uncached struct {
	azcore.TokenCredential
	source string
}

func (c uncached) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if o.Claims == forced {
		o.Claims = ""
	}
	return c.TokenCredential.GetToken(ctx, o)
}

func (c uncached) Source() string { return c.source }

// sourceOf names the credential that answers.
func sourceOf(cred azcore.TokenCredential) string {
	if s, ok := cred.(interface{ Source() string }); ok {
		return s.Source()
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", cred), "*azidentity.")
}
