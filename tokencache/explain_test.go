package tokencache

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"
)

// entraError is an error of Entra's as it comes, with all that nobody wants to
// read in a log.
func entraError(code int, text string) string {
	return fmt.Sprintf(`{"error":"invalid_client","error_description":"AADSTS%d: %s Trace ID: 6c1d Correlation ID: 9e2f Timestamp: 2025-01-01 00:00:00Z",`+
		`"error_codes":[%[1]d],"timestamp":"2025-01-01 00:00:00Z","trace_id":"6c1d","correlation_id":"9e2f"}`, code, text)
}

// A failing arrangement returns a credential that gives no token. Every text
// below is azidentity's own, at the version in go.mod.
type failing func(t *testing.T) azcore.TokenCredential

func secretAnswered(status int, body string) failing {
	return func(t *testing.T) azcore.TokenCredential {
		f := newInProcess(t)
		f.respond(status, body)
		return newCredential(t, entraIdentity("client-secret"), CredentialOptions{Transport: f})
	}
}

func identityAnswered(id Identity, status int, body string) failing {
	return func(t *testing.T) azcore.TokenCredential {
		f := newInProcess(t)
		f.respond(status, body)
		return newCredential(t, id, CredentialOptions{Transport: f})
	}
}

func over(id Identity, transport policy.Transporter) failing {
	return func(t *testing.T) azcore.TokenCredential {
		return newCredential(t, id, CredentialOptions{Transport: transport})
	}
}

func entraIdentity(kind string) Identity {
	return Identity{Credential: kind, TenantID: tenant, ClientID: client, ClientSecret: "canary-secret", Authority: "https://entra.example"}
}

type refusing struct{ err error }

func (r refusing) Do(q *http.Request) (*http.Response, error) {
	return nil, fmt.Errorf("Post %q: %w", q.URL, r.err)
}

const azNotLoggedIn = `echo "ERROR: Please run 'az login' to setup account." >&2; exit 1`

func command(name, script string, id Identity) failing {
	return func(t *testing.T) azcore.TokenCredential {
		cleanEnvironment(t, map[string]string{name: script})
		return newCredential(t, id, CredentialOptions{Transport: blackHole{}})
	}
}

