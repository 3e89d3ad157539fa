package diagnose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

const scope = "https://cognitiveservices.azure.com/.default"

// answering is an Azure SDK transport without a network.
type answering func(*http.Request) (*http.Response, error)

func (f answering) Do(r *http.Request) (*http.Response, error) { return f(r) }

// always answers every request alike.
func always(status int, body string) answering {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: status, Request: r, Body: io.NopCloser(strings.NewReader(body)),
			Header: http.Header{"Content-Type": {"application/json"}},
		}, nil
	}
}

// through sends requests into the dial function.
func through(dial func(context.Context, string, string) (net.Conn, error), proxy string) *http.Client {
	transport := &http.Transport{DialContext: dial}
	if proxy != "" {
		transport.Proxy = proxyTo(proxy)
	}
	return &http.Client{Transport: transport}
}

func refusing(_ context.Context, network, address string) (net.Conn, error) {
	return nil, &net.OpError{Op: "dial", Net: network, Addr: named(address), Err: errors.New("connect: network is unreachable")}
}

type named string

func (named) Network() string  { return "tcp" }
func (n named) String() string { return string(n) }

func options(transport policy.Transporter) azcore.ClientOptions {
	return azcore.ClientOptions{Transport: transport, Retry: policy.RetryOptions{MaxRetries: -1}}
}

// bare leaves nothing in the environment that a credential could use.
func bare(t *testing.T) {
	t.Helper()
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, "AZURE_") || strings.HasPrefix(name, "IDENTITY_") || strings.HasPrefix(name, "MSI_") {
			t.Setenv(name, "")
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("PATH", t.TempDir())
}

// ask returns the error of making a credential, or of asking it for a token.
func ask[C azcore.TokenCredential](t *testing.T) func(C, error) error {
	return func(credential C, err error) error {
		if err == nil {
			_, err = credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{scope}})
		}
		return err
	}
}

