package diagnose

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	oid    = "5d0f1b4e-31c1-4a8c-9d1e-0b6a2f6f7a01"
	client = "0c6a4a7e-9f0a-4c53-8a3a-4f6c3f7d2b11"
	tid    = "a7b1f6de-6c27-4f2e-8b1a-9d5e6c7f8a90"
)

var now = time.Date(2026, time.March, 4, 12, 0, 0, 0, time.UTC)

// good are the claims of a token with which nothing is wrong.
func good() Claims {
	return Claims{
		Audience:  "https://cognitiveservices.azure.com",
		TenantID:  tid,
		ObjectID:  oid,
		AppID:     client,
		IssuedAt:  now.Add(-time.Minute),
		ExpiresAt: now.Add(time.Hour),
	}
}

// refusal is an answer to a chat completion that went out with a good token.
func refusal(status int, body string) Input {
	return Input{
		Status: status,
		Header: http.Header{"Date": {now.Format(http.TimeFormat)}},
		Body:   []byte(body),
		Claims: good(),
		Method: http.MethodPost,
		Path:   "/openai/deployments/gpt-4o/chat/completions",
		Query:  "api-version=2024-10-21",
		Host:   "my-eastus.openai.azure.com:443",
		Now:    now,
	}
}

func audience401(list string) string {
	return `{ "statusCode": 401, "message": "Unauthorized. Access token is missing, invalid, audience is incorrect (` + list + `), or have expired." }`
}

func lacks(action, operation string) string {
	return "{\"error\":{\"code\":\"PermissionDenied\",\"message\":\"The principal `" + oid + "` lacks the required data action `Microsoft.CognitiveServices/accounts/" + action + "` to perform `" + operation + "` operation.\"}}"
}

const (
	wrongKey = `{"error":{"code":"401","message":"Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active subscription and use a correct regional API endpoint for your resource."}}`
	noAccess = `{"error":{"code":"PermissionDenied","message": "Principal does not have access to API/Operation."}}`
	filtered = `{"error":{"message":"The response was filtered due to the prompt triggering Azure OpenAI's content management policy. …","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"hate":{"filtered":true,"severity":"high"}}}}}`
)

var chatLacks = lacks("OpenAI/deployments/chat/completions/action", "POST /openai/deployments/{deployment-id}/chat/completions")

// bodies holds what Azure sends for every cause, to the byte.
var bodies = []struct {
	status int
	body   string
	cause  string
}{
	{401, audience401("https://ai.azure.com"), "wrong-audience"},
	{401, audience401("https://cognitiveservices.azure.com"), "token-rejected"},
	{401, chatLacks, "missing-role"},
	{401, noAccess, "role-not-effective"},
	{401, wrongKey, "key-reached-azure"},
	{401, `{ "statusCode": 401, "message": "Access denied due to missing subscription key. Make sure to include subscription key when making requests to an API." }`, "apim-key-required"},
	{400, `{"error":{"code":"Tenant provided in token does not match resource token","message":"Token tenant a7b1f6de-6c27-4f2e-8b1a-9d5e6c7f8a90 does not match resource tenant."}}`, "wrong-tenant"},
	{400, `{"error":{"code":"BadRequest","message":"Please provide a custom subdomain for token authentication, otherwise API key is required."}}`, "custom-subdomain-required"},
	{403, `{"error":{"code":"AuthenticationTypeDisabled","message": "Key based authentication is disabled for this resource."}}`, "key-auth-disabled"},
	{403, `{"error":{"code":"403","message": "Access denied due to Virtual Network/Firewall rules."}}`, "firewall"},
	{403, `{"error":{"code":"403","message": "Public access is disabled. Please configure private endpoint."}}`, "public-access-disabled"},
	{403, `{"error":{"code":"403","message":"Request is not from an approved private endpoint."}}`, "private-endpoint-not-approved"},
	{403, `{"code":"403","message":"A Virtual Network is configured for this resource. Please use the correct endpoint for making requests. Check https://aka.ms/cogsvc-vnet for more details."}`, "vnet-wrong-host"},
	{404, `{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, please wait a moment and try again."}}`, "deployment-not-found"},
	{404, `{"error":{"code":"404","message": "Resource not found"}}`, "wrong-path"},
	{404, `{"error":{"code":"ResourceNotFound","message":"Subdomain does not map to a resource."}}`, "subdomain-unknown"},
	{400, `{"error":{"code":"BadRequest","message":"api-version query parameter is not allowed when using /v1 path"}}`, "api-version-not-allowed"},
	{429, `{"error":{"code":"429","message":"Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded token rate limit of your current OpenAI S0 pricing tier. Please retry after 7 seconds. …"}}`, "rate-limited-tokens"},
	{429, `{"error":{"code":"429","message":"Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded call rate limit of your current OpenAI S0 pricing tier. Please retry after 7 seconds. …"}}`, "rate-limited-requests"},
	{429, `{ "statusCode": 429, "message": "Rate limit is exceeded. Try again in 4 seconds." }`, "rate-limited-requests"},
	{429, `{"error":{"code":"429","message":"The system is currently experiencing high demand and cannot process your request."}}`, "rate-limited-capacity"},
	{400, filtered, "content-filter"},
}

