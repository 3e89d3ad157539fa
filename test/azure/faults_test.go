package azure

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// azureOutcomes is what a request with a good token gets under each fault of
// the Azure side. A body is given whole unless it ends in an ellipsis.
var azureOutcomes = map[string]struct {
	status int
	body   string
	header map[string]string
}{
	"wrong-audience":                {401, `{ "statusCode": 401, "message": "Unauthorized. Access token is missing, invalid, audience is incorrect (https://ai.azure.com), or have expired." }`, nil},
	"token-rejected":                {401, audienceRefusal, nil},
	"missing-role":                  {401, "{\"error\":{\"code\":\"PermissionDenied\",\"message\":\"The principal `33333333-3333-4333-8333-333333333333` lacks the required data action `Microsoft.CognitiveServices/accounts/OpenAI/deployments/chat/completions/action` to perform `POST /openai/deployments/{deployment-id}/chat/completions` operation.\"}}", nil},
	"role-not-effective":            {401, `{"error":{"code":"PermissionDenied","message": "Principal does not have access to API/Operation."}}`, nil},
	"key-reached-azure":             {401, badKeyRefusal, nil},
	"key-auth-disabled":             {403, keysOffRefusal, nil},
	"apim-key-required":             {401, `{ "statusCode": 401, "message": "Access denied due to missing subscription key. Make sure to include subscription key when making requests to an API." }`, nil},
	"wrong-tenant":                  {400, `{"error":{"code":"Tenant provided in token does not match resource token","message":"Token tenant 11111111-1111-4111-8111-111111111111 does not match resource tenant."}}`, nil},
	"custom-subdomain-required":     {400, `{"error":{"code":"BadRequest","message":"Please provide a custom subdomain for token authentication, otherwise API key is required."}}`, nil},
	"firewall":                      {403, `{"error":{"code":"403","message": "Access denied due to Virtual Network/Firewall rules."}}`, nil},
	"public-access-disabled":        {403, `{"error":{"code":"403","message": "Public access is disabled. Please configure private endpoint."}}`, nil},
	"private-endpoint-not-approved": {403, `{"error":{"code":"403","message": "Request is not from an approved private endpoint."}}`, nil},
	"vnet-wrong-host":               {403, `{"code":"403","message":"A Virtual Network is configured for this resource. Please use the correct endpoint for making requests. Check https://aka.ms/cogsvc-vnet for more details."}`, nil},
	"deployment-not-found":          {404, `{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, please wait a moment and try again."}}`, nil},
	"wrong-path":                    {404, notFound, nil},
	"api-version-not-allowed":       {400, `{"error":{"code":"BadRequest","message":"api-version query parameter is not allowed when using /v1 path"}}`, nil},
	"subdomain-unknown":             {404, `{"error":{"code":"ResourceNotFound","message":"Subdomain does not map to a resource."}}`, nil},
	"content-filter":                {400, `{"error":{"message":"The response was filtered due to the prompt triggering Azure OpenAI's content management policy. …`, nil},
	"rate-limited-tokens":           {429, `{"error":{"code":"429","message": "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded token rate limit of your current OpenAI S0 pricing tier. Please retry after 1 seconds. …`, map[string]string{"Policy-Id": "DeploymentRatelimit-Token", "Retry-After": "1", "Retry-After-Ms": "1000"}},
	"rate-limited-requests":         {429, `{"error":{"code":"429","message": "Rate limit is exceeded. Try again in 1 seconds."}}`, map[string]string{"Policy-Id": "DeploymentRatelimit-Call"}},
	"rate-limited-capacity":         {429, `{"error":{"code":"429","message": "The system is currently experiencing high demand …`, map[string]string{"Policy-Id": ""}},
	"insufficient-claims":           {401, audienceRefusal, nil},
	"timeout":                       {408, `{"error":{"code":"Timeout","message":"The operation was timeout."}}`, nil},
	"internal-error":                {500, `{ "statusCode": 500, "message": "Internal server error", "activityId": "…`, nil},
	"unavailable":                   {503, `{"error":{"code":"ServiceUnavailable","message":"…`, nil},
	"throttled":                     {429, `{"error":{"code":"429","message": "Rate limit is exceeded. Try again in 1 seconds."}}`, nil},
	"empty":                         {200, "", map[string]string{"Content-Length": "0"}},
	"malformed":                     {200, `{"id":"chatcmpl-`, nil},
}

