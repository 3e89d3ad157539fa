package azure

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	audienceRefusal = `{ "statusCode": 401, "message": "Unauthorized. Access token is missing, invalid, audience is incorrect (https://cognitiveservices.azure.com), or have expired." }`
	badKeyRefusal   = `{"error":{"code":"401","message":"Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active subscription and use a correct regional API endpoint for your resource."}}`
	keysOffRefusal  = `{"error":{"code":"AuthenticationTypeDisabled","message": "Key based authentication is disabled for this resource."}}`
	notFound        = `{"error":{"code":"404","message": "Resource not found"}}`
)

// good stands for a good token in the tables below.
const good = "good"

func TestTheResourceJudgesCredentialsAsAzureDoes(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	c := client(t, e)
	for name, tc := range map[string]struct {
		faults Faults
		bearer string
		header map[string]string
		query  string // further parameters
		path   string // default: chat completions
		status int
		body   string // exact, unless empty
	}{
		"a good token is let in":                        {bearer: good, status: 200},
		"no credential at all":                          {status: 401, body: audienceRefusal},
		"no credential, told as API Management does":    {faults: switched(Unsettled{NoCredential: "subscription-key"}), status: 401, body: `{ "statusCode": 401, "message": "Access denied due to missing subscription key. Make sure to include subscription key when making requests to an API." }`},
		"a bearer that is no token":                     {bearer: "sidecar", status: 401, body: audienceRefusal},
		"a bearer that is no token, on v1":              {bearer: "sidecar", path: "/openai/v1/models", status: 401, body: badKeyRefusal},
		"a bearer that is no token, on v1, as a token":  {faults: switched(Unsettled{OpaqueBearer: "token"}), bearer: "sidecar", path: "/openai/v1/models", status: 401, body: strings.Replace(audienceRefusal, "https://cognitiveservices.azure.com", "https://cognitiveservices.azure.com/ or https://ai.azure.com/", 1)},
		"a key that is not the resource's":              {header: map[string]string{"api-key": "sidecar"}, status: 401, body: badKeyRefusal},
		"a wrong key beside a good token":               {bearer: good, header: map[string]string{"api-key": "sidecar"}, status: 401, body: badKeyRefusal},
		"a wrong key beside a good token, token wins":   {faults: switched(Unsettled{KeyBesideToken: "token-wins"}), bearer: good, header: map[string]string{"api-key": "sidecar"}, status: 200},
		"the other key header beside a good token":      {bearer: good, header: map[string]string{"Ocp-Apim-Subscription-Key": "sidecar"}, status: 401, body: badKeyRefusal},
		"a key in the query beside a good token":        {bearer: good, query: "&api-key=sidecar", status: 401, body: badKeyRefusal},
		"a subscription key in the query":               {bearer: good, query: "&subscription-key=sidecar", status: 401, body: badKeyRefusal},
		"an x-api-key means nothing to OpenAI":          {bearer: good, header: map[string]string{"x-api-key": "sidecar"}, status: 200},
		"an x-api-key is a key to Claude":               {bearer: good, header: map[string]string{"x-api-key": "sidecar"}, path: "/anthropic/v1/messages", status: 401, body: badKeyRefusal},
		"the resource's own key while keys are off":     {header: map[string]string{"api-key": DefaultKey}, status: 403, body: keysOffRefusal},
		"the own key beside a good token, keys off":     {bearer: good, header: map[string]string{"api-key": DefaultKey}, status: 403, body: keysOffRefusal},
		"the resource's own key while keys are on":      {faults: Faults{Resource: Resource{KeyAuth: true}}, header: map[string]string{"api-key": DefaultKey}, status: 200},
		"the own key makes up for a missing role":       {faults: Faults{Resource: Resource{KeyAuth: true, Roles: []string{"Owner"}}}, bearer: good, header: map[string]string{"api-key": DefaultKey}, status: 200},
		"a wrong key while keys are on":                 {faults: Faults{Resource: Resource{KeyAuth: true}}, header: map[string]string{"api-key": "sidecar"}, status: 401, body: badKeyRefusal},
		"the own key as bearer on v1, keys on":          {faults: Faults{Resource: Resource{KeyAuth: true}}, bearer: DefaultKey, path: "/openai/v1/models", status: 200},
		"basic authentication is no credential":         {header: map[string]string{"Authorization": "Basic c2lkZWNhcg=="}, status: 401, body: audienceRefusal},
		"a resource whose clock says it has expired":    {faults: Faults{Resource: Resource{ClockOffset: 3601}}, bearer: good, status: 401, body: audienceRefusal},
		"a resource that takes another audience":        {faults: Faults{Resource: Resource{Audiences: []string{"https://cognitiveservices.azure.us/"}}}, bearer: good, status: 401, body: strings.Replace(audienceRefusal, "azure.com", "azure.us/", 1)},
		"a token of another tenant":                     {faults: Faults{Resource: Resource{TenantID: otherTenant}}, bearer: good, status: 400, body: `{"error":{"code":"Tenant provided in token does not match resource token","message":"Token tenant 11111111-1111-4111-8111-111111111111 does not match resource tenant."}}`},
		"a regional host takes no token":                {faults: Faults{Resource: Resource{Regional: true}}, bearer: good, status: 400, body: `{"error":{"code":"BadRequest","message":"Please provide a custom subdomain for token authentication, otherwise API key is required."}}`},
		"a regional host takes keys":                    {faults: Faults{Resource: Resource{Regional: true, KeyAuth: true}}, header: map[string]string{"api-key": DefaultKey}, status: 200},
		"a firewall comes before everything":            {faults: Faults{Resource: Resource{Network: Firewall}}, status: 403, body: `{"error":{"code":"403","message": "Access denied due to Virtual Network/Firewall rules."}}`},
		"public access is off":                          {faults: Faults{Resource: Resource{Network: PublicAccessOff}}, bearer: good, status: 403, body: `{"error":{"code":"403","message": "Public access is disabled. Please configure private endpoint."}}`},
		"a private endpoint waits for approval":         {faults: Faults{Resource: Resource{Network: EndpointNotApproved}}, bearer: good, status: 403, body: `{"error":{"code":"403","message": "Request is not from an approved private endpoint."}}`},
		"the wrong host of a resource in a network":     {faults: Faults{Resource: Resource{Network: VNetWrongHost}}, bearer: good, status: 403, body: `{"code":"403","message":"A Virtual Network is configured for this resource. Please use the correct endpoint for making requests. Check https://aka.ms/cogsvc-vnet for more details."}`},
		"an API Management front without its key":       {faults: Faults{Resource: Resource{SubscriptionKey: "apim"}}, bearer: good, status: 401, body: `{ "statusCode": 401, "message": "Access denied due to missing subscription key. Make sure to include subscription key when making requests to an API." }`},
		"an API Management front with a wrong key":      {faults: Faults{Resource: Resource{SubscriptionKey: "apim"}}, bearer: good, header: map[string]string{"Ocp-Apim-Subscription-Key": "no"}, status: 401, body: `{ "statusCode": 401, "message": "Access denied due to invalid subscription key. Make sure to provide a valid key for an active subscription." }`},
		"an API Management front with its key":          {faults: Faults{Resource: Resource{SubscriptionKey: "apim"}}, bearer: good, header: map[string]string{"Ocp-Apim-Subscription-Key": "apim"}, status: 200},
		"an owner has no data plane":                    {faults: Faults{Resource: Resource{Roles: []string{"Owner"}}}, bearer: good, status: 401, body: "{\"error\":{\"code\":\"PermissionDenied\",\"message\":\"The principal `33333333-3333-4333-8333-333333333333` lacks the required data action `Microsoft.CognitiveServices/accounts/OpenAI/deployments/chat/completions/action` to perform `POST /openai/deployments/{deployment-id}/chat/completions` operation.\"}}"},
		"a missing role, told without details":          {faults: Faults{Resource: Resource{Roles: []string{"Owner"}, Unsettled: Unsettled{PermissionDenied: "short"}}}, bearer: good, status: 401, body: `{"error":{"code":"PermissionDenied","message": "Principal does not have access to API/Operation."}}`},
		"a role that is not effective yet":              {faults: Faults{Resource: Resource{RolesPending: true}}, bearer: good, status: 401, body: `{"error":{"code":"PermissionDenied","message": "Principal does not have access to API/Operation."}}`},
		"a user may talk to models":                     {faults: Faults{Resource: Resource{Roles: []string{"Cognitive Services OpenAI User"}}}, bearer: good, status: 200},
		"a user may not upload files":                   {faults: Faults{Resource: Resource{Roles: []string{"Cognitive Services OpenAI User"}}}, bearer: good, path: "/openai/files?api-version=2024-10-21", status: 401, body: "{\"error\":{\"code\":\"PermissionDenied\",\"message\":\"The principal `33333333-3333-4333-8333-333333333333` lacks the required data action `Microsoft.CognitiveServices/accounts/OpenAI/files/write` to perform `POST /openai/files` operation.\"}}"},
		"a user may not talk to Claude":                 {faults: Faults{Resource: Resource{Roles: []string{"Cognitive Services OpenAI User"}}}, bearer: good, path: "/anthropic/v1/messages", status: 401},
		"projects want their own audience":              {bearer: good, path: "/api/projects/p/threads?api-version=v1", status: 401, body: strings.Replace(audienceRefusal, "https://cognitiveservices", "https://ai", 1)},
		"Claude with the audience of cognitiveservices": {faults: switched(Unsettled{AnthropicAudience: "ai"}), bearer: good, path: "/anthropic/v1/messages", status: 401, body: strings.Replace(audienceRefusal, "https://cognitiveservices", "https://ai", 1)},
		"a wrong path":                                  {bearer: good, path: "/openai/openai/models?api-version=2024-10-21", status: 404, body: notFound},
		"a doubled slash":                               {bearer: good, path: "//openai/models?api-version=2024-10-21", status: 404, body: notFound},
		"a trailing slash":                              {bearer: good, path: "/openai/models/?api-version=2024-10-21", status: 404, body: notFound},
		"a wrong path without a credential":             {path: "/nowhere", status: 401, body: audienceRefusal},
		"a wrong path without a credential, path first": {faults: switched(Unsettled{UnknownPath: "before-auth"}), path: "/nowhere", status: 404, body: notFound},
		"no api-version":                                {bearer: good, path: "/openai/models", status: 404, body: notFound},
		"an api-version from before there were any":     {bearer: good, path: "/openai/models?api-version=2021-01-01", status: 404, body: notFound},
		"a dated api-version on v1":                     {bearer: good, path: "/openai/v1/models?api-version=2024-10-21", status: 400, body: `{"error":{"code":"BadRequest","message":"api-version query parameter is not allowed when using /v1 path"}}`},
		"a dated api-version on v1, where accepted":     {faults: switched(Unsettled{DatedVersionOnV1: "accepted"}), bearer: good, path: "/openai/v1/models?api-version=2024-10-21", status: 200},
		"the preview version on v1":                     {bearer: good, path: "/openai/v1/models?api-version=preview", status: 200},
		"an unknown deployment":                         {bearer: good, path: "/openai/deployments/nope/chat/completions?api-version=2024-10-21", status: 404, body: `{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, please wait a moment and try again."}}`},
		"any deployment, where all exist":               {faults: Faults{Resource: Resource{Deployments: []string{"*"}}}, bearer: good, path: "/openai/deployments/nope/chat/completions?api-version=2024-10-21", status: 200},
		"the deployment that never exists":              {faults: Faults{Resource: Resource{Deployments: []string{"*"}}}, bearer: good, path: "/openai/deployments/missing/chat/completions?api-version=2024-10-21", status: 404},
	} {
		t.Run(name, func(t *testing.T) {
			e.Set(func(f *Faults) { *f = tc.faults })
			path := orElse(tc.path, chatPath) + tc.query
			method, bearer := "POST", tc.bearer
			if strings.Contains(path, "/models") {
				method = "GET"
			}
			if bearer == good {
				bearer = token(t, e, cognitive)
			}
			r := request(t, method, e.URL+path, bearer, `{"model":"claude-sonnet-4-5","messages":[{"role":"user","content":"hello"}]}`)
			for name, value := range tc.header {
				r.Header.Set(name, value)
			}
			a := do(t, c, r)
			if a.StatusCode != tc.status {
				t.Errorf("status %d, want %d: %s", a.StatusCode, tc.status, a.body)
			}
			if tc.body != "" && a.body != tc.body {
				t.Errorf("body\n%s\nwant\n%s", a.body, tc.body)
			}
		})
	}
}

