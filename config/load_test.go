package config

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTheExampleOfTheDesign(t *testing.T) {
	keys := write(t, "0123456789abcdef\n", 0o600)
	c := given{file: `
listen: 127.0.0.1:4001
admin: {listen: "127.0.0.1:4002"}
tls:                                  # a second listener
  listen: 127.0.0.1:4443
  self_signed: true
  ca_bundle_file: /run/entra-sidecar/ca-bundle.pem
inbound:
  keys_file: ` + keys + `
identities:
  team-a:
    credential: workload-identity
    tenant_id: 22222222-2222-2222-2222-222222222222
    client_id: 11111111-1111-1111-1111-111111111111
routes:
- prefix: /eastus
  upstream: https://my-eastus.openai.azure.com
  scope: https://cognitiveservices.azure.com/.default
  identity: team-a
- prefix: /front
  upstream: https://apim.example/my-api/
  headers: {Ocp-Apim-Subscription-Key: "${APIM_KEY}"}
  path: /models
replay_limit: 1MiB
drain_timeout: 90s
annotate_errors: false
log: {level: debug, format: console}
`, env: map[string]string{"APIM_KEY": "from the environment"}}.load(t)

	team := Identity{Name: "team-a", Credential: "workload-identity", TenantID: "22222222-2222-2222-2222-222222222222", ClientID: "11111111-1111-1111-1111-111111111111"}
	want := map[string]Identity{"team-a": team, "default": {Name: "default", Credential: "default"}}
	if diff := cmp.Diff(want, c.Identities); diff != "" {
		t.Error(diff)
	}
	eastus, front := c.Routes[0], c.Routes[1]
	if eastus.Prefix != "/eastus" || eastus.Upstream.String() != "https://my-eastus.openai.azure.com" || eastus.Identity != "team-a" || eastus.Path != "" {
		t.Errorf("the first route is %+v", eastus)
	}
	if front.Upstream.String() != "https://apim.example/my-api" || front.Identity != "default" || front.Path != "/models" ||
		front.Headers["Ocp-Apim-Subscription-Key"].Reveal() != "from the environment" {
		t.Errorf("the second route is %+v", front)
	}
	if c.TLS != (TLS{Listen: "127.0.0.1:4443", SelfSigned: true, CABundleFile: "/run/entra-sidecar/ca-bundle.pem"}) {
		t.Errorf("tls is %+v", c.TLS)
	}
	if c.ReplayLimit != 1<<20 || c.ReplayBudget != 64<<20 || c.DrainTimeout != 90*time.Second || c.AnnotateErrors || c.Log != (Log{"debug", "console"}) {
		t.Errorf("the settings are %+v", c)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %q", c.Warnings)
	}
}

func TestOneUpstreamIsEnough(t *testing.T) {
	tests := map[string]given{
		"by flag":                           {flags: upstream},
		"by variable":                       {env: map[string]string{"ENTRA_SIDECAR_UPSTREAM": "https://my.openai.azure.com/"}},
		"by the variable of OpenAI's SDKs":  {env: map[string]string{"AZURE_OPENAI_ENDPOINT": "https://my.openai.azure.com/"}},
		"in another case":                   {flags: map[string]string{"upstream": "HTTPS://My.OpenAI.Azure.com"}},
		"the flag before both variables":    {flags: upstream, env: map[string]string{"ENTRA_SIDECAR_UPSTREAM": "https://b.openai.azure.com", "AZURE_OPENAI_ENDPOINT": "https://c.openai.azure.com"}},
		"our variable before the others":    {env: map[string]string{"ENTRA_SIDECAR_UPSTREAM": "https://my.openai.azure.com", "AZURE_OPENAI_ENDPOINT": "https://c.openai.azure.com"}},
		"beside a file without routes":      {flags: upstream, file: "log: {level: warn}"},
		"the file's routes before the SDKs": {file: "routes: [{upstream: https://my.openai.azure.com}]", env: map[string]string{"AZURE_OPENAI_ENDPOINT": "https://c.openai.azure.com"}},
		"an empty variable of the SDKs":     {flags: upstream, env: map[string]string{"AZURE_OPENAI_ENDPOINT": ""}},
	}
	for name, g := range tests {
		t.Run(name, func(t *testing.T) {
			c := g.load(t)
			if len(c.Routes) != 1 {
				t.Fatalf("%d routes", len(c.Routes))
			}
			if r := c.Routes[0]; r.Prefix != "/" || r.Upstream.String() != "https://my.openai.azure.com" || r.Scope != "https://cognitiveservices.azure.com/.default" || r.Identity != "default" {
				t.Errorf("the route is %+v", r)
			}
			if id, ok := c.Identities["default"]; !ok || id.Credential != "default" || id.Name != "default" {
				t.Errorf("the identities are %+v", c.Identities)
			}
		})
	}
}

