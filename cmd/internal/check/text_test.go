package check

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"
)

// aFailingReport has something of everything.
func aFailingReport() Report {
	return Report{
		ExitCode: 5,
		Warnings: []string{"HTTP_PROXY: captures requests for managed identity tokens too: add 169.254.169.254 to NO_PROXY"},
		Routes: []Route{{
			Prefix: "/eastus", Upstream: resource, Identity: "default", Scope: scope, ExitCode: 5,
			Steps: []Step{
				{Name: "configuration", Status: Passed, Summary: "identity default, scope " + scope},
				{Name: "credential", Status: Passed, Summary: "AzureCLICredential gave a token", Sources: []Source{
					{Source: "EnvironmentCredential", Reason: "AZURE_TENANT_ID is not set"}, {Source: "AzureCLICredential"},
				}},
				{Name: "claims", Status: Passed, Summary: "valid for 1h", Facts: map[string]string{"aud": "https://cognitiveservices.azure.com", "tid": tenantID, "oid": objectID, "exp": "2026-01-01T00:00:00Z"}},
				{Name: "dns", Status: Skipped, Summary: "left to the proxy, http://proxy.example:3128"},
				{Name: "connection", Status: Passed, Summary: "through the proxy 10.0.0.1:3128, TLS 1.3", Facts: map[string]string{"certificate": "CN=*.openai.azure.com", "issuer": "CN=Corporate CA", "valid_until": "2027-01-01T00:00:00Z"}},
				{Name: "clock", Status: Advice, Summary: "differs from Azure's by 1h0m0s", Findings: []Finding{{Cause: "clock-off", Sentence: "This machine's clock differs from Azure's by more than five minutes; set it right, for tokens and certificates are judged by it.", Remedy: "date -u   # differs by 1h0m0s\ntimedatectl set-ntp true"}}},
				{Name: "call", Status: Failed, Summary: "GET /openai/models?api-version=2024-10-21: 401", Facts: map[string]string{"message": "Principal does not have access to API/Operation.", "azure_request_id": "6d1f"},
					Findings: []Finding{{Cause: "role-not-effective", Sentence: "The identity has no role in effect for this operation; compare its role assignments with the resource, and wait up to 30 minutes after assigning one.", Remedy: "az role assignment list --assignee " + objectID + " --all --output table   # is \"Cognitive Services OpenAI User\" there, on this resource?"}}},
				{Name: "deployment", Status: NotReached},
			},
		}, {Prefix: "/good", Upstream: "https://my-westus.openai.azure.com", OK: true, Steps: []Step{{Name: "configuration", Status: Passed, Summary: "identity default"}}}},
	}
}

func printed(t *Text, r Report) string {
	var b bytes.Buffer
	t.W = &b
	t.Begin(r)
	for _, route := range r.Routes {
		t.Route(route)
		for _, step := range route.Steps {
			t.Step(step)
		}
	}
	t.End(r)
	return b.String()
}

func TestTheTextForPeople(t *testing.T) {
	got := printed(&Text{}, aFailingReport())
	const file = "testdata/report.txt"
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("UPDATE=1 go test takes this for right:\n%s", got)
	}
}

func TestColoursChangeNoLetter(t *testing.T) {
	escapes := regexp.MustCompile("\x1b\\[[0-9;]*m")
	plain, coloured := printed(&Text{}, aFailingReport()), printed(&Text{Colour: true}, aFailingReport())
	if !strings.Contains(coloured, "\x1b[31m✗\x1b[0m") || escapes.ReplaceAllString(coloured, "") != plain {
		t.Errorf("%q", coloured)
	}
	if strings.Contains(plain, "\x1b") {
		t.Error("escapes without colours")
	}
}

func TestASCII(t *testing.T) {
	for _, r := range printed(&Text{ASCII: true}, aFailingReport()) {
		if r > 0x7e {
			t.Errorf("%q", r)
		}
	}
}

