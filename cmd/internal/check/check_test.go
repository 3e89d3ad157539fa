package check

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"entra-sidecar/config"
	"entra-sidecar/tokencache"
)

func TestAHealthyRoutePasses(t *testing.T) {
	report, _, _ := run(t, healthy())
	want := "configuration:passed credential:passed claims:passed dns:passed connection:passed clock:passed call:passed"
	if got := report.Routes[0].outline(); got != want || !report.OK || report.ExitCode != 0 {
		t.Errorf("%s, exit code %d", got, report.ExitCode)
	}
}

func TestARouteEndsWithItsFirstFailure(t *testing.T) {
	o := healthy()
	o.Resolver = zone{}
	report, _, _ := run(t, o)
	want := "configuration:passed credential:passed claims:passed dns:failed connection:not_reached clock:not_reached call:not_reached"
	if got := report.Routes[0].outline(); got != want {
		t.Error(got)
	}
}

func TestTheExitCodeIsThatOfTheFirstRouteThatFails(t *testing.T) {
	o := healthy(route("/good", resource), route("/lost", "https://lost.openai.azure.com"), route("/front", "https://front.example"))
	o.Resolver = zone{"my-eastus.openai.azure.com": "20.10.1.2", "front.example": "10.0.0.1"}
	o.Transport = azureAnswers(func(r *http.Request) *http.Response {
		if r.URL.Host == "front.example" {
			return reply(403, "no")
		}
		return reply(200, "{}")
	})
	report, text, _ := run(t, o)
	if report.ExitCode != 4 || report.OK || report.Routes[0].ExitCode != 0 || report.Routes[1].ExitCode != 4 || report.Routes[2].ExitCode != 5 {
		t.Errorf("%+v", report)
	}
	if !strings.Contains(text, "Exit code 4: network, of route /lost.") {
		t.Error(text)
	}
}

func TestOneRouteCanBeChosen(t *testing.T) {
	o := healthy(route("/a", resource), route("/b", resource))
	o.Route = "/b"
	report, _, _ := run(t, o)
	if len(report.Routes) != 1 || report.Routes[0].Prefix != "/b" {
		t.Errorf("%+v", report.Routes)
	}
	o.Route = "/c"
	if _, err := Run(t.Context(), o, JSON{}); err == nil || !strings.Contains(err.Error(), `"/c"; write one of /a, /b`) {
		t.Error(err)
	}
}

func TestARefusedConfigurationIsReportedAsOne(t *testing.T) {
	var text, document strings.Builder
	problems := config.Problems{{Setting: "upstream", Origin: "--upstream", Text: "is not a URL"}}
	report := Refuse(problems, both{&Text{W: &text}, JSON{W: &document}})
	if report.OK || report.ExitCode != 2 || !strings.Contains(text.String(), "upstream (--upstream): is not a URL") || !strings.Contains(text.String(), "Exit code 2") {
		t.Errorf("%+v\n%s", report, text.String())
	}
	if !strings.Contains(document.String(), `"routes": []`) {
		t.Error(document.String())
	}
}

func TestRegionalAndPrivateLinkHostsFailByTheirNames(t *testing.T) {
	for host, cause := range map[string]string{
		"eastus.api.cognitive.microsoft.com":       "custom-subdomain-required",
		"my-eastus.privatelink.openai.azure.com":   "privatelink-host",
		"eastus.api.cognitive.microsoft.com:443":   "custom-subdomain-required",
		"usgovarizona.api.cognitive.microsoft.us":  "custom-subdomain-required",
		"my-eastus.openai.azure.com":               "",
		"api.cognitive.microsoft.com.evil.example": "",
	} {
		x := &examination{route: route("/", "https://"+host)}
		if step := x.configuration(t.Context()); step.cause() != cause || (step.Status == Failed) != (cause != "") {
			t.Errorf("%s: %+v", host, step)
		}
	}
}

func TestNoSourceGivesATokenAndEachSaysWhatWouldMendIt(t *testing.T) {
	o := healthy()
	o.Getenv = func(name string) string { return map[string]string{"AZURE_TENANT_ID": tenantID}[name] }
	o.Token = failsWith("DefaultAzureCredential: failed to acquire a token.\nAttempted credentials:\n\t" +
		"EnvironmentCredential: incomplete environment variable configuration. Only AZURE_TENANT_ID and AZURE_CLIENT_ID are set\n\t" +
		"WorkloadIdentityCredential: no client ID specified. Check pod configuration or set ClientID in the options\n\t" +
		"ManagedIdentityCredential: managed identity timed out. See https://aka.ms/x for more information\n\t" +
		"AzureCLICredential: Please run 'az login' to setup account\n\t" +
		"AzureDeveloperCLICredential: not logged in, run `azd auth login` to login\n\t" +
		"AzurePowerShellCredential: executable not found on path")
	report, text, _ := run(t, o)
	step := report.step(t, "credential")
	if report.ExitCode != 3 || step.cause() != "credential-unavailable" || step.Findings[0].Detail != "no-source" || len(step.Sources) != 6 {
		t.Fatalf("%+v", step)
	}
	for i, detail := range []string{"environment-incomplete", "workload-identity-not-injected", "imds-unreachable", "login-missing", "login-missing", "cli-not-found"} {
		if got := step.Sources[i].Remedy; got == nil || got.Detail != detail {
			t.Errorf("%s: %+v", step.Sources[i].Source, got)
		}
	}
	for _, want := range []string{"az login --tenant " + tenantID, "AzureCLICredential, AzureDeveloperCLICredential\n", "no answer from 169.254.169.254 within 1s"} {
		if strings.Count(text, want) != 1 {
			t.Errorf("%q is there %d times:\n%s", want, strings.Count(text, want), text)
		}
	}
	if strings.Contains(text, "entra-sidecar check") {
		t.Error("it advises to run itself")
	}
}

