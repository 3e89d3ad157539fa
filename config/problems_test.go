package config

import (
	"path/filepath"
	"strings"
	"testing"
)

// in writes a route with one more line.
func in(line string) given {
	return given{file: "routes:\n- upstream: https://my.openai.azure.com\n  " + line + "\n", env: map[string]string{"EMPTY": ""}}
}

func flags(flags ...string) given { return given{flags: with(flags...)} }

func as(lines string) given {
	return given{flags: upstream, file: "identities:\n  default:\n    " + strings.ReplaceAll(lines, "\n", "\n    ") + "\n"}
}

func at(u string) given { return given{flags: map[string]string{"upstream": u}} }

// Each problem is found alone, and its beginning and what to write instead are
// in its text.
func TestProblems(t *testing.T) {
	file := write(t, "", 0o600)
	missing := filepath.Join(t.TempDir(), "missing")
	tests := []struct {
		name string
		given
		begin, instead string
	}{
		{"nothing at all", given{}, "upstream: is missing", "ENTRA_SIDECAR_UPSTREAM or AZURE_OPENAI_ENDPOINT"},
		{"a scope alone", given{flags: map[string]string{"scope": "https://x/.default"}}, "upstream: is missing", "set ENTRA_SIDECAR_UPSTREAM"},
		{"two routes without a prefix", given{file: "routes:\n- {upstream: https://a.openai.azure.com}\n- {upstream: https://b.openai.azure.com}"}, "routes[1].prefix (sidecar.yaml:3:", "is that of routes[0] too"},
		{"no routes in a list", given{file: "routes: []"}, "routes (sidecar.yaml:1:9): is empty", "write an entry"},

		{"a host without a scheme", at("my.openai.azure.com"), "upstream (--upstream): is not a URL", "https://NAME.openai.azure.com"},
		{"a host and port without a scheme", at("localhost:8080"), "upstream (--upstream): is not a URL", "https://"},
		{"an upstream by plain http", at("http://my.openai.azure.com"), "upstream (--upstream): must begin with https://", "http is for loopback only"},
		{"an address of the network by plain http", at("http://10.0.0.1"), "upstream (--upstream): must begin with https://", ""},
		{"a name that only begins like localhost", at("http://localhost.example"), "upstream (--upstream): must begin with https://", ""},
		{"another scheme", at("ftp://my.openai.azure.com"), "upstream (--upstream): must begin with https://", ""},
		{"an upstream with a password", at("https://user:" + canary + "@my.openai.azure.com"), "upstream (--upstream): must not hold a user or password", "remove"},
		{"an upstream with a key in its query", at("https://my.openai.azure.com?api-key=" + canary), "upstream (--upstream): must not have a query", "remove"},
		{"an upstream with an empty query", at("https://my.openai.azure.com/?"), "upstream (--upstream): must not have a query", "remove"},
		{"an upstream with a fragment", at("https://my.openai.azure.com/#x"), "upstream (--upstream): must not have a fragment", "remove"},
		{"an upstream that cannot be parsed", at("https://my.openai.azure.com:" + canary), "upstream (--upstream): is not a URL", ""},
		{"an endpoint from the portal", at("https://my.openai.azure.com/openai/deployments/gpt-4o/chat/completions"), "upstream (--upstream): give only the resource's base URL", "https://HOST"},
		{"the v1 endpoint", at("https://my.openai.azure.com/openai/v1/"), "upstream (--upstream): give only", ""},
		{"a front with /openai", at("https://apim.example/api/OpenAI"), "upstream (--upstream): give only", ""},
		{"a Claude endpoint", at("https://my.services.ai.azure.com/anthropic"), "upstream (--upstream): give only", ""},
		{"a resource with another path", at("https://my.services.ai.azure.com/models"), "upstream (--upstream): give only", "a route's path"},
		{"a front with a doubled slash", at("https://apim.example/a//b"), "upstream (--upstream): must not hold //", ""},
		{"a front with two slashes at the end", at("https://apim.example/a//"), "upstream (--upstream): must not end with /", ""},
		{"a front with an escaped path", at("https://apim.example/a%2Fb"), "upstream (--upstream): holds a character that needs escaping", ""},
		{"a front with dots", at("https://apim.example/a/../b"), "upstream (--upstream): must not hold . or ..", ""},
		{"a regional host", at("https://swedencentral.api.cognitive.microsoft.com"), "upstream (--upstream): a regional host takes keys only", "--custom-domain NAME"},
		{"a private link's host", at("https://my.privatelink.openai.azure.com"), "upstream (--upstream): certificates do not cover privatelink names", "without privatelink"},
		{"a route without an upstream", given{file: "routes:\n- prefix: /a\n"}, "routes[0].upstream (sidecar.yaml:2:3): is missing", "https://NAME.openai.azure.com"},
		{"a variable with a bad upstream", given{env: map[string]string{"AZURE_OPENAI_ENDPOINT": "http://x.example"}}, "upstream (AZURE_OPENAI_ENDPOINT): must begin with https://", ""},

		{"a prefix without its slash", in("prefix: a"), "routes[0].prefix (sidecar.yaml:3:11): must begin with /", ""},
		{"a prefix with a slash at its end", in("prefix: /a/"), "routes[0].prefix (sidecar.yaml:3:11): must not end with /", "remove it"},
		{"a prefix with a doubled slash", in("prefix: /a//b"), "routes[0].prefix (sidecar.yaml:3:11): must not hold //", ""},
		{"a prefix with a query", in("prefix: /a?b"), "routes[0].prefix (sidecar.yaml:3:11): holds a character", ""},
		{"a prefix with a fragment", in("prefix: /a#b"), "routes[0].prefix (sidecar.yaml:3:11): holds a character", ""},
		{"a prefix with an escape", in("prefix: /a%2F"), "routes[0].prefix (sidecar.yaml:3:11): holds a character", ""},
		{"a prefix with a space", in("prefix: /a b"), "routes[0].prefix (sidecar.yaml:3:11): holds a character", ""},
		{"a prefix with a dot segment", in("prefix: /a/./b"), "routes[0].prefix (sidecar.yaml:3:11): must not hold . or ..", ""},
		{"a prefix that goes up", in("prefix: /.."), "routes[0].prefix (sidecar.yaml:3:11): must not hold . or ..", ""},
		{"a prefix that LiteLLM cuts", in("prefix: /openai"), "routes[0].prefix (sidecar.yaml:3:11): must not hold /openai", "/eastus"},
		{"a prefix that LiteLLM cuts in the middle", in("prefix: /team/openai-east"), "routes[0].prefix (sidecar.yaml:3:11): must not hold /openai", ""},
		{"a prefix like Anthropic's", in("prefix: /anthropic"), "routes[0].prefix (sidecar.yaml:3:11): must not hold /openai or /anthropic", ""},
		{"one prefix twice", given{file: "routes:\n- upstream: https://a.openai.azure.com\n- upstream: https://b.openai.azure.com\n  prefix: /\n"}, "routes[1].prefix (sidecar.yaml:4:11): is that of routes[0] too", "its own"},
		{"a path without its slash", in("path: models"), "routes[0].path (sidecar.yaml:3:9): must begin with /", ""},
		{"a path of a slash", in("path: /"), "routes[0].path (sidecar.yaml:3:9): must not end with /", ""},

		{"a scope without .default", flags("scope", "https://cognitiveservices.azure.com"), "scope (--scope): must end in /.default", "https://cognitiveservices.azure.com/.default"},
		{"a scope by plain http", flags("scope", "http://cognitiveservices.azure.com/.default"), "scope (--scope): must be an https:// or api:// URL", ""},
		{"a scope without a scheme", flags("scope", "cognitiveservices.azure.com/.default"), "scope (--scope): must be an https:// or api:// URL", ""},
		{"a scope in the file", in("scope: https://x"), "routes[0].scope (sidecar.yaml:3:10): must end in /.default", ""},

		{"a header with the token", in("headers: {authorization: Bearer x}"), "routes[0].headers.authorization (sidecar.yaml:3:28): cannot be set, since the sidecar or the connection sets it", "remove it"},
		{"a header with the host", in("headers: {HOST: x}"), "routes[0].headers.HOST (sidecar.yaml:3:19): cannot be set", ""},
		{"a header of the connection", in("headers: {Transfer-Encoding: chunked}"), "routes[0].headers.Transfer-Encoding (sidecar.yaml:3:32): cannot be set", ""},
		{"a header twice", in("headers: {X-A: 1, x-a: 2}"), "routes[0].headers.x-a (sidecar.yaml:3:26): is set twice", ""},
		{"a header's name with a space", in("headers: {X A: 1}"), "routes[0].headers (sidecar.yaml:3:13): a name must consist of letters", ""},
		{"a header beyond ASCII", in("headers: {X: é" + canary + "}"), "routes[0].headers.X (sidecar.yaml:3:16): holds a character that a header cannot", "ASCII"},
		{"a header with two lines", in(`headers: {X: "a\nb` + canary + `"}`), "routes[0].headers.X (sidecar.yaml:3:16): holds a line break", "remove it"},
		{"headers as a list", in("headers: [a]"), "routes[0].headers (sidecar.yaml:3:12): must be a mapping", ""},

		{"an unknown identity", in("identity: nobody"), `routes[0].identity (sidecar.yaml:3:13): "nobody" is not one of identities`, "write one of default"},
		{"an identity with a slip", given{file: "identities: {team-a: {credential: azure-cli}}\nroutes: [{upstream: https://a.openai.azure.com, identity: team_a}]"}, `routes[0].identity (sidecar.yaml:2:59): "team_a" is not one of identities`, "did you mean team-a?"},
		{"an unknown credential", as("credential: kerberos"), `identities.default.credential (sidecar.yaml:3:17): "kerberos" is not a credential`, "write one of azure-cli, azure-developer-cli, client-certificate"},
		{"a credential with a slip", as("credential: ManagedIdentity"), `identities.default.credential (sidecar.yaml:3:17): "ManagedIdentity" is not a credential`, "did you mean managed-identity?"},
		{"a missing field", as("credential: client-secret\nclient_id: c\nclient_secret: s"), "identities.default.tenant_id (sidecar.yaml:3:5): is missing", "client-secret needs it"},
		{"a field of another credential", as("credential: azure-cli\nclient_secret: " + canary), "identities.default.client_secret (sidecar.yaml:4:20): has no effect for the credential azure-cli", "remove it"},
		{"a tenant that is none", as("credential: azure-cli\ntenant_id: a b"), "identities.default.tenant_id (sidecar.yaml:4:16): must be a tenant's id", ""},
		{"an authority by plain http", as("authority: http://login.example"), "identities.default.authority (sidecar.yaml:3:16): must be public, government, china", "https://"},
		{"a certificate that is not there", as("credential: client-certificate\ntenant_id: t\nclient_id: c\ncertificate_file: " + missing), "identities.default.certificate_file (sidecar.yaml:6:23): cannot be read", ""},
		{"a token that is not there", as("credential: workload-identity\ntoken_file: " + missing), "identities.default.token_file (sidecar.yaml:4:17): cannot be read", ""},
		{"an identity in two clouds", given{file: "routes:\n- upstream: https://a.openai.azure.us\n- upstream: https://a.openai.azure.com\n  prefix: /b\n"}, "identities.default.authority: its routes go to the government and the public cloud", "an identity for each"},
		{"an identity's name with a space", given{flags: upstream, file: "identities: {a b: {}}"}, "identities (sidecar.yaml:1:14): a name must consist of letters", ""},
		{"an empty choice of azidentity", given{flags: upstream, env: map[string]string{"AZURE_TOKEN_CREDENTIALS": ""}}, "AZURE_TOKEN_CREDENTIALS: is set but empty", "unset it"},

		{"an open listener", flags("listen", "0.0.0.0:4001"), "listen (--listen): others can reach this address", "listen on 127.0.0.1"},
		{"an open listener on all interfaces", flags("listen", ":4001"), "listen (--listen): others can reach this address", "inbound.keys_file"},
		{"an open listener by IPv6", flags("listen", "[::]:4001"), "listen (--listen): others can reach this address", "ENTRA_SIDECAR_INBOUND_KEY"},
		{"an open listener by name", flags("listen", "sidecar:4001"), "listen (--listen): others can reach this address", "--insecure-allow-anonymous"},
		{"an open TLS listener", flags("tls-listen", ":4443", "tls-self-signed", "true"), "tls.listen (--tls-listen): others can reach this address", ""},
		{"a port alone", flags("listen", "4001"), `listen (--listen): "4001" is not an address`, "127.0.0.1:4001"},
		{"a port by name", flags("admin-listen", "127.0.0.1:http"), `admin.listen (--admin-listen): "127.0.0.1:http" has no number`, ""},
		{"a port that is too large", flags("listen", "127.0.0.1:65536"), `listen (--listen): "127.0.0.1:65536" has no number from 0 to 65535`, ""},
		{"a URL as an address", flags("listen", "http://127.0.0.1:4001"), `listen (--listen): "http://127.0.0.1:4001" is not an address`, ""},
		{"one port twice", flags("admin-listen", "127.0.0.1:4001"), "admin.listen (--admin-listen): has the port of listen", "choose another"},
		{"one port twice, once on all interfaces", flags("admin-listen", ":4001"), "admin.listen (--admin-listen): has the port of listen", ""},
		{"one port twice, by name", flags("tls-listen", "localhost:4001", "tls-self-signed", "true"), "tls.listen (--tls-listen): has the port of listen", ""},

		{"TLS without a certificate", flags("tls-listen", "127.0.0.1:4443"), "tls.listen (--tls-listen): needs a certificate", "tls.self_signed"},
		{"a certificate without its key", flags("tls-listen", "127.0.0.1:4443", "tls-cert-file", file), "tls.cert_file (--tls-cert-file): needs the private key", "tls.key_file"},
		{"a key without its certificate", flags("tls-listen", "127.0.0.1:4443", "tls-key-file", file), "tls.key_file (--tls-key-file): needs the certificate", "tls.cert_file"},
		{"a certificate of both kinds", flags("tls-listen", "127.0.0.1:4443", "tls-self-signed", "true", "tls-cert-file", file, "tls-key-file", file), "tls.self_signed (--tls-self-signed): contradicts tls.cert_file", "remove one"},
		{"a certificate without a listener", flags("tls-cert-file", file, "tls-key-file", file), "tls.cert_file (--tls-cert-file): has no effect without tls.listen", "127.0.0.1:4443"},
		{"self-signed without a listener", flags("tls-self-signed", "true"), "tls.self_signed (--tls-self-signed): has no effect without tls.listen", ""},
		{"a bundle without its certificate", flags("tls-listen", "127.0.0.1:4443", "tls-cert-file", file, "tls-key-file", file, "tls-ca-bundle-file", file), "tls.ca_bundle_file (--tls-ca-bundle-file): has no effect without tls.self_signed", ""},
		{"a certificate that cannot be read", flags("tls-listen", "127.0.0.1:4443", "tls-cert-file", missing, "tls-key-file", file), "tls.cert_file (--tls-cert-file): cannot be read: no such file", ""},

		{"keys that are not there", flags("inbound-keys-file", missing), "inbound.keys_file (--inbound-keys-file): cannot be read: no such file", ""},
		{"no keys in the file", flags("inbound-keys-file", write(t, "# none yet\n\n", 0o600)), "inbound.keys_file (--inbound-keys-file): holds no key", "one a line"},
		{"a key with a space", flags("inbound-keys-file", write(t, "0123456789abcdef\n"+canary+" "+canary+"\n", 0o600)), "inbound.keys_file (--inbound-keys-file): line 2 holds white space", "remove it"},
		{"a key beyond ASCII", flags("inbound-keys-file", write(t, canary+"é\n", 0o600)), "inbound.keys_file (--inbound-keys-file): line 1 holds", ""},
		{"a key with a line break", given{flags: upstream, env: map[string]string{"ENTRA_SIDECAR_INBOUND_KEY": canary + "\n"}}, "inbound.key (ENTRA_SIDECAR_INBOUND_KEY): holds a line break", "remove it"},
		{"an empty key", given{flags: upstream, env: map[string]string{"ENTRA_SIDECAR_INBOUND_KEY": ""}}, "inbound.key (ENTRA_SIDECAR_INBOUND_KEY): is set but empty", "remove it"},

		{"a duration without its unit", flags("drain-timeout", "300"), `drain_timeout (--drain-timeout): "300" is not a duration`, "90s, 10m"},
		{"a negative duration", flags("drain-timeout", "-1s"), "drain_timeout (--drain-timeout): must not be negative", ""},
		{"no duration for a limit", flags("dial-timeout", "0s"), "dial_timeout (--dial-timeout): must be more than 0", ""},
		{"a size in an ambiguous unit", flags("replay-limit", "4MB"), `replay_limit (--replay-limit): "4MB" is not a size`, "4MiB"},
		{"a negative size", flags("replay-budget", "-1"), `replay_budget (--replay-budget): "-1" is not a size`, ""},
		{"neither true nor false", flags("annotate-errors", "maybe"), `annotate_errors (--annotate-errors): "maybe" is neither true nor false`, ""},
		{"a level that is none", flags("log-level", "loud"), `log.level (--log-level): "loud" is none of debug, info, warn, error`, ""},
		{"a format that is none", flags("log-format", "xml"), `log.format (--log-format): "xml" is none of json, console`, ""},
		{"an empty variable", given{flags: upstream, env: map[string]string{"ENTRA_SIDECAR_LISTEN": ""}}, "listen (ENTRA_SIDECAR_LISTEN): is set but empty", "remove it"},
		{"white space around a value", given{flags: upstream, env: map[string]string{"ENTRA_SIDECAR_LISTEN": " 127.0.0.1:4001"}}, "listen (ENTRA_SIDECAR_LISTEN): begins or ends with white space", "remove it"},

		{"a file that is not there", given{flags: with("config", missing)}, "config (--config): cannot be read: no such file", ""},
		{"a file that is not there, and no upstream", given{env: map[string]string{"ENTRA_SIDECAR_CONFIG": missing}}, "config (ENTRA_SIDECAR_CONFIG): cannot be read: no such file", ""},
		{"a directory", given{flags: with("config", t.TempDir())}, "config (--config): cannot be read: is a directory", ""},
		{"a file that is not YAML", given{flags: upstream, file: "listen: 127.0.0.1:4001\nlog: [\n"}, "config (sidecar.yaml:2:6): no valid YAML", ""},
		{"a list instead of settings", given{flags: upstream, file: "- a\n"}, "config (sidecar.yaml:1:1): must be a mapping", ""},
		{"two documents", given{flags: upstream, file: "log: {level: info}\n---\nlog: {level: warn}\n"}, "config (sidecar.yaml:3:1): a second document is not read", "remove the line ---"},
		{"an unknown key", given{flags: upstream, file: "listn: 127.0.0.1:4001\n"}, "listn (sidecar.yaml:1:1): no such setting", "did you mean listen?"},
		{"a key in another style", given{flags: upstream, file: "drainTimeout: 1m\n"}, "drainTimeout (sidecar.yaml:1:1): no such setting", "did you mean drain_timeout?"},
		{"an unknown key below another", given{flags: upstream, file: "log:\n  colour: red\n"}, "log.colour (sidecar.yaml:2:3): no such setting", "write one of level, format"},
		{"a key twice", given{flags: upstream, file: "log:\n  level: info\n  level: warn\n"}, "log.level (sidecar.yaml:3:3): is set twice, first at line 2", "remove one"},
		{"a flag's name in the file", given{flags: upstream, file: "scope: https://x/.default\n"}, "scope (sidecar.yaml:1:1): has no place in the file", "one of routes"},
		{"a key in the file", given{flags: upstream, file: "inbound: {key: " + canary + "}\n"}, "inbound.key (sidecar.yaml:1:11): has no place in the file", "inbound.keys_file"},
		{"a mapping for a value", given{flags: upstream, file: "listen: {a: b}\n"}, "listen (sidecar.yaml:1:9): must be a single value", ""},
		{"a list for a value", given{flags: upstream, file: "listen: [a]\n"}, "listen (sidecar.yaml:1:9): must be a single value", ""},
		{"a value for a mapping", given{flags: upstream, file: "log: debug\n"}, "log (sidecar.yaml:1:6): must be a mapping", ""},
		{"a mapping for a list", given{file: "routes: {upstream: https://a.openai.azure.com}\n"}, "routes (sidecar.yaml:1:9): must be a list", "-"},
		{"no value", given{flags: upstream, file: "listen:\n"}, "listen (sidecar.yaml:1:9): has no value", ""},
		{"an empty value", given{flags: upstream, file: "listen: ''\n"}, "listen (sidecar.yaml:1:9): is set but empty", ""},
		{"an alias", given{flags: upstream, file: "log: {level: &a info, format: *a}\n"}, "log.level (sidecar.yaml:1:14): anchors, aliases", "write the value itself"},
		{"an unset variable", in("prefix: /${NOWHERE}"), "routes[0].prefix (sidecar.yaml:3:11): the environment variable NOWHERE is not set", "set it"},
		{"an empty variable in the file", in("scope: ${EMPTY}"), "routes[0].scope (sidecar.yaml:3:10): is set but empty", ""},
		{"a reference that does not end", in("headers: {X: '${" + canary + "'}"), "routes[0].headers.X (sidecar.yaml:3:16): ${ begins the name", "$${"},
		{"a reference to no name", in("headers: {X: '${" + canary + "}'}"), "routes[0].headers.X (sidecar.yaml:3:16): ${ begins the name", "$${"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.problems(t)
			for _, problem := range got {
				mustNotShow(t, "the problem", problem)
			}
			// An alias has an anchor, and the message is about each.
			if len(got) == 0 || len(got) > 1 && tt.name != "an alias" {
				t.Fatalf("the problems are %q", got)
			}
			if !strings.HasPrefix(got[0], tt.begin) || !strings.Contains(got[0], tt.instead) {
				t.Errorf("the problem is  %s\nit should begin %s\nand say        %s", got[0], tt.begin, tt.instead)
			}
		})
	}
}