func TestTheOriginOfAValue(t *testing.T) {
	c := given{
		file:  "drain_timeout: 1m\ninbound:\n  insecure_allow_anonymous: true\n",
		env:   map[string]string{"AZURE_OPENAI_ENDPOINT": "https://my.openai.azure.com", "ENTRA_SIDECAR_LOG_LEVEL": "debug"},
		flags: map[string]string{"scope": "https://x.example/.default"},
	}.load(t)
	want := map[string]string{
		"listen":                           "default",
		"drain_timeout":                    "sidecar.yaml:1:16",
		"inbound.insecure_allow_anonymous": "sidecar.yaml:3:29",
		"log.level":                        "ENTRA_SIDECAR_LOG_LEVEL",
		"upstream":                         "AZURE_OPENAI_ENDPOINT",
		"routes[0].upstream":               "AZURE_OPENAI_ENDPOINT",
		"routes[0].scope":                  "--scope",
		"routes[0].prefix":                 "default",
	}
	for setting, origin := range want {
		if got := c.Origin(setting); filepath.Base(got) != origin {
			t.Errorf("%s comes from %s, not %s", setting, got, origin)
		}
	}
}

func TestExpansionOfVariablesInTheFile(t *testing.T) {
	env := map[string]string{"NAME": "debug", "HALF": "bug", "URL": "https://my.openai.azure.com", "REFERENCE": "${NAME}"}
	tests := []struct{ name, yaml, want string }{
		{"the whole value", "${NAME}", "debug"},
		{"a part", "de${HALF}", "debug"},
		{"in quotes", `"de${HALF}"`, "debug"},
		{"in a block", ">-\n      de${HALF}", "debug"},
		{"escaped", "$${NAME}", "${NAME}"},
		{"escaped behind a dollar", "$$${NAME}", "$${NAME}"},
		{"a dollar alone", "$NAME", "$NAME"},
		{"not a second time", "${REFERENCE}", "${NAME}"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := given{env: env, file: "routes:\n- upstream: ${URL}\n  headers:\n    X: " + tt.yaml + "\n"}.load(t)
			if got := c.Routes[0].Headers["X"].Reveal(); got != tt.want {
				t.Errorf("it is %q, not %q", got, tt.want)
			}
		})
	}
}

// The value's type decides, not the spelling of the file.
func TestScalarsOfTheFileAreReadAsTheirSettingSays(t *testing.T) {
	c := given{file: `
routes: [{upstream: https://my.openai.azure.com, headers: {X: 0123, Y: true, Z: 1.10}, identity: a}]
identities: {a: {credential: azure-cli, tenant_id: 007}}
annotate_errors: "false"
replay_limit: 65536
`}.load(t)
	if c.AnnotateErrors || c.ReplayLimit != 65536 || c.Identities["a"].TenantID != "007" {
		t.Errorf("the settings are %+v", c)
	}
	for name, want := range map[string]string{"X": "0123", "Y": "true", "Z": "1.10"} {
		if got := c.Routes[0].Headers[name].Reveal(); got != want {
			t.Errorf("%s is %s", name, got)
		}
	}
}

func TestFilesThatSayNothing(t *testing.T) {
	for name, file := range map[string]string{"empty lines": "\n\n", "a comment": "# nothing\n", "a marker": "---\n", "marker and comment": "---\n# nothing\n...\n"} {
		t.Run(name, func(t *testing.T) {
			given{file: file, flags: upstream}.load(t)
		})
	}
}

