package check

import (
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"entra-sidecar/proxy/diagnose"
	"entra-sidecar/test/azure"
)

// A scene produces one cause.
type scene struct {
	set  func(*stage)
	path string // of the request through the proxy; default: a chat completion

	// refused is what the configuration says of it. Then check exits with 2,
	// and the proxy does not start.
	refused string
	// advice says that the route passes nevertheless.
	advice bool
	// checkOnly is why the proxy cannot show it.
	checkOnly string
	// elsewhere is where it is produced, if not here.
	elsewhere string
	// namespace: it takes a process without network or without files.
	namespace bool
}

const (
	unknownClient = "44444444-4444-4444-8444-444444444444"
	startsNot     = "the proxy does not start with it"
	nothingFails  = "no request fails for it"
)

// scenes are those of all rows, by [key]. A row of Azure's or Entra's answers
// that has none here is produced by the emulator's fault of its name.
var scenes = map[string]scene{
	"deployment-not-found": {
		set:  func(s *stage) { s.check = []string{"--deployment", "missing"} },
		path: "/openai/deployments/missing/chat/completions?api-version=2024-10-21",
	},
	"aadsts-NNNN": {set: func(s *stage) { s.clientSecret(); s.entraRefuses("aadsts-50027") }},

	"no-source": {set: func(s *stage) { s.imds(); s.fault("credential-unavailable") }},
	"azure-token-credentials-invalid": {
		set:       func(s *stage) { s.env["AZURE_TOKEN_CREDENTIALS"] = "nonsense" },
		checkOnly: startsNot,
	},
	"azure-client-id-empty": {set: func(s *stage) { s.only("ManagedIdentityCredential"); s.env["AZURE_CLIENT_ID"] = "" }},
	"identity-not-assigned": {set: func(s *stage) { s.imds(); s.env["AZURE_CLIENT_ID"] = unknownClient }},
	"identity-ambiguous":    {set: func(s *stage) { s.only("ManagedIdentityCredential"); s.imds(); s.azure.Set(ambiguous) }},
	"proxy-captures-imds": {set: func(s *stage) {
		s.only("ManagedIdentityCredential")
		s.imds()
		s.patient()
		s.env["HTTP_PROXY"] = "http://" + freeAddress(s.t)
	}},
	"imds-unreachable":       {set: func(s *stage) { s.only("ManagedIdentityCredential"); s.withoutManagedIdentity() }, namespace: true, checkOnly: "there is no network"},
	"environment-incomplete": {set: func(s *stage) { s.only("EnvironmentCredential") }},
	"workload-identity-not-injected": {set: func(s *stage) {
		s.only("WorkloadIdentityCredential")
		s.env["AZURE_CLIENT_ID"] = unknownClient
	}},
	"federated-token-file-missing": {set: func(s *stage) {
		s.clientSecret()
		s.only("WorkloadIdentityCredential")
		s.env["AZURE_FEDERATED_TOKEN_FILE"] = "/nowhere/azure-identity-token"
	}},
	"no-shell":      {set: func(s *stage) { s.only("AzureCLICredential") }, namespace: true, checkOnly: "it has a shell"},
	"cli-not-found": {set: func(s *stage) { s.only("AzureCLICredential"); s.env["PATH"] = s.t.TempDir() }},
	"login-missing": {set: func(s *stage) {
		s.only("AzureCLICredential")
		s.az(`echo "ERROR: Please run 'az login' to setup account." >&2; exit 1`)
	}},
	"entra-unreachable": {set: func(s *stage) {
		s.clientSecret()
		s.patient()
		s.env["AZURE_AUTHORITY_HOST"] = "https://" + freeAddress(s.t)
	}},
	"credential-unavailable": {set: func(s *stage) {
		s.clientSecret()
		s.azure.Set(func(f *azure.Faults) {
			f.Entra = []azure.Rule{{Method: http.MethodPost, Fault: "malformed"}}
		})
	}},

	"proxy-refused":     {set: func(s *stage) { s.env["AZURE_OPENAI_ENDPOINT"] = "https://resource.example" }},
	"proxy-unreachable": {set: func(s *stage) { s.env["HTTPS_PROXY"] = "http://" + freeAddress(s.t) }},
	// A label of more than 63 characters is unknown without asking anybody.
	"dns-not-found":      {set: func(s *stage) { s.direct("https://" + strings.Repeat("x", 64) + ".openai.azure.com") }},
	"dns-failed":         {set: func(s *stage) { s.direct(upstream) }, namespace: true, checkOnly: "its name servers work"},
	"connection-refused": {set: func(s *stage) { s.direct("https://" + freeAddress(s.t)) }},
	"network-unreachable": {
		set: func(s *stage) {
			s.direct("https://192.0.2.1")
			s.only("AzureCLICredential")
			s.az(fmt.Sprintf(`echo '{"accessToken":"opaque","expires_on":%d}'`, time.Now().Add(time.Hour).Unix()))
		},
		namespace: true, checkOnly: "there is no network",
	},
	"connection-timeout": {set: func(s *stage) {
		s.direct("https://" + silent(s.t))
		s.env["ENTRA_SIDECAR_TLS_TIMEOUT"] = "300ms"
	}},
	"certificate-unknown-authority": {set: func(s *stage) { s.direct(s.azure.URL); delete(s.env, "SSL_CERT_FILE") }},
	"certificate-wrong-name":        {set: func(s *stage) { s.direct("https://" + under(s.t, "127.0.0.2", s.azure.URL)) }},
	"private-link-public-address":   {elsewhere: "cmd/internal/check, with a resolver of its own"},
	"privatelink-host": {
		set:     func(s *stage) { s.direct("https://my-eastus.privatelink.openai.azure.com") },
		refused: "privatelink",
	},
	"proxy-captures-localhost": {
		set:    func(s *stage) { s.env["HTTP_PROXY"], s.env["NO_PROXY"] = s.azure.IdentityURL, "169.254.169.254" },
		advice: true, checkOnly: nothingFails,
	},
	"clock-off": {set: (*stage).wrongClock, advice: true, checkOnly: nothingFails},
}