func switched(u Unsettled) Faults { return Faults{Resource: Resource{Unsettled: u}} }

func TestCapturedLengthsOfRefusals(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		body   string
		length int
	}{
		"wrong key":              {bodyBadKey, 224},
		"no role, short form":    {bodyPermissionShort, 99},
		"virtual network denied": {bodyFirewall, 90},
	} {
		t.Run(name, func(t *testing.T) {
			if len(tc.body) != tc.length {
				t.Errorf("%d bytes, captured were %d", len(tc.body), tc.length)
			}
		})
	}
}

func TestTokensThatAreNoGood(t *testing.T) {
	t.Parallel()
	e, other := start(t, Options{}), start(t, Options{})
	c := client(t, e)
	fresh := token(t, e, cognitive)
	expired, _, err := e.signer.issue(e.principals[0], cognitive, -time.Second)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(fresh, ".")
	for name, bearer := range map[string]string{
		"expired":                         expired,
		"for another resource":            token(t, e, "https://management.azure.com"),
		"signed by another authority":     token(t, other, cognitive),
		"with claims of another token":    parts[0] + "." + strings.Split(token(t, e, "https://ai.azure.com"), ".")[1] + "." + parts[2],
		"without a signature":             parts[0] + "." + parts[1] + ".",
		"with a signature cut short":      fresh[:len(fresh)-4],
		"with the algorithm none":         "eyJhbGciOiJub25lIn0." + parts[1] + ".",
		"that are only shaped like a JWT": "a.b.c",
	} {
		t.Run(name, func(t *testing.T) {
			a := do(t, c, request(t, "POST", e.URL+chatPath, bearer, hello))
			if a.StatusCode != http.StatusUnauthorized || a.body != audienceRefusal {
				t.Errorf("answer %d: %s", a.StatusCode, a.body)
			}
		})
	}
	if a := do(t, c, request(t, "POST", e.URL+chatPath, fresh, hello)); a.StatusCode != http.StatusOK {
		t.Errorf("the token that the others were made from: %d %s", a.StatusCode, a.body)
	}
}