func TestWhatIsAllowed(t *testing.T) {
	file := write(t, "", 0o600)
	tests := map[string]given{
		"http on loopback":                     at("http://127.0.0.1:8080"),
		"http on loopback by IPv6":             at("http://[::1]:8080"),
		"http on localhost":                    at("http://localhost:8080/base"),
		"a front with a base path":             at("https://apim.example/my-api"),
		"a front with a name like the API":     at("https://apim.example/openai-api/"),
		"a Foundry project":                    at("https://my.services.ai.azure.com/api/projects/one"),
		"a port":                               at("https://my.openai.azure.com:8443"),
		"the prefix of everything":             in("prefix: /"),
		"a prefix of two segments":             in("prefix: /team/east-1_b.c~d"),
		"a path":                               in("path: /anthropic"),
		"a scope of an application":            in("scope: api://11111111-1111-1111-1111-111111111111/.default"),
		"a header for a front":                 {file: "routes: [{upstream: https://apim.example, headers: {api-key: x}}]"},
		"a prefix within a prefix":             {file: "routes: [{upstream: https://a.example}, {upstream: https://b.example, prefix: /a}, {upstream: https://b.example, prefix: /a/b}]"},
		"an identity of one's own as default":  as("credential: managed-identity\nclient_id: c"),
		"an identity of another tenant":        as("tenant_id: contoso.onmicrosoft.com"),
		"an authority":                         as("credential: environment\nauthority: https://login.example"),
		"a user-assigned identity by resource": as("credential: managed-identity\nclient_id: /subscriptions/x/resourceGroups/y"),
		"a certificate":                        as("credential: client-certificate\ntenant_id: t\nclient_id: c\ncertificate_file: " + file),
		"two clouds with an identity each":     {file: "identities: {us: {credential: azure-cli}}\nroutes: [{upstream: https://a.openai.azure.us, identity: us}, {upstream: https://a.openai.azure.com, prefix: /b}]"},
		"two clouds by managed identity":       {file: "identities: {default: {credential: managed-identity}}\nroutes: [{upstream: https://a.openai.azure.us}, {upstream: https://a.openai.azure.com, prefix: /b}]"},
		"an open listener with a key":          {flags: with("listen", ":4001"), env: map[string]string{"ENTRA_SIDECAR_INBOUND_KEY": "0123456789abcdef"}},
		"an open listener, meant":              flags("listen", ":4001", "insecure-allow-anonymous", "true"),
		"an open admin listener":               flags("admin-listen", "0.0.0.0:4002"),
		"all loopback addresses":               flags("listen", "127.0.0.2:4001"),
		"loopback by IPv6":                     flags("listen", "[::1]:4001"),
		"loopback by name":                     flags("listen", "localhost:4001"),
		"any free ports":                       flags("listen", "127.0.0.1:0", "admin-listen", "127.0.0.1:0"),
		"one port on two addresses":            flags("listen", "127.0.0.1:4001", "admin-listen", "10.0.0.1:4001"),
		"a certificate and its key":            flags("tls-listen", "127.0.0.1:4443", "tls-cert-file", file, "tls-key-file", file),
		"self-signed without a bundle":         flags("tls-listen", "127.0.0.1:4443", "tls-self-signed", "true"),
		"no drain":                             flags("drain-timeout", "0s"),
		"no replay":                            flags("replay-limit", "0"),
		"truth in other words":                 flags("annotate-errors", "0"),
		"a choice of azidentity":               {flags: upstream, env: map[string]string{"AZURE_TOKEN_CREDENTIALS": "dev"}},
	}
	for name, g := range tests {
		t.Run(name, func(t *testing.T) { g.load(t) })
	}
}