func TestTypicalFailuresInOneLine(t *testing.T) {
	workload := entraIdentity("workload-identity")
	workload.ClientSecret, workload.TokenFile = "", "/nowhere/token"
	managed := Identity{Credential: "managed-identity", ClientID: client}
	cli, azd := Identity{Credential: "azure-cli"}, Identity{Credential: "azure-developer-cli"}
	secret := entraIdentity("client-secret")

	tests := []struct {
		name         string
		cred         failing
		want, aadsts string
	}{
		{"wrong client secret", secretAnswered(401, entraError(7000215, "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value.")),
			"ClientSecretCredential: AADSTS7000215: Invalid client secret provided", "7000215"},
		{"wrong tenant", secretAnswered(400, entraError(90002, "Tenant 'contoso' not found. Check to make sure you have the correct tenant ID.")),
			"ClientSecretCredential: AADSTS90002: Tenant 'contoso' not found", "90002"},
		{"a description without trace ids", secretAnswered(400, `{"error":"invalid_scope","error_description":"AADSTS500011: The resource principal named https://x.example was not found in the tenant named Contoso."}`),
			"ClientSecretCredential: AADSTS500011: The resource principal named https://x.example was not found in the tenant named Contoso", "500011"},
		{"Entra without an explanation", secretAnswered(400, ""), "ClientSecretCredential: HTTP 400 Bad Request", ""},
		{"Entra with an error code only", secretAnswered(400, `{"error":"invalid_grant"}`), "ClientSecretCredential: HTTP 400 Bad Request: invalid_grant", ""},
		{"a page instead of JSON", secretAnswered(403, "<html>\n<body>"+strings.Repeat("blocked ", 1000)), "ClientSecretCredential: HTTP 403 Forbidden", ""},
		{"Entra out of order", secretAnswered(503, `{"error":{"code":"x","message":"Try later. It is late."}}`), "ClientSecretCredential: HTTP 503 Service Unavailable: Try later", ""},
		{"an empty 200", secretAnswered(200, ""), "ClientSecretCredential: response is missing access_token", ""},
		{"a 200 with half a token", secretAnswered(200, `{"access_token":"`+canary+`","expires_in":"36`), "ClientSecretCredential: the answer cannot be read: unexpected EOF", ""},
		{"a 200 with an opaque token in an odd form", secretAnswered(200, `{"access_token":"canary","expires_on":"soon"}`), "ClientSecretCredential: the answer cannot be read: invalid ExpiresOn format: soon", ""},
		{"connection refused", over(secret, refusing{errors.New("dial tcp 10.0.0.1:443: connect: connection refused")}),
			"ClientSecretCredential: entra.example: dial tcp 10.0.0.1:443: connect: connection refused", ""},
		{"unknown host", over(secret, refusing{errors.New("dial tcp: lookup entra.example: no such host")}),
			"ClientSecretCredential: entra.example: dial tcp: lookup entra.example: no such host", ""},
		{"untrusted certificate", over(secret, refusing{errors.New("tls: failed to verify certificate: x509: certificate signed by unknown authority")}),
			"ClientSecretCredential: entra.example: tls: failed to verify certificate: x509: certificate signed by unknown authority", ""},
		{"no answer", over(secret, blackHole{}), "ClientSecretCredential: no answer in time", ""},

		{"no federated credential", func(t *testing.T) azcore.TokenCredential {
			id := workload
			id.TokenFile = writeFile(t, filepath.Join(t.TempDir(), "token"), "canary-assertion")
			return identityAnswered(id, 401, entraError(700213, "No matching federated identity record found for presented assertion subject 'system:serviceaccount:ns:sa'. Check your federated identity credential Subject."))(t)
		}, "WorkloadIdentityCredential: AADSTS700213: No matching federated identity record found for presented assertion subject 'system:serviceaccount:ns:sa'", "700213"},
		{"no federated token file", identityAnswered(workload, 200, ""), "WorkloadIdentityCredential: the federated token file cannot be read: /nowhere/token: no such file or directory", ""},

		{"the user-assigned identity is not assigned", identityAnswered(managed, 400, `{"error":"invalid_request","error_description":"Identity not found"}`),
			"ManagedIdentityCredential: this machine has no such managed identity (HTTP 400: Identity not found)", ""},
		{"no system-assigned identity", identityAnswered(Identity{Credential: "managed-identity"}, 400, `{"error":"invalid_request","error_description":"Identity not found"}`),
			"ManagedIdentityCredential: this machine has no such managed identity (HTTP 400: Identity not found)", ""},
		{"no such identity on App Service", func(t *testing.T) azcore.TokenCredential {
			f := appService(t)
			f.respond(400, `{"statusCode":400,"message":"No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId."}`)
			return newCredential(t, managed, CredentialOptions{})
		}, "ManagedIdentityCredential: HTTP 400 Bad Request: No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId", ""},
		{"IMDS throttles", identityAnswered(managed, 429, `{"error":"too_many_requests","error_description":"Temporarily throttled, too many requests"}`),
			"ManagedIdentityCredential: HTTP 429 Too Many Requests: Temporarily throttled, too many requests", ""},
		{"something else answers in IMDS's place", identityAnswered(managed, 200, "<html>canary"), "ManagedIdentityCredential: the answer cannot be read: invalid character '<' looking for beginning of value", ""},
		{"no IMDS", over(managed, blackHole{}), "ManagedIdentityCredential: no answer from the managed identity endpoint in time", ""},

		{"az is not installed", over(cli, nil), "AzureCLICredential: az is not installed", ""},
		{"az is not logged in", command("az", azNotLoggedIn, cli), "AzureCLICredential: az is not logged in: run az login", ""},
		{"az's login has expired", command("az", `echo "ERROR: AADSTS70043: The refresh token has expired due to sign-in frequency checks by conditional access. The token was issued on 2025. Trace ID: 1" >&2; exit 1`, cli),
			"AzureCLICredential: AADSTS70043: The refresh token has expired due to sign-in frequency checks by conditional access", "70043"},
		{"azd is not installed", over(azd, nil), "AzureDeveloperCLICredential: azd is not installed", ""},
		{"azd is not logged in", command("azd", `echo '{"type":"consoleMessage","data":{"message":"\nERROR: not logged in, run `+"`azd auth login`"+` to login\n"}}' >&2; exit 1`, azd),
			"AzureDeveloperCLICredential: azd is not logged in: run azd auth login", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cleanEnvironment(t, nil)
				err := failureOf(t, tt.cred(t), "")
				if got := Describe(err); got != tt.want {
					t.Errorf("Describe\n got %q\nwant %q\nfrom %q", got, tt.want, err)
				}
				sources := Explain(err)
				if n := len(sources); n != 1 || sources[0].AADSTS != tt.aadsts {
					t.Errorf("%+v", sources)
				}
				assertNoCanary(t, fmt.Sprintf("%+v", sources))
			})
		})
	}
}