func TestASourceThatFailedIsToBlameAndNotThoseBeforeIt(t *testing.T) {
	o := healthy()
	o.Token = func(context.Context, config.Identity, string) (Login, error) {
		return Login{}, authenticationFailed("DefaultAzureCredential: failed to acquire a token.\nAttempted credentials:\n\t" +
			"EnvironmentCredential: missing environment variable AZURE_TENANT_ID\n\t" +
			"WorkloadIdentityCredential: AADSTS700213: No matching federated identity record found for presented assertion subject 'system:serviceaccount:ns:sa'.")
	}
	report, text, _ := run(t, o)
	step := report.step(t, "credential")
	if step.cause() != "aadsts-700213" || step.Summary != "WorkloadIdentityCredential failed" || step.Sources[0].Remedy != nil {
		t.Fatalf("%+v", step)
	}
	if !strings.Contains(text, "--subject system:serviceaccount:ns:sa") {
		t.Error(text)
	}
}

func TestASourceThatAnswersShowsThosePassedOver(t *testing.T) {
	o := healthy()
	o.Token = func(context.Context, config.Identity, string) (Login, error) {
		return Login{Token: goodClaims().token(), Source: "AzureCLICredential", PassedOver: []tokencache.SourceFailure{
			{Source: "EnvironmentCredential", Reason: "AZURE_TENANT_ID is not set"},
		}}, nil
	}
	report, text, _ := run(t, o)
	if step := report.step(t, "credential"); len(step.Sources) != 2 || step.Sources[1].Source != "AzureCLICredential" || step.Sources[1].Reason != "" {
		t.Errorf("%+v", step)
	}
	if !strings.Contains(text, "– EnvironmentCredential       AZURE_TENANT_ID is not set\n") || !strings.Contains(text, "✓ AzureCLICredential          gave the token\n") {
		t.Error(text)
	}
}

func TestACredentialThatHangsLeavesTheReportStanding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := healthy()
		o.Token = func(ctx context.Context, _ config.Identity, _ string) (Login, error) {
			<-ctx.Done()
			return Login{}, ctx.Err()
		}
		started := time.Now()
		report, _, _ := run(t, o)
		if took := time.Since(started); report.ExitCode != 3 || took > o.Timeout {
			t.Errorf("exit code %d after %v", report.ExitCode, took)
		}
	})
}

func TestClaimsAreHeldAgainstTheRoute(t *testing.T) {
	project := route("/", "https://my.services.ai.azure.com/api/projects/p")
	for _, tt := range []struct {
		name   string
		route  config.Route
		claims claimSet
		tenant string // configured
		cause  string
		remedy string
	}{
		{name: "as they should be", route: route("/", resource), claims: goodClaims()},
		{name: "a slash at the end is nothing", route: route("/", resource), claims: goodClaims().with("aud", "https://cognitiveservices.azure.com/")},
		{name: "an application's id as audience proves nothing", route: route("/", resource), claims: goodClaims().with("aud", "7d312290-28c8-473c-a0ed-8e53749b6d6d")},
		{name: "another service", route: route("/", resource), claims: goodClaims().with("aud", "https://management.azure.com"),
			cause: "wrong-audience", remedy: "ENTRA_SIDECAR_SCOPE=https://cognitiveservices.azure.com/.default"},
		{name: "the public cloud's for Government", route: route("/", "https://my.openai.azure.us"), claims: goodClaims(),
			cause: "wrong-audience", remedy: "ENTRA_SIDECAR_SCOPE=https://cognitiveservices.azure.us/.default"},
		{name: "Foundry takes either", route: route("/", "https://my.services.ai.azure.com"), claims: goodClaims().with("aud", "https://ai.azure.com")},
		{name: "a project takes its own", route: project, claims: goodClaims(), cause: "wrong-audience", remedy: "ENTRA_SIDECAR_SCOPE=https://ai.azure.com/.default"},
		{name: "a front may want anything", route: route("/", "https://front.example"), claims: goodClaims().with("aud", "https://front.example")},
		{name: "the configured tenant", route: route("/", resource), claims: goodClaims(), tenant: strings.ToUpper(tenantID)},
		{name: "another tenant", route: route("/", resource), claims: goodClaims(), tenant: "99999999-9999-4999-8999-999999999999",
			cause: "wrong-tenant", remedy: "az login --tenant 99999999-9999-4999-8999-999999999999"},
		{name: "a tenant by its domain", route: route("/", resource), claims: goodClaims(), tenant: "contoso.example"},
		{name: "expired", route: route("/", resource), claims: goodClaims().with("exp", time.Now().Add(-time.Minute).Unix()), cause: "token-expired", remedy: "date -u"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := healthy(tt.route)
			x := &examination{Options: &o, route: tt.route, identity: config.Identity{TenantID: tt.tenant}, login: Login{Token: tt.claims.token()}}
			step := x.claims(t.Context())
			if step.cause() != tt.cause || (step.Status == Advice) != (tt.cause != "") {
				t.Fatalf("%+v", step)
			}
			if tt.cause != "" && (!strings.Contains(step.Findings[0].Remedy, tt.remedy) || step.Findings[0].Sentence == "") {
				t.Errorf("%+v", step.Findings[0])
			}
			if step.Facts["oid"] != objectID || step.Facts["exp"] == "" || step.Facts["upn"] != "" {
				t.Errorf("%v", step.Facts)
			}
		})
	}
}