func TestEveryKnownBodyHasItsCause(t *testing.T) {
	for _, b := range bodies {
		t.Run(b.cause, func(t *testing.T) {
			if d, ok := Diagnose(refusal(b.status, b.body)); !ok || d.Cause != b.cause {
				t.Errorf("cause %q, %v; want %q for\n%s", d.Cause, ok, b.cause, b.body)
			}
		})
	}
}

func TestTheBodiesCoverTheTable(t *testing.T) {
	covered := map[string]bool{"token-expired": true} // TestTokenRefusalsAreToldApartByOurOwnClaims
	for _, b := range bodies {
		covered[b.cause] = true
	}
	for _, r := range answers {
		if !covered[r.Cause] {
			t.Errorf("no body for %s", r.Cause)
		}
	}
	t.Logf("%d causes of %d rows", len(covered), len(answers))
}

func TestAKnownBodyWithAnotherStatusHasNoCause(t *testing.T) {
	for _, b := range bodies {
		for _, status := range []int{0, 101, 200, 204, 302, 399, 402, 408, 409, 422, 500, 502, 503, 599} {
			if d, ok := Diagnose(refusal(status, b.body)); ok {
				t.Errorf("status %d has cause %s for the body of %s", status, d.Cause, b.cause)
			}
		}
	}
}

func TestNearMissesHaveNoCause(t *testing.T) {
	for name, in := range map[string]Input{
		"nothing":                      refusal(401, ""),
		"an empty object":              refusal(401, "{}"),
		"a page":                       refusal(403, "<html><body>Access denied due to Virtual Network/Firewall rules.</body></html>"),
		"plain text":                   refusal(404, "Resource not found"),
		"a JSON string":                refusal(404, `"Resource not found"`),
		"an array":                     refusal(404, `[{"error":{"code":"404","message":"Resource not found"}}]`),
		"a message that is no text":    refusal(404, `{"error":{"message":{"text":"Resource not found"}}}`),
		"the phrase beside":            refusal(404, `{"error":{"code":"404","message":"No such file","detail":"Resource not found"}}`),
		"the phrase below":             refusal(404, `{"error":{"code":"404","message":"No such file","inner":{"message":"Resource not found"}}}`),
		"the code as message":          refusal(404, `{"error":{"code":"404","message":"DeploymentNotFound"}}`),
		"the code below":               refusal(400, `{"error":{"code":"BadRequest","message":"no","innererror":{"code":"content_filter"}}}`),
		"a response that is gone":      refusal(404, `{"error":{"code":"404","message":"Response with id 'resp_1' not found."}}`),
		"no permission, unknown words": refusal(401, `{"error":{"code":"PermissionDenied","message":"No."}}`),
		"no access, another code":      refusal(401, `{"error":{"code":"401","message":"Principal does not have access to API/Operation."}}`),
		"an unknown 401":               refusal(401, `{"error":{"code":"401","message":"Access denied."}}`),
		"an unknown 403":               refusal(403, `{"error":{"code":"403","message":"Forbidden"}}`),
		"an unknown 429":               refusal(429, `{"error":{"code":"429","message":"Too Many Requests"}}`),
		"another version complaint":    refusal(400, `{"error":{"code":"BadRequest","message":"api-version query parameter is not allowed here"}}`),
		"another tenant complaint":     refusal(400, `{"error":{"code":"BadRequest","message":"Token tenant is missing"}}`),
		"a timeout":                    refusal(408, `{"error":{"code":"Timeout","message":"The operation was timeout."}}`),
		"a failing gateway":            refusal(500, `{ "statusCode": 500, "message": "Internal server error", "activityId": "6f0b" }`),
	} {
		if d, ok := Diagnose(in); ok {
			t.Errorf("%s: cause %s", name, d.Cause)
		}
	}
}