func TestRevokedTokensAreRefusedAndTheirSuccessorsAreNot(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	c := client(t, e)
	old := token(t, e, cognitive)
	e.Revoke()
	if a := do(t, c, request(t, "POST", e.URL+chatPath, old, hello)); a.StatusCode != http.StatusUnauthorized || a.body != audienceRefusal {
		t.Errorf("revoked: %d %s", a.StatusCode, a.body)
	}
	e.Set(func(f *Faults) { f.Resource.ChallengeRevoked = true })
	if a := do(t, c, request(t, "POST", e.URL+chatPath, old, hello)); !strings.Contains(a.Header.Get("WWW-Authenticate"), `error="insufficient_claims"`) {
		t.Errorf("revoked, challenged: %v", a.Header)
	}
	if a := do(t, c, request(t, "POST", e.URL+chatPath, token(t, e, cognitive), hello)); a.StatusCode != http.StatusOK {
		t.Errorf("successor: %d %s", a.StatusCode, a.body)
	}
}

func TestAnEarlierTokenSurvivesTheRotationOfKeys(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	c := client(t, e)
	before := token(t, e, cognitive)
	if err := e.RotateKeys(); err != nil {
		t.Fatal(err)
	}
	after := token(t, e, cognitive)
	if header := func(token string) string { h, _, _ := strings.Cut(token, "."); return h }; header(before) == header(after) {
		t.Error("both tokens name the same key")
	}
	for _, bearer := range []string{before, after} {
		if a := do(t, c, request(t, "POST", e.URL+chatPath, bearer, hello)); a.StatusCode != http.StatusOK {
			t.Errorf("answer %d: %s", a.StatusCode, a.body)
		}
	}
}

func TestRoles(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		role, action string
		want         bool
	}{
		"a user talks to a deployment":         {"Cognitive Services OpenAI User", "OpenAI/deployments/chat/completions/action", true},
		"a user reads files":                   {"Cognitive Services OpenAI User", "OpenAI/files/read", true},
		"a user does not write batches":        {"Cognitive Services OpenAI User", "OpenAI/batch-jobs/write", false},
		"a user has no part in projects":       {"Cognitive Services OpenAI User", "AIServices/agents/read", false},
		"a contributor writes batches":         {"Cognitive Services OpenAI Contributor", "OpenAI/batch-jobs/write", true},
		"a contributor has no Claude":          {"Cognitive Services OpenAI Contributor", "MaaS/messages/action", false},
		"a cognitive services user has Claude": {"Cognitive Services User", "MaaS/messages/action", true},
		"only an AI user has projects":         {"Azure AI User", "AIServices/agents/write", true},
		"an owner has nothing":                 {"Owner", "OpenAI/models/read", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := Resource{Roles: []string{tc.role}}
			if got := r.permits(tc.action); got != tc.want {
				t.Errorf("permits(%s) = %t", tc.action, got)
			}
		})
	}
}