func TestTheDefaultChainSourceBySource(t *testing.T) {
	const (
		noEnvironment = "AZURE_TENANT_ID is not set"
		noWebhook     = "AZURE_CLIENT_ID is not set: no workload identity webhook changed this pod"
		noIMDS        = "no answer from 169.254.169.254 within 1s"
	)
	tests := []struct {
		name     string
		cred     failing
		want     []SourceFailure
		describe string
	}{
		{"nothing is there", over(Identity{}, blackHole{}), []SourceFailure{
			{"EnvironmentCredential", noEnvironment, ""},
			{"WorkloadIdentityCredential", noWebhook, ""},
			{"ManagedIdentityCredential", noIMDS, ""},
			{"AzureCLICredential", "az is not installed", ""},
			{"AzureDeveloperCLICredential", "azd is not installed", ""},
			{"AzurePowerShellCredential", "PowerShell is not installed", ""},
		}, "EnvironmentCredential: AZURE_TENANT_ID is not set; WorkloadIdentityCredential: " + noWebhook + "; ManagedIdentityCredential: " + noIMDS +
			"; AzureCLICredential: az is not installed; AzureDeveloperCLICredential: azd is not installed; AzurePowerShellCredential: PowerShell is not installed"},
		{"AZURE_TOKEN_CREDENTIALS chooses one", func(t *testing.T) azcore.TokenCredential {
			t.Setenv("AZURE_TOKEN_CREDENTIALS", "AzureCLICredential")
			return newCredential(t, Identity{}, CredentialOptions{})
		}, []SourceFailure{{"AzureCLICredential", "az is not installed", ""}}, "AzureCLICredential: az is not installed"},
		{"az without a login", command("az", azNotLoggedIn, Identity{}), []SourceFailure{
			{"EnvironmentCredential", noEnvironment, ""},
			{"WorkloadIdentityCredential", noWebhook, ""},
			{"ManagedIdentityCredential", noIMDS, ""},
			{"AzureCLICredential", "az is not logged in: run az login", ""},
			{"AzureDeveloperCLICredential", "azd is not installed", ""},
			{"AzurePowerShellCredential", "PowerShell is not installed", ""},
		}, ""},
		{"a machine without an identity", identityAnswered(Identity{}, 400, `{"error":"invalid_request","error_description":"Identity not found"}`), []SourceFailure{
			{"EnvironmentCredential", noEnvironment, ""},
			{"WorkloadIdentityCredential", noWebhook, ""},
			{"ManagedIdentityCredential", "this machine has no such managed identity (HTTP 400: Identity not found)", ""},
			{"AzureCLICredential", "az is not installed", ""},
			{"AzureDeveloperCLICredential", "azd is not installed", ""},
			{"AzurePowerShellCredential", "PowerShell is not installed", ""},
		}, ""},
		{"a source that fails ends the chain, and is what matters", func(t *testing.T) azcore.TokenCredential {
			t.Setenv("AZURE_TENANT_ID", tenant)
			t.Setenv("AZURE_CLIENT_ID", client)
			t.Setenv("AZURE_FEDERATED_TOKEN_FILE", writeFile(t, filepath.Join(t.TempDir(), "token"), "canary-assertion"))
			t.Setenv("AZURE_AUTHORITY_HOST", "https://entra.example")
			return identityAnswered(Identity{}, 401, entraError(700016, "Application with identifier '2' was not found in the directory 'Contoso'. This can happen."))(t)
		}, []SourceFailure{
			{"EnvironmentCredential", "neither AZURE_CLIENT_SECRET nor AZURE_CLIENT_CERTIFICATE_PATH is set", ""},
			{"WorkloadIdentityCredential", "AADSTS700016: Application with identifier '2' was not found in the directory 'Contoso'", "700016"},
		}, "WorkloadIdentityCredential: AADSTS700016: Application with identifier '2' was not found in the directory 'Contoso'"},
		{"a pod without its token file", func(t *testing.T) azcore.TokenCredential {
			t.Setenv("AZURE_TENANT_ID", tenant)
			t.Setenv("AZURE_CLIENT_ID", client)
			t.Setenv("AZURE_FEDERATED_TOKEN_FILE", "/nowhere/token")
			t.Setenv("AZURE_AUTHORITY_HOST", "https://entra.example")
			return identityAnswered(Identity{}, 200, "")(t)
		}, []SourceFailure{
			{"EnvironmentCredential", "neither AZURE_CLIENT_SECRET nor AZURE_CLIENT_CERTIFICATE_PATH is set", ""},
			{"WorkloadIdentityCredential", "the federated token file cannot be read: /nowhere/token: no such file or directory", ""},
		}, ""},
		{"AZURE_CLIENT_ID is set but empty", func(t *testing.T) azcore.TokenCredential {
			t.Setenv("AZURE_CLIENT_ID", "")
			t.Setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
			return newCredential(t, Identity{}, CredentialOptions{})
		}, []SourceFailure{{"ManagedIdentityCredential", "AZURE_CLIENT_ID is set but empty: unset it", ""}}, ""},
		{"AKS identity bindings, which the chain does not use", func(t *testing.T) azcore.TokenCredential {
			t.Setenv("AZURE_TENANT_ID", tenant)
			t.Setenv("AZURE_CLIENT_ID", client)
			t.Setenv("AZURE_FEDERATED_TOKEN_FILE", writeFile(t, filepath.Join(t.TempDir(), "token"), "canary-assertion"))
			t.Setenv("AZURE_AUTHORITY_HOST", "https://entra.example")
			t.Setenv("AZURE_TOKEN_CREDENTIALS", "WorkloadIdentityCredential")
			t.Setenv("AZURE_KUBERNETES_TOKEN_PROXY", "https://proxy.example")
			return identityAnswered(Identity{}, 401, entraError(700211, "No matching federated identity record found for presented assertion issuer 'x'."))(t)
		}, []SourceFailure{{"WorkloadIdentityCredential", "AADSTS700211: No matching federated identity record found for presented assertion issuer 'x'" +
			" (AKS identity bindings need the credential workload-identity: DefaultAzureCredential does not use them)", "700211"}}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cleanEnvironment(t, nil)
				err := failureOf(t, tt.cred(t), "")
				if diff := cmp.Diff(tt.want, Explain(err)); diff != "" {
					t.Errorf("%s\nfrom %q", diff, err)
				}
				if got := Describe(err); tt.describe != "" && got != tt.describe {
					t.Errorf("Describe\n got %q\nwant %q", got, tt.describe)
				}
			})
		})
	}
}