// script puts a program on the PATH that complains and fails.
func script(t *testing.T, name, complaint string) {
	t.Helper()
	dir := t.TempDir()
	program := fmt.Sprintf("#!/bin/sh\necho \"%s\" >&2\nexit 1\n", complaint)
	if err := os.WriteFile(filepath.Join(dir, name), []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
}

// TestTheWordsOfAzidentityAreUnderstood asks the real credentials, so that a
// release that words its errors otherwise fails here.
func TestTheWordsOfAzidentityAreUnderstood(t *testing.T) {
	withMI := func(o azidentity.ManagedIdentityCredentialOptions) func(*testing.T) error {
		return func(t *testing.T) error {
			return ask[*azidentity.ManagedIdentityCredential](t)(azidentity.NewManagedIdentityCredential(&o))
		}
	}
	for _, tt := range []struct {
		detail string
		fail   func(*testing.T) error
	}{
		{"azure-token-credentials-invalid", func(t *testing.T) error {
			t.Setenv("AZURE_TOKEN_CREDENTIALS", "")
			return ask[*azidentity.DefaultAzureCredential](t)(azidentity.NewDefaultAzureCredential(nil))
		}},
		{"azure-client-id-empty", withMI(azidentity.ManagedIdentityCredentialOptions{ID: azidentity.ClientID("")})},
		{"identity-not-assigned", withMI(azidentity.ManagedIdentityCredentialOptions{
			ID:            azidentity.ClientID(client),
			ClientOptions: options(always(400, `{"error":"invalid_request","error_description":"Identity not found"}`)),
		})},
		{"identity-not-assigned", withMI(azidentity.ManagedIdentityCredentialOptions{
			ClientOptions: options(always(400, `{"error":"invalid_request","error_description":"Identity not found"}`)),
		})},
		{"identity-ambiguous", withMI(azidentity.ManagedIdentityCredentialOptions{
			ClientOptions: options(always(400, `{"error":"invalid_request","error_description":"Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request"}`)),
		})},
		{"proxy-captures-imds", withMI(azidentity.ManagedIdentityCredentialOptions{ClientOptions: options(through(refusing, "http://proxy.example:3128"))})},
		{"proxy-captures-imds", withMI(azidentity.ManagedIdentityCredentialOptions{ClientOptions: options(always(200, "<html>No.</html>"))})},
		{"imds-unreachable", withMI(azidentity.ManagedIdentityCredentialOptions{ClientOptions: options(through(refusing, ""))})},
		{"workload-identity-not-injected", func(t *testing.T) error {
			return ask[*azidentity.WorkloadIdentityCredential](t)(azidentity.NewWorkloadIdentityCredential(nil))
		}},
		{"workload-identity-not-injected", func(t *testing.T) error {
			t.Setenv("AZURE_CLIENT_ID", client)
			return ask[*azidentity.WorkloadIdentityCredential](t)(azidentity.NewWorkloadIdentityCredential(nil))
		}},
		{"federated-token-file-missing", func(t *testing.T) error {
			return ask[*azidentity.WorkloadIdentityCredential](t)(azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
				ClientID: client, TenantID: tid, TokenFilePath: filepath.Join(t.TempDir(), "token"),
				ClientOptions: options(discovery(nil)), DisableInstanceDiscovery: true,
			}))
		}},
		{"cli-not-found", func(t *testing.T) error {
			return ask[*azidentity.AzureCLICredential](t)(azidentity.NewAzureCLICredential(nil))
		}},
		{"login-missing", func(t *testing.T) error {
			script(t, "az", "ERROR: Please run 'az login' to setup account.")
			return ask[*azidentity.AzureCLICredential](t)(azidentity.NewAzureCLICredential(nil))
		}},
		{"login-missing", func(t *testing.T) error {
			script(t, "azd", "ERROR: not logged in, run 'azd auth login' to login")
			return ask[*azidentity.AzureDeveloperCLICredential](t)(azidentity.NewAzureDeveloperCLICredential(nil))
		}},
		{"environment-incomplete", func(t *testing.T) error {
			return ask[*azidentity.EnvironmentCredential](t)(azidentity.NewEnvironmentCredential(nil))
		}},
		{"environment-incomplete", func(t *testing.T) error {
			t.Setenv("AZURE_TENANT_ID", tid)
			t.Setenv("AZURE_CLIENT_ID", client)
			return ask[*azidentity.EnvironmentCredential](t)(azidentity.NewEnvironmentCredential(nil))
		}},
		{"entra-unreachable", func(t *testing.T) error {
			return ask[*azidentity.ClientSecretCredential](t)(azidentity.NewClientSecretCredential(tid, client, "s", &azidentity.ClientSecretCredentialOptions{
				ClientOptions: options(through(refusing, "")), DisableInstanceDiscovery: true,
			}))
		}},
		{"no-source", func(t *testing.T) error {
			return ask[*azidentity.DefaultAzureCredential](t)(azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
				ClientOptions: options(through(refusing, "")),
			}))
		}},
	} {
		t.Run(tt.detail, func(t *testing.T) {
			bare(t)
			err := tt.fail(t)
			if err == nil {
				t.Fatal("no error")
			}
			for _, reason := range []string{err.Error(), strings.Join(strings.Fields(err.Error()), " ")} {
				d := Credential(reason, good())
				if d.Cause != "credential-unavailable" || d.Detail != tt.detail || d.Class != ClassToken || !d.Auth {
					t.Errorf("%s/%s for\n%s", d.Cause, d.Detail, reason)
				}
			}
		})
	}
}

// discovery answers for Entra: the endpoints, and token requests by tokens.
func discovery(tokens answering) answering {
	return func(r *http.Request) (*http.Response, error) {
		if !strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration") {
			return tokens(r)
		}
		base := "https://login.microsoftonline.com/" + tid
		return always(200, `{"issuer":"`+base+`/v2.0","authorization_endpoint":"`+base+`/oauth2/v2.0/authorize","token_endpoint":"`+base+`/oauth2/v2.0/token"}`)(r)
	}
}