func TestTokenRefusalsAreToldApartByOurOwnClaims(t *testing.T) {
	const both = "https://cognitiveservices.azure.com/ or https://ai.azure.com/"
	with := func(change func(*Input)) Input {
		in := refusal(401, "")
		change(&in)
		return in
	}
	for _, tt := range []struct {
		name  string
		names string
		in    Input
		cause string
	}{
		{"the same audience", "https://cognitiveservices.azure.com", refusal(401, ""), "token-rejected"},
		{"the same audience with a slash", "https://cognitiveservices.azure.com/", refusal(401, ""), "token-rejected"},
		{"our audience with a slash", "https://cognitiveservices.azure.com", with(func(in *Input) { in.Claims.Audience += "/" }), "token-rejected"},
		{"the first of two", both, refusal(401, ""), "token-rejected"},
		{"the second of two", both, with(func(in *Input) { in.Claims.Audience = "https://ai.azure.com" }), "token-rejected"},
		{"another case", "https://CognitiveServices.azure.com", refusal(401, ""), "token-rejected"},
		{"another audience", "https://ai.azure.com", refusal(401, ""), "wrong-audience"},
		{"neither of two", both, with(func(in *Input) { in.Claims.Audience = "https://graph.microsoft.com" }), "wrong-audience"},
		{"another cloud", both, with(func(in *Input) { in.Claims.Audience = "https://cognitiveservices.azure.us" }), "wrong-audience"},
		{"a longer name", both, with(func(in *Input) { in.Claims.Audience = "https://cognitiveservices.azure.com.example" }), "wrong-audience"},
		{"wrong and expired", "https://ai.azure.com", with(func(in *Input) { in.Claims.ExpiresAt = now.Add(-time.Hour) }), "wrong-audience"},
		{"an application's id as audience", "https://ai.azure.com", with(func(in *Input) { in.Claims.Audience = client }), "token-rejected"},
		{"an opaque token", "https://ai.azure.com", with(func(in *Input) { in.Claims = Claims{} }), "token-rejected"},
		{"no audience named", "", refusal(401, ""), "token-rejected"},
		{"an audience that is none", "your tenant; id", refusal(401, ""), "token-rejected"},
		{"expired", both, with(func(in *Input) { in.Claims.ExpiresAt = now.Add(-time.Second) }), "token-expired"},
		{"expiring this moment", both, with(func(in *Input) { in.Claims.ExpiresAt = now }), "token-expired"},
		{"expired by Azure's clock", both, with(func(in *Input) {
			in.Header.Set("Date", now.Add(2*time.Hour).Format(http.TimeFormat))
		}), "token-expired"},
		{"a last second left", both, with(func(in *Input) { in.Claims.ExpiresAt = now.Add(time.Second) }), "token-rejected"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.in.Body = []byte(audience401(tt.names))
			if d, _ := Diagnose(tt.in); d.Cause != tt.cause {
				t.Errorf("cause %q, want %q", d.Cause, tt.cause)
			}
		})
	}
}

func TestTheRemedyForAWrongAudienceNamesTheScope(t *testing.T) {
	for list, scope := range map[string]string{
		"https://ai.azure.com":                          "https://ai.azure.com/.default",
		"https://ai.azure.com/":                         "https://ai.azure.com/.default",
		"https://ai.azure.com/ or https://example.com/": "https://ai.azure.com/.default",
		"https://example.com, https://ai.azure.com":     "https://example.com/.default",
	} {
		d, _ := Diagnose(refusal(401, audience401(list)))
		if !strings.Contains(d.Remedy, "ENTRA_SIDECAR_SCOPE="+scope) {
			t.Errorf("for %q no scope %q in\n%s", list, scope, d.Remedy)
		}
	}
}