func TestAnOpaqueTokenHasNoClaims(t *testing.T) {
	o := healthy()
	o.Token = gives(tokencache.NewToken("canary-opaque-token-0123456789", time.Now().Add(time.Hour)))
	report, text, document := run(t, o)
	if report.step(t, "claims").Status != Skipped || !report.OK {
		t.Errorf("%+v", report)
	}
	if strings.Contains(text+document, "canary") {
		t.Error("the token was printed")
	}
}

func TestAProxyForLocalhostIsToldOnce(t *testing.T) {
	o := healthy(route("/a", resource), route("/b", resource))
	o.Getenv = func(name string) string { return map[string]string{"HTTP_PROXY": "http://proxy.example:3128"}[name] }
	report, text, _ := run(t, o)
	if !report.OK || len(report.Findings) != 1 || report.Findings[0].Cause != "proxy-captures-localhost" || strings.Count(text, `export NO_PROXY=`) != 1 {
		t.Errorf("%+v\n%s", report.Findings, text)
	}
}

// The names are a contract; see the documentation of the package.
func TestTheNamesInJSONStay(t *testing.T) {
	o := healthy()
	o.Config.Warnings = []string{"w"}
	o.Getenv = func(name string) string { return map[string]string{"HTTP_PROXY": "http://proxy.example:3128"}[name] }
	o.Transport = overTLS(t, always(404, `{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}`))
	o.Token = func(context.Context, config.Identity, string) (Login, error) {
		return Login{Token: goodClaims().token(), Source: "b", PassedOver: []tokencache.SourceFailure{{Source: "a", Reason: "r"}}}, nil
	}
	_, _, document := run(t, o)
	var r map[string]any
	if err := json.Unmarshal([]byte(document), &r); err != nil {
		t.Fatal(err)
	}
	got := names("", r)
	want := "exit_code findings findings.cause findings.remedy findings.sentence ok routes routes.exit_code routes.identity routes.ok routes.prefix " +
		"routes.scope routes.steps routes.steps.facts routes.steps.facts.addresses routes.steps.facts.address routes.steps.facts.appid routes.steps.facts.aud " +
		"routes.steps.facts.certificate routes.steps.facts.exp routes.steps.facts.iat routes.steps.facts.issuer routes.steps.facts.message " +
		"routes.steps.facts.network routes.steps.facts.oid routes.steps.facts.request routes.steps.facts.skew routes.steps.facts.source " +
		"routes.steps.facts.status routes.steps.facts.tid routes.steps.facts.tls routes.steps.facts.valid_until " +
		"routes.steps.findings routes.steps.findings.cause routes.steps.findings.remedy routes.steps.findings.sentence routes.steps.milliseconds " +
		"routes.steps.name routes.steps.sources routes.steps.sources.reason routes.steps.sources.source routes.steps.status routes.steps.summary " +
		"routes.upstream warnings"
	for name := range strings.FieldsSeq(want) {
		if !got[name] {
			t.Errorf("%s is missing", name)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("not documented: %v", got)
	}
}

// names are the paths of all members.
func names(prefix string, value any) map[string]bool {
	all := make(map[string]bool)
	switch value := value.(type) {
	case map[string]any:
		for name, inner := range value {
			path := strings.TrimPrefix(prefix+"."+name, ".")
			all[path] = true
			for each := range names(path, inner) {
				all[each] = true
			}
		}
	case []any:
		for _, inner := range value {
			for each := range names(prefix, inner) {
				all[each] = true
			}
		}
	}
	return all
}

// authenticationFailed is an error with the type by which a source that failed
// is told from one that was passed over. Its own fields are azidentity's secret.
type authenticationFailed string

func (e authenticationFailed) Error() string { return string(e) }
func (authenticationFailed) Unwrap() error   { return new(azidentity.AuthenticationFailedError) }