func TestFilesFromOtherSystems(t *testing.T) {
	for name, file := range map[string]string{"a byte order mark": "\ufefflisten: 127.0.0.1:4009\n", "carriage returns": "# x\r\nlisten: 127.0.0.1:4009\r\nlog:\r\n  level: debug\r\n"} {
		t.Run(name, func(t *testing.T) {
			if c := (given{file: file, flags: upstream}).load(t); c.Listen != "127.0.0.1:4009" {
				t.Errorf("listen is %s", c.Listen)
			}
		})
	}
}

func TestInboundKeys(t *testing.T) {
	file := write(t, "# team a\r\nfirst-0123456789abcdef\r\n\n\nsecond-0123456789abcdef", 0o600)
	c := given{flags: with("inbound-keys-file", file, "listen", ":4001"), env: map[string]string{"ENTRA_SIDECAR_INBOUND_KEY": "third-0123456789abcdef"}}.load(t)
	var keys []string
	for _, key := range c.Inbound.Keys {
		keys = append(keys, key.Reveal())
	}
	if want := []string{"first-0123456789abcdef", "second-0123456789abcdef", "third-0123456789abcdef"}; !slices.Equal(keys, want) {
		t.Errorf("the keys are %q", keys)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %q", c.Warnings)
	}
}