func TestTheRoleFollowsTheOperation(t *testing.T) {
	const (
		user        = "Cognitive Services OpenAI User"
		contributor = "Cognitive Services OpenAI Contributor"
		services    = "Cognitive Services User"
		foundry     = "Azure AI User"
	)
	for _, tt := range []struct{ method, path, action, role string }{
		{"POST", "/openai/deployments/gpt-4o/chat/completions", "OpenAI/deployments/chat/completions/action", user},
		{"POST", "/openai/responses", "OpenAI/responses/write", user},
		{"POST", "/openai/deployments/models/embeddings", "", user},
		{"POST", "/openai/deployments/anthropic/chat/completions", "", user},
		{"GET", "/openai/models", "", user},
		{"GET", "/openai/v1/models", "", user},
		{"GET", "/openai/files", "OpenAI/files/read", user},
		{"GET", "/openai/v1/batches/b1", "", user},
		{"POST", "/openai/vector_stores/v/files", "", user},
		{"POST", "/openai/files", "OpenAI/files/write", contributor},
		{"POST", "/openai/files", "", contributor},
		{"POST", "/openai/v1/batches", "", contributor},
		{"DELETE", "/openai/files/f1", "OpenAI/files/delete", contributor},
		{"POST", "/openai/fine_tuning/jobs", "OpenAI/fine-tunes/write", contributor},
		{"POST", "/anthropic/v1/messages", "", services},
		{"POST", "/anthropic/v1/messages", "AIServices/messages/action", services},
		{"POST", "/models/chat/completions", "MaaS/chat/completions/action", services},
		{"POST", "/models/chat/completions", "", services},
		{"POST", "/documentintelligence/documentModels/m:analyze", "FormRecognizer/documentmodels:analyze/action", services},
		{"POST", "/cognitiveservices/v1", "", services},
		{"GET", "/api/projects/P/assistants", "AIServices/agents/read", foundry},
		{"POST", "/api/projects/P/threads", "", foundry},
	} {
		in := refusal(401, noAccess)
		if tt.action != "" {
			in = refusal(401, lacks(tt.action, "…"))
		}
		in.Method, in.Path = tt.method, tt.path
		if d, _ := Diagnose(in); !strings.Contains(d.Remedy, `--role "`+tt.role+`"`) {
			t.Errorf("%s %s %s: no role %q in\n%s", tt.method, tt.path, tt.action, tt.role, d.Remedy)
		}
	}
}

func TestTheRemedyForAMissingRoleIsComplete(t *testing.T) {
	d, _ := Diagnose(refusal(401, chatLacks))
	const want = `GROUP=$(az cognitiveservices account list --query "[?name=='my-eastus'].resourceGroup" --output tsv)
ID=$(az cognitiveservices account show --name my-eastus --resource-group "$GROUP" --query id --output tsv)
az role assignment create --assignee-object-id ` + oid + ` --assignee-principal-type ServicePrincipal --role "Cognitive Services OpenAI User" --scope "$ID"
`
	if !strings.HasPrefix(d.Remedy, want) {
		t.Errorf("remedy\n%s\nwant\n%s", d.Remedy, want)
	}
}

func TestTheAssigneeIsWhoeverIsKnown(t *testing.T) {
	for _, tt := range []struct {
		name, principal string
		claims          Claims
		want            string
	}{
		{"claims of an application", "", Claims{ObjectID: oid}, "--assignee-object-id " + oid + " --assignee-principal-type ServicePrincipal "},
		{"claims of a person", "", Claims{ObjectID: oid, UPN: "ada@example.com"}, "--assignee-object-id " + oid + " --assignee-principal-type User "},
		{"only Azure's word", oid, Claims{}, "--assignee-object-id " + oid + " --assignee-principal-type ServicePrincipal "},
		{"a person in Azure's words", "ada@example.com", Claims{}, "--assignee ada@example.com "},
		{"a person in both", "ada@example.com", Claims{ObjectID: oid}, "--assignee-object-id " + oid + " --assignee-principal-type User "},
		{"claims that are no id", "", Claims{ObjectID: "$(id)"}, "--assignee-object-id OID --assignee-principal-type ServicePrincipal "},
		{"a principal that a shell would run", "$(id)@example.com", Claims{}, "--assignee-object-id OID --assignee-principal-type User "},
		{"nobody", "", Claims{}, "--assignee-object-id OID --assignee-principal-type ServicePrincipal "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := refusal(401, strings.ReplaceAll(chatLacks, oid, tt.principal))
			in.Claims = tt.claims
			if d, _ := Diagnose(in); !strings.Contains(d.Remedy, tt.want) {
				t.Errorf("no %q in\n%s", tt.want, d.Remedy)
			}
		})
	}
}