// key names a row as the documentation does.
func key(r diagnose.Row) string {
	if r.Detail != "" {
		return r.Detail
	}
	return r.Cause
}

// sceneOf returns the scene of a row.
func sceneOf(r diagnose.Row) (scene, bool) {
	if s, ok := scenes[key(r)]; ok {
		return s, true
	}
	switch r.Kind {
	case diagnose.KindAnswer:
		return scene{set: func(s *stage) { s.fault(r.Cause) }, advice: r.Class == diagnose.ClassNone}, true
	case diagnose.KindSignIn:
		return scene{set: func(s *stage) { s.clientSecret(); s.entraRefuses(r.Cause) }}, true
	}
	return scene{}, false
}

// entraRefuses lets the token endpoint answer with an error, and leaves what
// comes before it alone.
func (s *stage) entraRefuses(fault string) {
	s.azure.Set(func(f *azure.Faults) { f.Entra = []azure.Rule{{Method: http.MethodPost, Fault: fault}} })
}

func ambiguous(f *azure.Faults) {
	f.Entra = []azure.Rule{{Path: "/metadata/identity", Answer: &azure.Answer{
		Status: http.StatusBadRequest,
		Header: map[string]string{"Content-Type": "application/json"},
		Body:   `{"error":"invalid_request","error_description":"Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request"}`,
	}}}
}

// patient gives azidentity the time for its retries.
func (s *stage) patient() { s.env["ENTRA_SIDECAR_FIRST_TOKEN_TIMEOUT"] = "8s" }

// only makes a chain of one.
func (s *stage) only(credential string) { s.env["AZURE_TOKEN_CREDENTIALS"] = credential }

// direct leads to an upstream without a forward proxy.
func (s *stage) direct(url string) {
	delete(s.env, "HTTPS_PROXY")
	s.env["AZURE_OPENAI_ENDPOINT"] = url
}

// az is a stand-in for the Azure CLI.
func (s *stage) az(script string) {
	dir := s.t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "az"), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		s.t.Fatal(err)
	}
	s.env["PATH"] = dir
}

// wrongClock is an upstream for which it is an hour later.
func (s *stage) wrongClock() {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		_, _ = io.WriteString(w, "{}")
	}))
	s.t.Cleanup(server.Close)
	file := filepath.Join(s.t.TempDir(), "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(file, certificate, 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.direct(server.URL)
	s.env["SSL_CERT_FILE"] = file
}

// silent accepts connections and says nothing.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String() // the kernel accepts for us
}

// under makes a server reachable at another address.
func under(t *testing.T, ip, url string) string {
	t.Helper()
	l, err := net.Listen("tcp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", strings.TrimPrefix(url, "https://"))
			if err != nil {
				client.Close()
				return
			}
			go func() { _, _ = io.Copy(server, client); server.Close() }()
			go func() { _, _ = io.Copy(client, server); client.Close() }()
		}
	}()
	return l.Addr().String()
}