func TestNoTwoEmptyLinesAndNoBlanksAtTheEnd(t *testing.T) {
	text := printed(&Text{}, aFailingReport())
	if strings.Contains(text, "\n\n\n") || regexp.MustCompile(`[ \t]\n`).MatchString(text) {
		t.Errorf("%q", text)
	}
}

// Commands are to be copied: nothing may be broken, and nothing added.
func TestCommandsStayWhole(t *testing.T) {
	long := "az " + strings.Repeat("--option value ", 40) + "# why"
	text := printed(&Text{}, Report{Routes: []Route{{Steps: []Step{{Status: Failed, Findings: []Finding{{Cause: "c", Sentence: "S.", Remedy: long}}}}}}})
	if !strings.Contains(text, "      "+long+"\n") {
		t.Error(text)
	}
}

func TestWrap(t *testing.T) {
	for text, want := range map[string]string{
		"":                      "",
		"one":                   "one",
		"one two three":         "one two|three",
		"toolongforanyline":     "toolongforanyline",
		"a toolongforanyline b": "a|toolongforanyline|b",
	} {
		if got := strings.Join(wrap(text, 8), "|"); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// The words of tokencache must mean to diagnose what azidentity's own do.
func TestTheLogsWordsAreUnderstood(t *testing.T) {
	for text, detail := range map[string]string{
		"ManagedIdentityCredential: managed identity timed out. See https://aka.ms/x for more information":                                                                           "imds-unreachable",
		"ManagedIdentityCredential: empty managedidentity.UserAssignedClientID":                                                                                                      "azure-client-id-empty",
		"ManagedIdentityCredential: Identity not found":                                                                                                                              "identity-not-assigned",
		"WorkloadIdentityCredential: no token file specified. Check pod configuration":                                                                                               "workload-identity-not-injected",
		"WorkloadIdentityCredential: no tenant ID specified. Check pod configuration":                                                                                                "workload-identity-not-injected",
		"WorkloadIdentityCredential: open /var/run/secrets/azure/tokens/azure-identity-token: no such file or directory":                                                             "federated-token-file-missing",
		"EnvironmentCredential: missing environment variable AZURE_TENANT_ID":                                                                                                        "environment-incomplete",
		"EnvironmentCredential: incomplete environment variable configuration. Only AZURE_TENANT_ID and AZURE_CLIENT_ID are set":                                                     "environment-incomplete",
		"AzureCLICredential: executable not found on path":                                                                                                                           "cli-not-found",
		"AzureDeveloperCLICredential: executable not found on path":                                                                                                                  "cli-not-found",
		"AzureCLICredential: Please run 'az login' to setup account":                                                                                                                 "login-missing",
		"AzureDeveloperCLICredential: not logged in, run `azd auth login` to login":                                                                                                  "login-missing",
		"AzureCLICredential: fork/exec /bin/sh: no such file or directory":                                                                                                           "no-shell",
		"AzureCLICredential: chdir /bin: no such file or directory":                                                                                                                  "no-shell",
		`ClientSecretCredential authentication failed. Post "https://login.microsoftonline.com/t/oauth2/v2.0/token": dial tcp: lookup login.microsoftonline.com: no such host`:       "entra-unreachable",
		`ClientSecretCredential authentication failed. Post "https://login.microsoftonline.com/t/oauth2/v2.0/token": context deadline exceeded`:                                      "entra-unreachable",
		`ClientSecretCredential authentication failed. Post "https://login.microsoftonline.com/t": tls: failed to verify certificate: x509: certificate signed by unknown authority`: "entra-unreachable",
		"something else": "",
	} {
		o := healthy()
		o.Token = failsWith(text)
		report, _, _ := run(t, o)
		step := report.step(t, "credential")
		if step.cause() != "credential-unavailable" || step.Findings[0].Detail != detail {
			t.Errorf("%s became %s: %+v", text, step.Summary, step.Findings)
		}
	}
}