func TestResourceNamesComeFromTheirOwnHostsOnly(t *testing.T) {
	for host, name := range map[string]string{
		"my-eastus.openai.azure.com":             "my-eastus",
		"MY.openai.azure.com:443":                "my",
		"my.openai.azure.us":                     "my",
		"my.openai.azure.cn":                     "my",
		"my.cognitiveservices.azure.com":         "my",
		"my.services.ai.azure.com":               "my",
		"my.privatelink.openai.azure.com":        "my",
		"eastus.api.cognitive.microsoft.com":     "NAME",
		"gateway.example.com":                    "NAME",
		"my.openai.azure.com.example.com":        "NAME",
		"a.b.openai.azure.com":                   "NAME",
		"127.0.0.1:4443":                         "NAME",
		"":                                       "NAME",
		"$(reboot).openai.azure.com":             "NAME",
		"my.openai.azure.com\nreboot":            "NAME",
		"-x.openai.azure.com":                    "NAME",
		"my.openai.azure.com'; reboot; echo '.x": "NAME",
	} {
		in := refusal(401, chatLacks)
		in.Host = host
		if d, _ := Diagnose(in); !strings.Contains(d.Remedy, "account show --name "+name+" ") {
			t.Errorf("%q: no --name %s in\n%s", host, name, d.Remedy)
		}
	}
}

func TestThrottlingIsToldApartByMessageThenPolicyThenCounters(t *testing.T) {
	const short = `{"error":{"code":"429","message":"Rate limit is exceeded. Try again in 4 seconds."}}`
	for _, tt := range []struct {
		name, body string
		header     http.Header
		cause      string
	}{
		{"short, no headers", short, nil, "rate-limited-requests"},
		{"short, policy on calls", short, http.Header{"Policy-Id": {"DeploymentRatelimit-Call"}, "X-Ratelimit-Remaining-Tokens": {"0"}}, "rate-limited-requests"},
		{"short, policy on tokens", short, http.Header{"Policy-Id": {"DeploymentRatelimit-Token"}}, "rate-limited-tokens"},
		{"short, no tokens left", short, http.Header{"X-Ratelimit-Remaining-Tokens": {"0"}}, "rate-limited-tokens"},
		{"short, tokens left", short, http.Header{"X-Ratelimit-Remaining-Tokens": {"12"}}, "rate-limited-requests"},
		{"a gateway's limit on tokens", `{"statusCode":429,"message":"Token limit is exceeded. Try again in 4 seconds."}`, nil, "rate-limited-tokens"},
		{"a message on tokens, a policy on calls", bodies[17].body, http.Header{"Policy-Id": {"DeploymentRatelimit-Call"}}, "rate-limited-tokens"},
		{"high demand, whatever the headers", bodies[20].body, http.Header{"Policy-Id": {"DeploymentRatelimit-Token"}}, "rate-limited-capacity"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := refusal(429, tt.body)
			in.Header = tt.header
			if d, _ := Diagnose(in); d.Cause != tt.cause {
				t.Errorf("cause %q, want %q", d.Cause, tt.cause)
			}
		})
	}
}

func TestTheWaitIsTheOneThatAzureAsksFor(t *testing.T) {
	for want, header := range map[string]http.Header{
		"# Wait 7 seconds":       {"Retry-After": {"7"}, "Retry-After-Ms": {"100"}},
		"# Wait 2 seconds":       {"Retry-After-Ms": {"1001"}},
		"# Wait SECONDS seconds": {"Retry-After": {"soon"}},
	} {
		in := refusal(429, bodies[17].body)
		in.Header = header
		if d, _ := Diagnose(in); !strings.HasPrefix(d.Remedy, want) {
			t.Errorf("no %q in\n%s", want, d.Remedy)
		}
	}
}