func TestEveryFaultOfAzureStrikes(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	c := client(t, e)
	for name, fault := range namedFaults {
		if fault.azure == nil && fault.condition == nil || name == "closed" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			want, ok := azureOutcomes[name]
			if !ok {
				t.Fatal("this fault has no expected outcome")
			}
			e.Set(func(f *Faults) { *f = Faults{Azure: []Rule{{Fault: name}}} })
			a := do(t, c, request(t, "POST", e.URL+chatPath, token(t, e, cognitive), hello))
			begin, varies := strings.CutSuffix(want.body, "…")
			if a.StatusCode != want.status || a.body != want.body && !(varies && strings.HasPrefix(a.body, begin)) {
				t.Errorf("answer %d %s\nwant %d %s", a.StatusCode, a.body, want.status, want.body)
			}
			if latest := e.Requests(); latest[len(latest)-1].Token == nil {
				t.Error("the token is not recorded")
			}
			for name, value := range want.header {
				if got := a.Header.Get(name); got != value {
					t.Errorf("%s: %q, want %q", name, got, value)
				}
			}
		})
	}
}

func TestAClosedConnectionIsNoAnswer(t *testing.T) {
	t.Parallel()
	e := start(t, Options{Faults: Faults{Azure: []Rule{{Fault: "closed"}}, Entra: []Rule{{Fault: "closed"}}}})
	c := client(t, e)
	for _, url := range []string{e.URL + chatPath, e.IdentityURL + appServicePath} {
		if _, err := c.Do(request(t, "POST", url, "", hello)); !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v, want EOF", url, err)
		}
	}
	if n := len(e.TokenRequests()); n != 1 {
		t.Errorf("%d token requests noted, want 1", n)
	}
}

// entraOutcomes is the same for the managed identity endpoint.
var entraOutcomes = map[string]struct {
	status int
	part   string
}{
	"credential-unavailable": {400, "Identity not found"},
	"internal-error":         {500, "server_error"},
	"unavailable":            {503, "temporarily_unavailable"},
	"throttled":              {429, "Too many requests"},
	"empty":                  {200, ""},
	"malformed":              {200, `{"access_token":"` + MalformedToken + `","expires_`},
}

func TestEveryFaultOfEntraStrikes(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	for name, fault := range namedFaults {
		if fault.entra == nil || name == "closed" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			want, ok := entraOutcomes[name]
			if !ok {
				t.Fatal("this fault has no expected outcome")
			}
			e.Set(func(f *Faults) { *f = Faults{Entra: []Rule{{Fault: name, RetryAfter: 7}}} })
			a := do(t, http.DefaultClient, appServiceRequest(t, e, cognitive))
			if a.StatusCode != want.status || !strings.Contains(a.body, want.part) {
				t.Errorf("answer %d %s", a.StatusCode, a.body)
			}
			if name == "throttled" && a.Header.Get("Retry-After") != "7" {
				t.Errorf("header %v", a.Header)
			}
		})
	}
}

func appServiceRequest(t *testing.T, e *Emulator, resource string) *http.Request {
	t.Helper()
	r := request(t, "GET", e.IdentityURL+appServicePath+"?api-version=2019-08-01&resource="+url.QueryEscape(resource), "", "")
	r.Header.Set("X-IDENTITY-HEADER", "emulated")
	return r
}