func TestEntrasCodeComesThroughAzidentity(t *testing.T) {
	bare(t)
	refusal := always(401, `{"error":"invalid_client","error_description":"AADSTS7000222: The provided client secret keys for app '`+client+`' are expired.","error_codes":[7000222]}`)
	err := ask[*azidentity.ClientSecretCredential](t)(azidentity.NewClientSecretCredential(tid, client, "canary", &azidentity.ClientSecretCredentialOptions{
		ClientOptions: options(discovery(refusal)), DisableInstanceDiscovery: true,
	}))
	if err == nil {
		t.Fatal("no error")
	}
	d := Credential(err.Error(), Claims{})
	if d.Cause != "aadsts-7000222" || !strings.Contains(d.Remedy, "--id "+client) {
		t.Errorf("%+v for\n%v", d, err)
	}
}

func TestWordsThatNoCredentialCanBeMadeToSayHere(t *testing.T) {
	for reason, detail := range map[string]string{
		"AzureCLICredential: fork/exec /bin/sh: no such file or directory":                                                                                            "no-shell",
		"ManagedIdentityCredential: managed identity timed out. See https://aka.ms/azsdk":                                                                             "imds-unreachable",
		`unexpected response "connecting to 169.254.169.254:80: dial tcp 169.254.169.254:80: connectex: A socket operation was attempted to an unreachable network."`: "imds-unreachable",
		"WorkloadIdentityCredential: open /var/run/secrets/azure/tokens/azure-identity-token: permission denied":                                                      "federated-token-file-missing",
		`invalid AZURE_TOKEN_CREDENTIALS value "Managed". Valid values are …`:                                                                                         "azure-token-credentials-invalid",
	} {
		if d := Credential(reason, Claims{}); d.Detail != detail {
			t.Errorf("%q: %q, want %q", reason, d.Detail, detail)
		}
	}
}

func TestAnUnknownReasonHasTheCauseWithoutADetail(t *testing.T) {
	for _, reason := range []string{
		"", "context deadline exceeded", "fork/exec /usr/bin/az: permission denied", "open /etc/key.pem: no such file or directory",
		`EnvironmentCredential: failed to read certificate file "/k.pem"`, "proxyconnect tcp: dial tcp: lookup proxy: no such host",
	} {
		if d := Credential(reason, Claims{}); d.Cause != "credential-unavailable" || d.Detail != "" || d.Remedy == "" {
			t.Errorf("%q: %+v", reason, d)
		}
	}
}

func TestProxyVariablesThatCaptureLocalAddresses(t *testing.T) {
	const proxy = "http://proxy.example:3128"
	imds, localhost := "proxy-captures-imds", "proxy-captures-localhost"
	for _, tt := range []struct {
		name string
		env  map[string]string
		want []string
	}{
		{"none set", nil, nil},
		{"a proxy for https only", map[string]string{"HTTPS_PROXY": proxy}, nil},
		{"no exception", map[string]string{"HTTP_PROXY": proxy}, []string{imds, localhost}},
		{"small letters", map[string]string{"http_proxy": proxy}, []string{imds, localhost}},
		{"for all, which Go does not know", map[string]string{"ALL_PROXY": proxy}, []string{localhost}},
		{"one exempted", map[string]string{"HTTP_PROXY": proxy, "NO_PROXY": "example.com, 169.254.169.254"}, []string{localhost}},
		{"the other exempted", map[string]string{"HTTP_PROXY": proxy, "no_proxy": "localhost,127.0.0.1"}, []string{imds}},
		{"by networks", map[string]string{"HTTP_PROXY": proxy, "NO_PROXY": "127.0.0.0/8,169.254.0.0/16"}, nil},
		{"by another network", map[string]string{"HTTP_PROXY": proxy, "NO_PROXY": "10.0.0.0/8"}, []string{imds, localhost}},
		{"all exempted", map[string]string{"HTTP_PROXY": proxy, "NO_PROXY": "*"}, nil},
		{"an address that only begins alike", map[string]string{"HTTP_PROXY": proxy, "NO_PROXY": "169.254.169.2,127.0.0.10"}, []string{imds, localhost}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, d := range Proxies(func(name string) string { return tt.env[name] }) {
				got = append(got, strings.TrimPrefix(d.Cause, "credential-unavailable")+d.Detail)
				if !strings.Contains(d.Remedy, "169.254.169.254") {
					t.Errorf("remedy\n%s", d.Remedy)
				}
			}
			if strings.Join(got, " ") != strings.Join(tt.want, " ") {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
