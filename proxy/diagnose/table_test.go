package diagnose

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// triggers are the texts by which LiteLLM takes an error for another one than
// its status says.
var triggers = []string{
	"Internal server error", "DeploymentNotFound", "Connection error", "invalid_request_error",
	"content_policy_violation", "ResponsibleAIPolicyViolation", "content_filter_policy",
	"could not be verified", "This model's maximum context length is", "rate limit", "429",
}

func TestSentencesAreFitForClients(t *testing.T) {
	filledIn := regexp.MustCompile(`\{\{|\bNNNN\b|[0-9a-f]{8}-`)
	for _, r := range Causes() {
		for _, trigger := range triggers {
			if strings.Contains(strings.ToLower(r.Sentence), strings.ToLower(trigger)) {
				t.Errorf("%s: %q would make LiteLLM reclassify the error", r.name(), trigger)
			}
		}
		if !strings.HasSuffix(r.Sentence, ".") || strings.Contains(r.Sentence, ". ") || strings.Contains(r.Sentence, "\n") {
			t.Errorf("%s: not one sentence: %q", r.name(), r.Sentence)
		}
		if !strings.Contains(r.Sentence, ";") {
			t.Errorf("%s: says a cause but not what to do: %q", r.name(), r.Sentence)
		}
		if filledIn.MatchString(r.Sentence) {
			t.Errorf("%s: has something to fill in: %q", r.name(), r.Sentence)
		}
	}
}

func TestRowsAreComplete(t *testing.T) {
	id := regexp.MustCompile(`^[a-z0-9-]+$`)
	seen := map[string]bool{}
	for _, r := range Causes() {
		if seen[r.Cause+r.Detail] {
			t.Errorf("%s is there twice", r.name())
		}
		seen[r.Cause+r.Detail] = true
		if !id.MatchString(strings.TrimSuffix(r.name(), anyNumber)) {
			t.Errorf("%q is no id", r.name())
		}
		if r.Remedy == "" || r.Kind == "" {
			t.Errorf("%s has no remedy or kind", r.name())
		}
		if r.Kind == KindAnswer && (r.Status < 400 || r.Code == "" && len(r.Phrases) == 0) {
			t.Errorf("%s has no signature", r.name())
		}
		if r.Class == ClassNone && r.Auth {
			t.Errorf("%s is a fault of set-up that check would pass", r.name())
		}
	}
}

func TestTheWholeTableOfTheContractIsThere(t *testing.T) {
	have := map[string]bool{}
	for _, r := range Causes() {
		have[r.Cause] = true
	}
	for cause := range strings.FieldsSeq(`
		wrong-audience token-expired token-rejected missing-role role-not-effective key-reached-azure key-auth-disabled
		apim-key-required wrong-tenant custom-subdomain-required firewall public-access-disabled
		private-endpoint-not-approved vnet-wrong-host deployment-not-found wrong-path api-version-not-allowed
		subdomain-unknown rate-limited-tokens rate-limited-requests rate-limited-capacity content-filter
		credential-unavailable aadsts-70021 aadsts-700211 aadsts-700213 aadsts-7002121 aadsts-700024 aadsts-700016
		aadsts-7000215 aadsts-7000222 aadsts-90002 aadsts-500011 aadsts-50001 aadsts-53003 aadsts-50173`) {
		if !have[cause] {
			t.Errorf("no row for %s", cause)
		}
	}
}

func TestRemediesAskOnlyForFactsThatExist(t *testing.T) {
	placeholder := regexp.MustCompile(`\{\{([^}]*)\}\}`)
	used := map[string]bool{}
	for _, r := range Causes() {
		for _, m := range placeholder.FindAllStringSubmatch(r.Remedy, -1) {
			used[m[1]] = true
			if facts[m[1]] == nil {
				t.Errorf("%s: no fact %s", r.name(), m[1])
			}
		}
	}
	for name := range facts {
		if !used[name] {
			t.Errorf("fact %s fills in nothing", name)
		}
	}
}

func TestRemediesAreShell(t *testing.T) {
	shell, err := exec.LookPath("sh")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("no shell to read the remedies: ", err)
	}
	for _, r := range Causes() {
		check := exec.CommandContext(t.Context(), shell, "-n")
		check.Stdin = strings.NewReader(r.example() + "\n")
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", r.name(), err, out)
		}
	}
}

func TestCausesCannotBeChanged(t *testing.T) {
	Causes()[0].Cause = "mine"
	if Causes()[0].Cause == "mine" {
		t.Error("the table was changed")
	}
}

func TestMarkdownNamesEveryCauseWithItsRemedy(t *testing.T) {
	doc := Markdown()
	for _, r := range Causes() {
		for _, want := range []string{"| [`" + r.name() + "`](#", r.Sentence, "\n### " + r.name() + "\n\n```sh\n"} {
			if strings.Count(doc, want) < 1 {
				t.Errorf("no %q", want)
			}
		}
		for _, phrase := range r.Phrases {
			if !strings.Contains(doc, phrase) {
				t.Errorf("%s cannot be found by %q", r.name(), phrase)
			}
		}
	}
	if strings.Contains(doc, "{{") {
		t.Error("a placeholder was left")
	}
	for line := range strings.Lines(doc) {
		if strings.HasPrefix(line, "|") && strings.Count(line, "|") != 5 {
			t.Errorf("not four cells: %s", line)
		}
	}
}