func TestAWrongPathIsShownWithItsFault(t *testing.T) {
	for _, tt := range []struct{ path, query, url, fault string }{
		{"/openai/openai/deployments/d/chat/completions", "api-version=1", "/openai/openai/deployments/d/chat/completions?api-version=1", "is in it twice"},
		{"//openai/v1/chat/completions", "", "//openai/v1/chat/completions", "double slash"},
		{"/openai/deployments/d/chat/completions", "", "/openai/deployments/d/chat/completions", "no api-version"},
		{"/openai/deployments/d/chat/completions", "x=secret&api-version=2023-05-15", "/openai/deployments/d/chat/completions?api-version=2023-05-15", "too old"},
		{"/openai/v1/chat/completions", "", "/openai/v1/chat/completions", "too old"},
	} {
		in := refusal(404, `{"error":{"code":"404","message": "Resource not found"}}`)
		in.Path, in.Query = tt.path, tt.query
		d, _ := Diagnose(in)
		if !strings.Contains(d.Remedy, "https://my-eastus.openai.azure.com"+tt.url+"\n") || !strings.Contains(d.Remedy, tt.fault) {
			t.Errorf("%s?%s:\n%s", tt.path, tt.query, d.Remedy)
		}
		if strings.Contains(d.Remedy, "secret") {
			t.Errorf("the query is shown:\n%s", d.Remedy)
		}
	}
}

func TestABodyCutOffIsReadAsFarAsItGoes(t *testing.T) {
	long := strings.Repeat("x", 16<<10)
	for _, tt := range []struct{ name, body, cause string }{
		{"cut behind the message", `{"error":{"code":"DeploymentNotFound","message":"no","detail":"` + long, "deployment-not-found"},
		{"cut in a nested value", `{"error":{"message":"m","code":"content_filter","innererror":{"a":[{"b":"` + long, "content-filter"},
		{"cut in the message", `{"error":{"code":"DeploymentNotFound","message":"` + long, ""},
		{"cut before the code", `{"error":{"message":"m","detail":"content_filter ` + long, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status := 404
			if tt.cause == "content-filter" || tt.name == "cut before the code" {
				status = 400
			}
			if d, _ := Diagnose(refusal(status, tt.body[:16<<10])); d.Cause != tt.cause {
				t.Errorf("cause %q, want %q", d.Cause, tt.cause)
			}
		})
	}
}

func TestEscapedTextIsUnderstood(t *testing.T) {
	// Some encoders escape backticks and slashes beyond need.
	body := strings.NewReplacer("`", `\u0060`, "accounts/", `accounts\/`).Replace(lacks("AIServices/agents/read", "…"))
	in := refusal(401, body)
	in.Path = "/api/projects/P/assistants"
	in.Claims = Claims{}
	d, _ := Diagnose(in)
	if !strings.Contains(d.Remedy, oid) || !strings.Contains(d.Remedy, "Azure AI User") {
		t.Errorf("remedy\n%s", d.Remedy)
	}
}

func TestAnswersWithoutACauseCostNoAllocation(t *testing.T) {
	page := strings.Repeat(`{"error":{"code":"x","message":"nothing known"}}`, 300)
	for _, in := range []Input{refusal(200, wrongKey), refusal(500, page), refusal(401, page), refusal(404, page)} {
		if n := testing.AllocsPerRun(10, func() { Diagnose(in) }); n != 0 {
			t.Errorf("%v allocations for status %d", n, in.Status)
		}
	}
}

func BenchmarkDiagnose(b *testing.B) {
	unknown := fmt.Sprintf(`{"error":{"code":"401","message":"%s"}}`, strings.Repeat("unknown ", 20))
	for name, in := range map[string]Input{
		"success":            refusal(200, ""),
		"other-status":       refusal(503, unknown),
		"no-match":           refusal(401, unknown),
		"no-match-16KiB":     refusal(401, strings.Repeat("x", 16<<10)),
		"401-wrong-audience": refusal(401, audience401("https://ai.azure.com")),
		"401-missing-role":   refusal(401, chatLacks),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Diagnose(in)
			}
		})
	}
}