func TestProxyVariablesThatCaptureTheManagedIdentityEndpoint(t *testing.T) {
	const hint = "add 169.254.169.254 to NO_PROXY"
	for name, tt := range map[string]struct {
		env  map[string]string
		want bool
	}{
		"no proxy":                               {nil, false},
		"a proxy for http":                       {map[string]string{"HTTP_PROXY": "http://proxy.example:3128"}, true},
		"a proxy in lower case":                  {map[string]string{"http_proxy": "http://proxy.example:3128"}, true},
		"a proxy for https only":                 {map[string]string{"HTTPS_PROXY": "http://proxy.example:3128"}, false},
		"a proxy that leaves it out":             {map[string]string{"HTTP_PROXY": "http://proxy.example:3128", "NO_PROXY": "localhost,169.254.169.254"}, false},
		"App Service has an endpoint of its own": {map[string]string{"HTTP_PROXY": "http://proxy.example:3128", "IDENTITY_ENDPOINT": "http://x"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			cleanEnvironment(t, nil)
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			err := errors.New("ManagedIdentityCredential: managed identity timed out. See https://aka.ms/x for more information")
			if got := Describe(err); strings.Contains(got, hint) != tt.want {
				t.Errorf("%q", got)
			}
			if got := Describe(errors.New("AzureCLICredential: executable not found on path")); strings.Contains(got, hint) {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestExplainOtherErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want []SourceFailure
	}{
		"no error":          {nil, nil},
		"a plain error":     {errors.New("something\n  broke."), []SourceFailure{{Reason: "something broke"}}},
		"a deadline":        {context.DeadlineExceeded, []SourceFailure{{Reason: "no answer in time"}}},
		"a silent host":     {errors.New(`ClientSecretCredential: Post "https://login.example/t/token?x=y": context deadline exceeded`), []SourceFailure{{Source: "ClientSecretCredential", Reason: "no answer from login.example in time"}}},
		"bindings in use":   {errors.New("WorkloadIdentityCredential: x"), []SourceFailure{{Source: "WorkloadIdentityCredential", Reason: "x"}}},
		"a novel":           {errors.New(strings.Repeat("ä", maxReason)), []SourceFailure{{Reason: strings.Repeat("ä", maxReason/2) + "…"}}},
		"no shell":          {errors.New("AzureCLICredential: fork/exec /bin/sh: no such file or directory"), []SourceFailure{{Source: "AzureCLICredential", Reason: "there is no shell in this image to run the command"}}},
		"no /bin":           {errors.New("AzureCLICredential: chdir /bin: no such file or directory"), []SourceFailure{{Source: "AzureCLICredential", Reason: "there is no shell in this image to run the command"}}},
		"the cache's error": {&UnavailableError{Err: newFailure(errors.New("AzureCLICredential: x"))}, []SourceFailure{{Source: "AzureCLICredential", Reason: "x"}}},
		"a chain in a chain": {errors.New("ChainedTokenCredential: failed to acquire a token.\nAttempted credentials:\n\tDefaultAzureCredential: failed to acquire a token.\n\t\tAttempted credentials:" +
			"\n\t\t\tAzureCLICredential: a\n\t\t\tAzureDeveloperCLICredential: b\n\tManagedIdentityCredential: c"),
			[]SourceFailure{{Source: "AzureCLICredential", Reason: "a"}, {Source: "AzureDeveloperCLICredential", Reason: "b"}, {Source: "ManagedIdentityCredential", Reason: "c"}}},
	} {
		t.Run(name, func(t *testing.T) {
			cleanEnvironment(t, nil)
			t.Setenv("AZURE_KUBERNETES_TOKEN_PROXY", "https://proxy.example")
			if diff := cmp.Diff(tt.want, Explain(tt.err)); diff != "" {
				t.Error(diff)
			}
			if got := Describe(tt.err); (got == "") != (tt.err == nil) {
				t.Errorf("Describe %q", got)
			}
		})
	}
}

func TestSecretsInErrorsAreRedacted(t *testing.T) {
	for name, text := range map[string]string{
		"a JWT":                     "token " + canary + " is odd",
		"a JWT's first part":        "bad header eyJ0eXAiOiJKV1QifQ",
		"a form":                    "POST grant_type=x&client_secret=canary&client_assertion=canary.canary.canary&scope=y",
		"JSON":                      `{"access_token":"canary","refresh_token": "canary", "id_token":'canary'}`,
		"JSON in a string":          `{\"access_token\":\"canary\"}`,
		"az's answer":               `{"accessToken":"canary","expires_on":1}`,
		"azd's answer":              `{"token":"canary","expiresOn":"x"}`,
		"prose":                     "client_secret: canary, password=canary",
		"a proxy URL":               "proxyconnect http://user:canary@proxy.example:3128",
		"an answer MSAL can't read": "json decode error: x\njson message bytes were: canary\ncanary",
		"in a chain":                "DefaultAzureCredential: failed to acquire a token.\nAttempted credentials:\n\tManagedIdentityCredential: raw message was: canary\n\t\tcanary\n\tAzureCLICredential: password=canary",
	} {
		t.Run(name, func(t *testing.T) {
			err := errors.New(text)
			f := newFailure(err)
			assertNoCanary(t, fmt.Sprintf("%v %+v %#v", f, f, f)+Describe(err)+fmt.Sprintf("%+v", Explain(err))+logged(f, &UnavailableError{Err: f}))
		})
	}
	for _, harmless := range []string{
		"AADSTS7000216: 'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type",
		"the federated token file cannot be read: /var/run/secrets/azure/tokens/azure-identity-token: no such file or directory",
	} {
		if got := redact(harmless); got != harmless {
			t.Errorf("%q became %q", harmless, got)
		}
	}
}

func FuzzExplain(f *testing.F) {
	f.Add("DefaultAzureCredential: failed to acquire a token.\nAttempted credentials:\n\tA: b\n\t\tc\n\tD: e")
	f.Add("ClientSecretCredential authentication failed. \nPOST https://x\n--------------------\nRESPONSE 400: 400\n--------------------\n{}\n--------------------\n")
	f.Add(canary)
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range Explain(errors.New(text)) {
			if strings.ContainsAny(s.Reason, "\n\r\t") || strings.Contains(s.Reason, canary) || len(s.Reason) > 2*maxReason {
				t.Errorf("%q", s.Reason)
			}
		}
	})
}