// hostile is put wherever a stranger can write.
const hostile = "x'; reboot #\n$(reboot) `reboot` | reboot \" && reboot \\ "

func TestFactsCannotLeaveTheirPlaceInAShell(t *testing.T) {
	for _, text := range []string{
		hostile,
		"$(reboot)", "`reboot`", "a b", "a;b", "a\nb", "--yes", "-x", strings.Repeat("x", 300),
	} {
		e := &evidence{
			host:    text + ".openai.azure.com",
			message: "The principal `" + text + "` lacks the required data action `" + text + "` audience is incorrect (https://" + text + ") Tenant '" + text + "' app '" + text + "' assertion subject '" + text + "' assertion issuer '" + text + "'",
			in: Input{
				Header: http.Header{"Retry-After": {text}, "Date": {text}},
				Claims: Claims{Audience: text, TenantID: text, ObjectID: text, AppID: text, UPN: text},
				Path:   "/openai/deployments/" + text + "/chat",
				Query:  "api-version=" + text,
				Host:   text,
			},
		}
		for name, fact := range facts {
			value := fact(e)
			if strings.ContainsAny(value, ";&|`$<>(){}!\n\r\\\"#'") || strings.HasPrefix(value, "-") && name != "ASSIGNEE" {
				t.Errorf("%s of %q: %q", name, text, value)
			}
		}
	}
}

// A token, or a secret, can stand in any text that passes through here.
func TestSecretsAreNeverRepeated(t *testing.T) {
	const canary = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl"
	var texts []string
	for _, b := range bodies {
		in := refusal(b.status, strings.Replace(b.body, `"message"`, `"detail":"`+canary+`","message"`, 1))
		in.Header.Set("Authorization", "Bearer "+canary)
		in.Query = "api-version=1&api-key=" + canary
		d, ok := Diagnose(in)
		if !ok {
			t.Fatalf("no cause for %s", b.cause)
		}
		body, _ := Annotate([]byte(b.body), d)
		texts = append(texts, d.Sentence, d.Remedy, string(body))
	}
	for _, r := range Causes() {
		for _, phrase := range append(r.Phrases, r.Code) {
			d := Credential("WorkloadIdentityCredential: client_secret="+canary+" "+phrase+" '"+canary+"'", good())
			texts = append(texts, d.Sentence, d.Remedy)
		}
	}
	for _, text := range texts {
		if strings.Contains(text, canary) || strings.Contains(text, "eyJ") {
			t.Errorf("repeated in %q", text)
		}
	}
}

func FuzzDiagnose(f *testing.F) {
	for _, b := range bodies {
		f.Add(b.status, b.body, "/openai/deployments/d/chat/completions", "my.openai.azure.com", "DeploymentRatelimit-Token")
	}
	f.Add(401, audience401(hostile), hostile, hostile, hostile)
	f.Fuzz(func(t *testing.T, status int, body, path, host, header string) {
		in := Input{
			Status: status,
			Header: http.Header{"Policy-Id": {header}, "Date": {header}, "Retry-After": {header}},
			Body:   []byte(body),
			Claims: Claims{Audience: header, ObjectID: header, ExpiresAt: now},
			Path:   path, Query: header, Host: host, Now: now,
		}
		d, ok := Diagnose(in)
		if !ok {
			if d != (Diagnosis{}) {
				t.Fatalf("no cause, but %+v", d)
			}
			return
		}
		r := byCause(answers, d.Cause, d.Detail)
		if status < 400 || status != r.Status || !r.marked([]byte(body)) {
			t.Fatalf("guessed %s for status %d, %q", d.Cause, status, body)
		}
		if d.Sentence != r.Sentence {
			t.Fatalf("sentence %q", d.Sentence)
		}
		if strings.Count(d.Remedy, "\n") != strings.Count(r.Remedy, "\n") {
			t.Fatalf("lines were added to the remedy:\n%s", d.Remedy)
		}
	})
}

func FuzzTextsOfCredentials(f *testing.F) {
	for _, r := range Causes() {
		for _, phrase := range append(r.Phrases, r.Code) {
			f.Add("WorkloadIdentityCredential: "+phrase, client)
		}
	}
	f.Fuzz(func(t *testing.T, text, id string) {
		d := Credential(text, Claims{AppID: id, TenantID: id})
		if d.Cause == "" || d.Sentence == "" || d.Class != ClassToken {
			t.Fatalf("no diagnosis: %+v", d)
		}
		signIn, ok := AADSTS(text)
		if ok != (d.Cause != unavailable) || ok && signIn.Cause != d.Cause {
			t.Fatalf("AADSTS says %q, Credential %q", signIn.Cause, d.Cause)
		}
	})
}

func TestRandomBodiesHaveNoCause(t *testing.T) {
	words := []string{"access", "denied", "key", "token", "role", "resource", "found", "api-version", `"message"`, `"error"`, "{", "}", ":", `"`, "401"}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for range 2000 {
		var body bytes.Buffer
		for range 40 {
			seed = seed*6364136223846793005 + 1442695040888963407
			body.WriteString(words[seed>>33%uint64(len(words))] + " ")
		}
		for _, status := range []int{400, 401, 403, 404, 429} {
			if d, ok := Diagnose(refusal(status, body.String())); ok {
				t.Fatalf("cause %s for %q", d.Cause, body.String())
			}
		}
	}
}