func TestEveryRowOfAADSTSIsToldInEntrasShape(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	for _, row := range aadstsRows {
		t.Run(row.fault(), func(t *testing.T) {
			e.Set(func(f *Faults) { *f = Faults{Entra: []Rule{{Fault: row.fault()}}} })
			a := do(t, http.DefaultClient, appServiceRequest(t, e, cognitive))
			var told struct {
				Error         string `json:"error"`
				Description   string `json:"error_description"`
				Codes         []int  `json:"error_codes"`
				Timestamp     string `json:"timestamp"`
				TraceID       string `json:"trace_id"`
				CorrelationID string `json:"correlation_id"`
				URI           string `json:"error_uri"`
			}
			if err := json.Unmarshal([]byte(a.body), &told); err != nil {
				t.Fatal(err, a.body)
			}
			description := strings.TrimPrefix(row.fault(), "aadsts-")
			description = "AADSTS" + description + ": " + strings.Replace(row.text, "%s", row.example, 1) +
				" Trace ID: " + told.TraceID + " Correlation ID: " + told.CorrelationID + " Timestamp: " + told.Timestamp
			if a.StatusCode != row.status || told.Error != row.oauth || told.Description != description || !cmp.Equal(told.Codes, []int{row.code}) {
				t.Errorf("answer %d %s", a.StatusCode, a.body)
			}
		})
	}
}

func TestTheWaitOfAThrottledAnswer(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	c := client(t, e)
	for seconds, want := range map[Seconds]string{0: "1", 4: "4", 0.5: "1", -1: ""} {
		e.Set(func(f *Faults) { f.Azure = []Rule{{Fault: "rate-limited-requests", RetryAfter: seconds}} })
		a := do(t, c, request(t, "POST", e.URL+chatPath, token(t, e, cognitive), hello))
		if got := a.Header.Get("Retry-After"); a.StatusCode != 429 || got != want {
			t.Errorf("%v: %d, %q", seconds, a.StatusCode, got)
		}
	}
}

func TestAChallengeAsksForAYoungerToken(t *testing.T) {
	t.Parallel()
	e := start(t, Options{Faults: Faults{Azure: []Rule{{Fault: "insufficient-claims", Times: 1}}}})
	a := do(t, client(t, e), request(t, "POST", e.URL+chatPath, token(t, e, cognitive), hello))
	_, claims, _ := strings.Cut(a.Header.Get("WWW-Authenticate"), `claims="`)
	decoded, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(claims, `"`))
	if err != nil || !strings.HasPrefix(string(decoded), `{"access_token":{"nbf":{"essential":true,"value":"`) {
		t.Errorf("claims %s, %v", decoded, err)
	}
}

func TestExpiredTokensAreIssuedWhileTheAnswerPromisesALife(t *testing.T) {
	t.Parallel()
	var faults Faults
	if err := faults.Add("token-expired"); err != nil {
		t.Fatal(err)
	}
	e := start(t, Options{Faults: faults})
	var granted struct {
		Token string `json:"access_token"`
		In    string `json:"expires_in"`
	}
	a := do(t, http.DefaultClient, appServiceRequest(t, e, cognitive))
	if err := json.Unmarshal([]byte(a.body), &granted); err != nil || granted.In < "3590" {
		t.Fatal(a.body, err)
	}
	a = do(t, client(t, e), request(t, "POST", e.URL+chatPath, granted.Token, hello))
	if a.StatusCode != http.StatusUnauthorized || a.body != audienceRefusal {
		t.Errorf("answer %d %s", a.StatusCode, a.body)
	}
}

