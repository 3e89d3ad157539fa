package check

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"entra-sidecar/test/azure"
)

func TestAHealthySetUp(t *testing.T) {
	s := newStage(t)
	s.check = []string{"--deployment", "gpt-4o"}
	code, r := s.runCheck()
	if code != 0 || r.step(t, "credential").Facts["source"] != "ManagedIdentityCredential" || r.step(t, "deployment").Status != "passed" {
		t.Errorf("%d %+v", code, r)
	}
	requests := s.azure.Requests()
	if len(requests) != 2 || requests[0].Target != "/openai/models?api-version=2024-10-21" || requests[1].Target != chatPath || requests[0].Host != "my-eastus.openai.azure.com" {
		t.Errorf("Azure was asked %+v", requests)
	}
	if code, text := s.text(); code != 0 || !strings.HasSuffix(text, "\nAll is well.\n") || strings.Contains(text, "\x1b") {
		t.Errorf("%d %s", code, text)
	}
	s.assertNoSecrets()
}

func TestSourcesThatWerePassedOver(t *testing.T) {
	s := newStage(t)
	s.imds() // where there is no identity
	s.fault("credential-unavailable")
	s.env["NO_PROXY"] += ",my-eastus.openai.azure.com"
	s.direct(s.azure.URL)
	s.az(fmt.Sprintf(`echo '{"accessToken":"canary-token-of-the-command-line","expires_on":%d}'`, time.Now().Add(time.Hour).Unix()))
	_, r := s.runCheck()
	var got []string
	for _, source := range r.step(t, "credential").Sources {
		got = append(got, source.Source+": "+source.Reason)
	}
	want := "EnvironmentCredential: AZURE_TENANT_ID is not set\n" +
		"WorkloadIdentityCredential: AZURE_CLIENT_ID is not set: no workload identity webhook changed this pod\n" +
		"ManagedIdentityCredential: no managed identity answered\n" +
		"AzureCLICredential: "
	if strings.Join(got, "\n") != want {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
	if strings.Contains(s.output.String(), "canary") {
		t.Error("the token was printed")
	}
}

func TestRoutesOfAFile(t *testing.T) {
	s := newStage(t)
	file := filepath.Join(t.TempDir(), "config.yaml")
	settings := `
identities:
  stranger: {credential: client-secret, tenant_id: ` + azure.DefaultPrincipal().TenantID + `, client_id: ` + unknownClient + `, client_secret: canary-secret-of-the-file, authority: "` + s.azure.AuthorityURL + `"}
routes:
- {prefix: /good, upstream: "` + upstream + `"}
- {prefix: /bad, upstream: "` + upstream + `", identity: stranger}
- {prefix: /refused, upstream: "https://resource.example"}
`
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	delete(s.env, "AZURE_OPENAI_ENDPOINT")
	s.args = []string{"--config", file}
	code, r := s.runCheck()
	if code != 3 || len(r.Routes) != 3 || !r.Routes[0].OK || r.Routes[1].ExitCode != 3 || r.Routes[2].ExitCode != 4 {
		t.Errorf("%d %+v", code, r.Routes)
	}
	for prefix, want := range map[string]int{"/good": 0, "/bad": 3, "/refused": 4} {
		s.check = []string{"--route", prefix}
		if code, r := s.runCheck(); code != want || len(r.Routes) != 1 || r.Routes[0].Prefix != prefix {
			t.Errorf("%s: %d", prefix, code)
		}
	}
	if strings.Contains(s.output.String(), "canary") {
		t.Error("the secret was printed")
	}
	s.check = []string{"--route", "/nowhere"}
	if code, _ := s.text(); code != 2 || !strings.Contains(s.output.String(), "write one of /good, /bad, /refused") {
		t.Errorf("%d", code)
	}
}

func TestARefusedConfiguration(t *testing.T) {
	s := newStage(t)
	s.env["AZURE_OPENAI_ENDPOINT"] = "https://eastus.api.cognitive.microsoft.com"
	assertRefused(s, "a regional host takes keys only")
	s.env["AZURE_OPENAI_ENDPOINT"] = upstream
	s.args = []string{"--listen", "0.0.0.0:4001", "--dial-timeout", "soon"}
	assertRefused(s, "dial_timeout")
	assertRefused(s, "would use your identity")
	s.args = []string{"--output", "yaml"}
	if code, _ := s.text(); code != 2 {
		t.Errorf("an unknown format: %d", code)
	}
}

// What MSAL and azidentity cannot read they quote, tokens included.
func TestTokenEndpointsThatAnswerNonsense(t *testing.T) {
	const canary = "canary-0123456789-abcdefghij"
	for name, body := range map[string]string{
		"half a token":                `{"access_token":"` + azure.MalformedToken + `","expires_`,
		"an odd expiry":               `{"access_token":"` + canary + `","expires_on":"soon","expires_in":"soon"}`,
		"a number for a token":        `{"access_token":7,"refresh_token":"` + canary + `"}`,
		"plain text":                  canary,
		"a page":                      "<html>" + canary + "</html>",
		"nothing":                     "",
		"an error with a token in it": `{"error":"x","error_description":"AADSTS70011: client_secret=` + canary + ` is odd"}`,
	} {
		for kind, set := range map[string]func(*stage){"managed identity": func(*stage) {}, "IMDS": (*stage).imds, "Entra": (*stage).clientSecret} {
			t.Run(name+" from "+kind, func(t *testing.T) {
				t.Parallel()
				s := newStage(t)
				set(s)
				s.azure.Set(func(f *azure.Faults) {
					answer := &azure.Answer{Status: http.StatusOK, Header: map[string]string{"Content-Type": "application/json"}, Body: body}
					f.Entra = []azure.Rule{{Path: "token", Answer: answer}}
				})
				code, _ := s.runCheck()
				if again, _ := s.text(); code != 3 || again != 3 {
					t.Errorf("exit codes %d and %d\n%s", code, again, s.output.String())
				}
				s.assertNoSecrets()
				if strings.Contains(s.output.String(), canary) {
					t.Errorf("printed: %s", s.output.String())
				}
			})
		}
	}
}

func TestTheTimeIsLimited(t *testing.T) {
	s := newStage(t)
	s.check = []string{"--timeout", "2s"}
	s.azure.Set(func(f *azure.Faults) { f.Entra = []azure.Rule{{Pace: azure.Pace{HeadDelay: 60}}} })
	started := time.Now()
	if code, _ := s.runCheck(); code != 3 || time.Since(started) > 10*time.Second {
		t.Errorf("exit code %d after %v", code, time.Since(started))
	}
	s.azure.Set(func(f *azure.Faults) { f.Entra, f.Azure = nil, []azure.Rule{{Pace: azure.Pace{HeadDelay: 60}}} })
	started = time.Now()
	if code, _ := s.runCheck(); code != 4 || time.Since(started) > 10*time.Second {
		t.Errorf("exit code %d after %v", code, time.Since(started))
	}
}

// As kubectl exec has it: the proxy runs in the same container, on the same
// settings.
func TestItRunsBesideTheProxy(t *testing.T) {
	s := newStage(t)
	s.args = []string{"--listen", freeAddress(t), "--admin-listen", freeAddress(t)}
	proxy := s.command(t.Context(), "serve")
	var log lockedBuffer
	proxy.Stdout, proxy.Stderr = &log, &log
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = proxy.Process.Kill(); _ = proxy.Wait() }()
	s.awaitLive("http://"+s.args[3]+"/livez", &log)
	if code, _ := s.runCheck(); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.output.String())
	}
}