func TestAllProblemsAreReportedAtOnce(t *testing.T) {
	got := given{
		file:  "listn: x\ndrain_timeout: soon\nroutes:\n- prefix: a\n  upstream: http://my.openai.azure.com?x\n- identity: nobody\n",
		env:   map[string]string{"ENTRA_SIDECAR_LOG_LEVEL": "loud"},
		flags: map[string]string{"admin-listen": "4002"},
	}.problems(t)
	want := []string{
		"listn (sidecar.yaml:1:1)",
		"drain_timeout (sidecar.yaml:2:16)",
		"routes[0].upstream (sidecar.yaml:5:13): must begin with https://",
		"routes[0].upstream (sidecar.yaml:5:13): must not have a query",
		"routes[0].prefix (sidecar.yaml:4:11)",
		"routes[1].upstream (sidecar.yaml:6:3): is missing",
		"routes[1].identity (sidecar.yaml:6:13)",
		"admin.listen (--admin-listen)",
		"log.level (ENTRA_SIDECAR_LOG_LEVEL)",
	}
	if len(got) != len(want) {
		t.Fatalf("%d problems instead of %d: %q", len(got), len(want), got)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("problem %d is %s, not %s", i, got[i], want[i])
		}
	}
}

func TestTheErrorCountsItsProblems(t *testing.T) {
	p := &Problem{Setting: "listen", Origin: "--listen", Text: "is wrong"}
	for want, problems := range map[string]Problems{
		"a problem in the configuration:\n  listen (--listen): is wrong":                                 {p},
		"2 problems in the configuration:\n  listen (--listen): is wrong\n  listen (--listen): is wrong": {p, p},
	} {
		if got := problems.Error(); got != want {
			t.Errorf("it is %q", got)
		}
	}
}