func TestRulesConcernTheRequestsThatTheyMatch(t *testing.T) {
	t.Parallel()
	const models = "/openai/models?api-version=2024-10-21"
	for name, tc := range map[string]struct {
		rules []Rule
		want  []int // statuses of GET models, GET models, POST chat, GET models
	}{
		"without rules":                     {nil, []int{200, 200, 200, 200}},
		"every request":                     {[]Rule{{Fault: "timeout"}}, []int{408, 408, 408, 408}},
		"the next two":                      {[]Rule{{Fault: "timeout", Times: 2}}, []int{408, 408, 200, 200}},
		"the third":                         {[]Rule{{Fault: "timeout", Skip: 2, Times: 1}}, []int{200, 200, 408, 200}},
		"all but the first":                 {[]Rule{{Fault: "timeout", Skip: 1}}, []int{200, 408, 408, 408}},
		"every second":                      {[]Rule{{Fault: "timeout", Every: 2}}, []int{408, 200, 408, 200}},
		"every second after the first":      {[]Rule{{Fault: "timeout", Skip: 1, Every: 2, Times: 1}}, []int{200, 408, 200, 200}},
		"those of a path":                   {[]Rule{{Fault: "timeout", Path: "/chat/"}}, []int{200, 200, 408, 200}},
		"those of a method":                 {[]Rule{{Fault: "timeout", Method: "GET"}}, []int{408, 408, 200, 408}},
		"the first rule that matches":       {[]Rule{{Fault: "timeout", Path: "/chat/"}, {Fault: "content-filter"}}, []int{400, 400, 408, 400}},
		"the second once the first is over": {[]Rule{{Fault: "timeout", Times: 1}, {Fault: "content-filter", Times: 1}}, []int{408, 400, 200, 200}},
		"a path's query does not count":     {[]Rule{{Fault: "timeout", Path: "api-version"}}, []int{200, 200, 200, 200}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := start(t, Options{Faults: Faults{Azure: tc.rules}})
			c, bearer := client(t, e), token(t, e, cognitive)
			var got []int
			for _, r := range []*http.Request{
				request(t, "GET", e.URL+models, bearer, ""), request(t, "GET", e.URL+models, bearer, ""),
				request(t, "POST", e.URL+chatPath, bearer, hello), request(t, "GET", e.URL+models, bearer, ""),
			} {
				got = append(got, do(t, c, r).StatusCode)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAnAnswerOfOnesOwn(t *testing.T) {
	t.Parallel()
	e := start(t, Options{Faults: Faults{Azure: []Rule{{Path: "/odd", Answer: &Answer{
		Status: 307, Header: map[string]string{"Location": "https://elsewhere.example/"}, Body: "gone\r\n",
	}}}}})
	c := client(t, e)
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	a := do(t, c, request(t, "PATCH", e.URL+"/odd//path", token(t, e, cognitive), ""))
	if a.StatusCode != 307 || a.body != "gone\r\n" || a.Header.Get("Location") != "https://elsewhere.example/" {
		t.Errorf("answer %d %q %v", a.StatusCode, a.body, a.Header)
	}
	if a := do(t, c, request(t, "PATCH", e.URL+"/odd//path", "", "")); a.StatusCode != 401 {
		t.Errorf("without a token: %d", a.StatusCode)
	}
}

func TestACompressedRefusal(t *testing.T) {
	t.Parallel()
	e := start(t, Options{Faults: Faults{Azure: []Rule{{Fault: "missing-role", Gzip: true}}}})
	a := do(t, client(t, e), request(t, "POST", e.URL+chatPath, token(t, e, cognitive), hello))
	if !a.Uncompressed || !strings.Contains(a.body, "PermissionDenied") {
		t.Errorf("uncompressed %t: %s", a.Uncompressed, a.body)
	}
}

func TestAnEarlyAnswerDoesNotWaitForTheBody(t *testing.T) {
	t.Parallel()
	e := start(t, Options{Faults: Faults{Azure: []Rule{{Fault: "timeout", Early: true}}}})
	body, writer := io.Pipe()
	defer writer.Close()
	r := request(t, "POST", e.URL+chatPath, token(t, e, cognitive), "")
	r.Body, r.ContentLength = body, 1<<20
	if a := do(t, client(t, e), r); a.StatusCode != http.StatusRequestTimeout {
		t.Errorf("answer %d %s", a.StatusCode, a.body)
	}
	if got := e.Requests()[0]; got.BodyComplete || got.BodySize != 0 {
		t.Errorf("read %d bytes, complete %t", got.BodySize, got.BodyComplete)
	}
}

func TestARefusalWaitsForTheBodyOtherwise(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	do(t, client(t, e), request(t, "POST", e.URL+chatPath, "", strings.Repeat("x", 1<<20)))
	if got := e.Requests()[0]; !got.BodyComplete || got.BodySize != 1<<20 {
		t.Errorf("read %d bytes, complete %t", got.BodySize, got.BodyComplete)
	}
}

func TestASlowFirstByte(t *testing.T) {
	t.Parallel()
	e := start(t, Options{Faults: Faults{Pace: Pace{HeadDelay: 0.2}}})
	begin := time.Now()
	do(t, client(t, e), request(t, "POST", e.URL+chatPath, token(t, e, cognitive), hello))
	if took := time.Since(begin); took < 200*time.Millisecond {
		t.Errorf("answered after %v", took)
	}
}

func TestAnAnnouncedCloseEndsTheConnection(t *testing.T) {
	t.Parallel()
	e := start(t, Options{Faults: Faults{Azure: []Rule{{Close: true}}}})
	c := client(t, e)
	for range 2 {
		if a := do(t, c, request(t, "POST", e.URL+chatPath, token(t, e, cognitive), hello)); !a.Close {
			t.Error("the close was not announced")
		}
	}
	if got := e.Requests(); got[0].Remote == got[1].Remote {
		t.Error("both requests came over one connection")
	}
}

func TestFaultsThatWouldNeverStrikeAreRefused(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string]Faults{
		"an unknown name":                  {Azure: []Rule{{Fault: "mising-role"}}},
		"a fault of Entra on Azure's side": {Azure: []Rule{{Fault: "aadsts-7000215"}}},
		"a fault of Azure on Entra's side": {Entra: []Rule{{Fault: "missing-role"}}},
		"a cut on Entra's side":            {Entra: []Rule{{Cut: &Cut{}}}},
		"an unknown network rule":          {Resource: Resource{Network: "firewal"}},
		"an unknown switch":                switched(Unsettled{KeyBesideToken: "both"}),
		"an unknown role":                  {Resource: Resource{Roles: []string{"Reader of minds"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if e, err := Start(Options{Faults: faults}); err == nil {
				e.Close()
				t.Error("started")
			}
		})
	}
	if err := new(Faults).Add("entra:missing-role"); err == nil {
		t.Error("added a fault of Azure to Entra's side")
	}
}

func TestEveryNamedFaultCanBeAdded(t *testing.T) {
	t.Parallel()
	for _, name := range FaultNames() {
		var f Faults
		if err := f.Add(name); err != nil || f.validate() != nil || len(f.Azure)+len(f.Entra) != 1 {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
	var f Faults
	if err := f.Add("entra:unavailable"); err != nil || len(f.Entra) != 1 {
		t.Errorf("on Entra's side: %+v, %v", f, err)
	}
}

func TestAMergePatchChangesWhatItNames(t *testing.T) {
	t.Parallel()
	before := Faults{Tokens: Tokens{Life: 30, Reuse: true}, Azure: []Rule{{Fault: "timeout", Times: 3, Cut: &Cut{After: 2}}}}
	for name, tc := range map[string]struct {
		patch string
		want  Faults
	}{
		"nothing":         {`{}`, before},
		"one field":       {`{"tokens":{"life":10}}`, Faults{Tokens: Tokens{Life: 10, Reuse: true}, Azure: before.Azure}},
		"a field to null": {`{"tokens":null}`, Faults{Azure: before.Azure}},
		"a whole list":    {`{"azure":[{"fault":"empty"}]}`, Faults{Tokens: before.Tokens, Azure: []Rule{{Fault: "empty"}}}},
		"no roles at all": {`{"resource":{"roles":[]}}`, Faults{Tokens: before.Tokens, Azure: before.Azure, Resource: Resource{Roles: []string{}}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := before.Patched([]byte(tc.patch))
			if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
				t.Error(err, diff)
			}
		})
	}
	for name, patch := range map[string]string{
		"an unknown field": `{"tokn":{}}`,
		"a wrong type":     `{"tokens":{"life":"10s"}}`,
		"no object":        `[]`,
		"no JSON":          `{`,
		"an unknown fault": `{"azure":[{"fault":"nope"}]}`,
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			if _, err := before.Patched([]byte(patch)); err == nil {
				t.Error("taken")
			}
		})
	}
}

func TestResetReturnsToTheFaultsOfTheStart(t *testing.T) {
	t.Parallel()
	initial := Faults{Azure: []Rule{{Fault: "timeout", Times: 1}}}
	e := start(t, Options{Faults: initial})
	do(t, client(t, e), request(t, "POST", e.URL+chatPath, token(t, e, cognitive), hello))
	if got := e.Faults().Azure[0].Times; got != spent {
		t.Errorf("times %d after the rule was used up", got)
	}
	e.Reset()
	if diff := cmp.Diff(initial, e.Faults()); diff != "" {
		t.Error(diff)
	}
}

func TestSetPanicsOnAMistake(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	defer func() {
		if recover() == nil {
			t.Error("did not panic")
		}
		e.Set(func(f *Faults) { f.Azure = nil }) // and holds no lock
	}()
	e.Set(func(f *Faults) { f.Azure = []Rule{{Fault: "nope"}} })
}

func TestConnectionsAreRefusedWhileDown(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	c := client(t, e)
	do(t, c, request(t, "POST", e.URL+chatPath, token(t, e, cognitive), hello))
	do(t, c, appServiceRequest(t, e, cognitive))
	e.Set(func(f *Faults) { f.AzureDown, f.EntraDown = true, true })
	for _, r := range []*http.Request{request(t, "GET", e.URL, "", ""), request(t, "GET", e.AuthorityURL, "", ""), appServiceRequest(t, e, cognitive)} {
		var op *net.OpError
		if _, err := c.Do(r); !errors.As(err, &op) || op.Op != "dial" {
			t.Errorf("%s: %v, want a refused connection", r.URL, err)
		}
	}
	e.Reset()
	if a := do(t, c, request(t, "POST", e.URL+chatPath, token(t, e, cognitive), hello)); a.StatusCode != 200 {
		t.Errorf("after coming back: %d", a.StatusCode)
	}
	if a := do(t, c, appServiceRequest(t, e, cognitive)); a.StatusCode != 200 {
		t.Errorf("after coming back: %d", a.StatusCode)
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	e := start(t, Options{Faults: Faults{CloseIdleAfter: 0.05}})
	c := client(t, e)
	do(t, c, request(t, "POST", e.URL+chatPath, token(t, e, cognitive), hello))
	time.Sleep(200 * time.Millisecond)
	do(t, c, request(t, "POST", e.URL+chatPath, token(t, e, cognitive), hello))
	if got := e.Requests(); got[0].Remote == got[1].Remote {
		t.Error("both requests came over one connection")
	}
}

func TestDroppedConnectionsAnswerNothing(t *testing.T) {
	t.Parallel()
	e := start(t, Options{Faults: Faults{DropIdleAfter: 0.05}})
	c := client(t, e)
	do(t, c, request(t, "POST", e.URL+chatPath, token(t, e, cognitive), hello))
	time.Sleep(200 * time.Millisecond)
	c.Timeout = 300 * time.Millisecond
	var timeout net.Error
	if _, err := c.Do(request(t, "POST", e.URL+chatPath, token(t, e, cognitive), hello)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("%v, want a timeout", err)
	}
	c.Timeout = 0
	if a := do(t, c, request(t, "POST", e.URL+chatPath, token(t, e, cognitive), hello)); a.StatusCode != 200 {
		t.Errorf("over a new connection: %d", a.StatusCode)
	}
}