func TestWarnings(t *testing.T) {
	key := "ENTRA_SIDECAR_INBOUND_KEY"
	tests := []struct {
		name string
		given
		want []string // the beginning of each
	}{
		{"a short key in the environment", given{flags: upstream, env: map[string]string{key: "short"}}, []string{"inbound.key (ENTRA_SIDECAR_INBOUND_KEY): is a key of less than 16"}},
		{"a short key in the file", given{flags: with("inbound-keys-file", write(t, "0123456789abcdef\nshort\n", 0o600))}, []string{"inbound.keys_file (--inbound-keys-file): line 2 is a key of less than 16"}},
		{"keys that everybody can read", given{flags: with("inbound-keys-file", write(t, "0123456789abcdef\n", 0o604))}, []string{"inbound.keys_file (--inbound-keys-file): can be read by every user"}},
		{"keys that a group can read", given{flags: with("inbound-keys-file", write(t, "0123456789abcdef\n", 0o640))}, nil},
		{"an identity that no route uses", given{flags: upstream, file: "identities: {a: {credential: azure-cli}}"}, []string{"identities.a (sidecar.yaml:1:17): no route uses it"}},
		{"anonymous beyond loopback", given{flags: with("listen", ":4001", "insecure-allow-anonymous", "true")}, []string{"listen (--listen): anybody who reaches"}},
		{"anonymous on loopback", given{flags: with("insecure-allow-anonymous", "true")}, nil},
		{"an empty client id", given{flags: upstream, env: map[string]string{"AZURE_CLIENT_ID": ""}}, []string{"AZURE_CLIENT_ID: is set but empty"}},
		{"a proxy before the instance metadata", given{flags: upstream, env: map[string]string{"HTTP_PROXY": "http://user:secret@proxy:3128"}}, []string{"HTTP_PROXY: captures requests for managed identity tokens"}},
		{"the same in lower case", given{flags: upstream, env: map[string]string{"http_proxy": "proxy:3128", "no_proxy": "localhost,.example"}}, []string{"HTTP_PROXY: captures"}},
		{"a proxy that spares it", given{flags: upstream, env: map[string]string{"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "localhost,169.254.169.254"}}, nil},
		{"a proxy that spares its network", given{flags: upstream, env: map[string]string{"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "169.254.0.0/16"}}, nil},
		{"a proxy for https only", given{flags: upstream, env: map[string]string{"HTTPS_PROXY": "http://proxy:3128"}}, nil},
		{"a proxy and App Service", given{flags: upstream, env: map[string]string{"HTTP_PROXY": "http://proxy:3128", "IDENTITY_ENDPOINT": "http://localhost:42356/msi/token"}}, nil},
		{"a proxy and another credential", given{flags: upstream, file: "identities: {default: {credential: azure-cli}}", env: map[string]string{"HTTP_PROXY": "http://proxy:3128", "AZURE_CLIENT_ID": "", "AZURE_TOKEN_CREDENTIALS": ""}}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.load(t).Warnings
			if len(got) != len(tt.want) {
				t.Fatalf("warnings: %q", got)
			}
			for i, want := range tt.want {
				if text := withoutDirectory(got[i]); !strings.HasPrefix(text, want) {
					t.Errorf("it warns %q, not %q", text, want)
				}
				mustNotShow(t, "the warning", got[i])
			}
		})
	}
}

// withoutDirectory shortens (/tmp/…/sidecar.yaml:1:2) to (sidecar.yaml:1:2).
func withoutDirectory(text string) string {
	if i, j := strings.Index(text, "(/"), strings.Index(text, "/sidecar.yaml"); i >= 0 && j > i {
		return text[:i+1] + text[j+1:]
	}
	return text
}

func TestAHealthCheckNeedsNoMoreThanTheAddress(t *testing.T) {
	tests := []struct {
		name string
		given
		want string // empty: an error
	}{
		{"with nothing", given{}, "127.0.0.1:4002"},
		{"by flag", given{flags: map[string]string{"admin-listen": ":1"}}, ":1"},
		{"by file, beside problems", given{file: "admin: {listen: '[::]:2'}\nnonsense: 1\nroutes: x\n", env: map[string]string{"ENTRA_SIDECAR_UPSTREAM": "x"}}, "[::]:2"},
		{"with an address that is none", given{flags: map[string]string{"admin-listen": "x"}}, ""},
		{"with a file that is none", given{flags: map[string]string{"config": filepath.Join(t.TempDir(), "none.yaml")}}, ""},
		{"with a file that is not YAML", given{file: "a: [\n"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := AdminListen(tt.sources(t))
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("it is %q, %v", got, err)
			}
		})
	}
}

func TestPrintWritesAFileOfTheSameEffect(t *testing.T) {
	cert := write(t, "", 0o600)
	first := given{file: `
listen: "[::1]:4001"
tls: {listen: "127.0.0.1:4443", cert_file: ` + cert + `, key_file: ` + cert + `}
identities:
  a-1: {credential: client-certificate, tenant_id: "0123", client_id: "true", certificate_file: ` + cert + `}
  gov: {credential: managed-identity, client_id: "/subscriptions/x y"}
routes:
- {prefix: /a, upstream: "https://a.openai.azure.us", identity: a-1, path: /models}
- {prefix: /b, upstream: "https://apim.example/x", scope: "api://x/.default", identity: gov}
response_header_timeout: 1h
idle_timeout: 1h30m
dial_timeout: 1500ms
replay_limit: 0
annotate_errors: false
log: {level: error, format: json}
`, env: map[string]string{}}.load(t)
	var printed strings.Builder
	if err := first.Print(&printed); err != nil {
		t.Fatal(err)
	}
	second := given{file: printed.String()}.load(t)
	ignore := cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "origins" || p.String() == "shorthand" }, cmp.Ignore())
	if diff := cmp.Diff(first, second, ignore, cmp.AllowUnexported(Config{})); diff != "" {
		t.Errorf("%s\n%s", diff, &printed)
	}
}

func TestPrintShowsOriginsAndWhatCouldBeSet(t *testing.T) {
	c := given{env: map[string]string{"AZURE_OPENAI_ENDPOINT": "https://my.openai.azure.us"}, flags: map[string]string{"drain-timeout": "1m"}}.load(t)
	var b strings.Builder
	if err := c.Print(&b); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(strings.Fields(b.String()), " ") // whatever the columns
	for _, want := range []string{
		"# upstream: https://my.openai.azure.us # AZURE_OPENAI_ENDPOINT",
		"listen: 127.0.0.1:4001 # default",
		"# keys_file: none",
		"authority: government # by the upstream's host",
		"- prefix: / # default upstream: https://my.openai.azure.us # AZURE_OPENAI_ENDPOINT",
		"scope: https://cognitiveservices.azure.us/.default # by the upstream's host",
		"drain_timeout: 1m # --drain-timeout",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("it lacks %q:\n%s", want, &b)
		}
	}
}
