package tokencache

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestNewCredentialNamesTheSettingToChange(t *testing.T) {
	dir := t.TempDir()
	junk := writeFile(t, filepath.Join(dir, "junk.pem"), "canary")
	ec := writeFile(t, filepath.Join(dir, "ec.pem"), ecCertificate(t))
	good := writeFile(t, filepath.Join(dir, "good.pem"), certificate(t, "one"))

	tests := []struct {
		name string
		id   Identity
		env  map[string]string
		want []string // parts of the error; empty: no error
	}{
		{"nothing said: DefaultAzureCredential", Identity{}, nil, nil},
		{"an unknown kind", Identity{Name: "team-a", Credential: "magic"}, nil,
			[]string{`identities.team-a.credential: "magic" is none of azure-cli, azure-developer-cli, client-certificate, client-secret, default, environment, managed-identity, workload-identity`}},
		{"client-secret without anything", Identity{Name: "a", Credential: "client-secret"}, nil,
			[]string{"identities.a.client_id: required", "identities.a.client_secret: required", "identities.a.tenant_id: required"}},
		{"settings that would have no effect", Identity{Name: "a", Credential: "managed-identity", TenantID: tenant, ClientSecret: "canary"}, nil,
			[]string{"identities.a.tenant_id: has no effect for the credential managed-identity", "identities.a.client_secret: has no effect"}},
		{"a client id for the default chain", Identity{ClientID: client}, nil, []string{"identities.default.client_id: has no effect"}},
		{"a tenant that cannot be one", Identity{Name: "a", Credential: "client-secret", TenantID: "not a tenant", ClientID: client, ClientSecret: "canary"}, nil,
			[]string{"identities.a.tenant_id: invalid tenantID"}},
		{"such a tenant for az", Identity{Name: "a", Credential: "azure-cli", TenantID: "not a tenant"}, nil, []string{"identities.a.tenant_id: invalid tenantID"}},
		{"such a tenant for azd", Identity{Name: "a", Credential: "azure-developer-cli", TenantID: "not a tenant"}, nil, []string{"identities.a.tenant_id: invalid tenantID"}},
		{"an http authority", Identity{Name: "a", Authority: "http://login.example"}, nil, []string{"identities.a.authority: is neither public, government or china nor an https URL"}},
		{"an authority that is no URL", Identity{Name: "a", Authority: "germany"}, nil, []string{"identities.a.authority"}},
		{"an authority with a password", Identity{Name: "a", Authority: "https://u:canary@login.example"}, nil, []string{"identities.a.authority"}},
		{"several problems at once", Identity{Name: "a", Authority: "germany", ClientID: client}, nil, []string{"identities.a.authority", "identities.a.client_id"}},
		{"a certificate file that does not exist", certificateIdentity("/nowhere/cert.pem"), nil, []string{"identities.a.certificate_file: open /nowhere/cert.pem: no such file"}},
		{"a certificate file with something else", certificateIdentity(junk), nil, []string{"identities.a.certificate_file: "}},
		{"an EC certificate", certificateIdentity(ec), nil, []string{"identities.a.certificate_file: key must be an RSA key"}},
		{"a good certificate", certificateIdentity(good), nil, nil},
		{"environment without variables", Identity{Name: "a", Credential: "environment"}, nil, []string{"identities.a.credential: EnvironmentCredential: AZURE_TENANT_ID is not set"}},
		{"environment with half of them", Identity{Name: "a", Credential: "environment"}, map[string]string{"AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": client},
			[]string{"neither AZURE_CLIENT_SECRET nor AZURE_CLIENT_CERTIFICATE_PATH is set"}},
		{"workload-identity without a webhook", Identity{Name: "a", Credential: "workload-identity", ClientID: client}, nil,
			[]string{"identities.a.tenant_id: not set, nor is AZURE_TENANT_ID", "identities.a.token_file: not set, nor is AZURE_FEDERATED_TOKEN_FILE"}},
		{"workload-identity by the webhook", Identity{Credential: "workload-identity"},
			map[string]string{"AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": client, "AZURE_FEDERATED_TOKEN_FILE": "/f"}, nil},
		{"AZURE_TOKEN_CREDENTIALS is set but empty", Identity{}, map[string]string{"AZURE_TOKEN_CREDENTIALS": ""},
			[]string{"identities.default.credential: AZURE_TOKEN_CREDENTIALS is set but empty", "unset it"}},
		{"AZURE_TOKEN_CREDENTIALS is something unknown", Identity{}, map[string]string{"AZURE_TOKEN_CREDENTIALS": "magic"},
			[]string{`identities.default.credential: invalid AZURE_TOKEN_CREDENTIALS value "magic"`}},
		{"AZURE_TOKEN_CREDENTIALS does not concern other kinds", Identity{Credential: "azure-cli"}, map[string]string{"AZURE_TOKEN_CREDENTIALS": ""}, nil},
		{"managed-identity where none can be chosen", Identity{Name: "a", Credential: "managed-identity", ClientID: client},
			map[string]string{"MSI_ENDPOINT": "http://localhost:50342/oauth2/token"}, []string{"identities.a.client_id: Cloud Shell doesn't support user-assigned managed identities"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cleanEnvironment(t, nil)
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			cred, err := NewCredential(tt.id, CredentialOptions{})
			if (err == nil) != (len(tt.want) == 0) || (cred == nil) != (err != nil) {
				t.Fatalf("credential %v, error %v", cred, err)
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			assertNoCanary(t, fmt.Sprint(err))
		})
	}
}

func certificateIdentity(file string) Identity {
	return Identity{Name: "a", Credential: "client-certificate", TenantID: tenant, ClientID: client, CertificateFile: file}
}

func ecCertificate(t *testing.T) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

// A tenant in a sovereign cloud exists only there, so the host that is asked matters.
func TestAuthority(t *testing.T) {
	for name, tt := range map[string]struct {
		authority, variable, host string
		discovery                 bool // Microsoft is asked whether to trust the host
	}{
		"nothing said":                  {"", "", "login.microsoftonline.com", true},
		"public":                        {"public", "", "login.microsoftonline.com", true},
		"government":                    {"government", "", "login.microsoftonline.us", true},
		"China":                         {"china", "", "login.chinacloudapi.cn", true},
		"by AZURE_AUTHORITY_HOST":       {"", "https://login.microsoftonline.us/", "login.microsoftonline.us", true},
		"the setting before that":       {"china", "https://login.microsoftonline.us/", "login.chinacloudapi.cn", true},
		"a private cloud":               {"https://login.private.example", "", "login.private.example", false},
		"a private cloud with a slash":  {"https://login.private.example/", "", "login.private.example", false},
		"a private cloud by a variable": {"", "https://login.private.example/", "login.private.example", false},
	} {
		for _, kind := range []string{"client-secret", "environment", "default"} {
			bubble(t, name+" for "+kind, func(t *testing.T) {
				cleanEnvironment(t, nil)
				t.Setenv("AZURE_TENANT_ID", tenant)
				t.Setenv("AZURE_CLIENT_ID", client)
				t.Setenv("AZURE_CLIENT_SECRET", "secret")
				if tt.variable != "" {
					t.Setenv("AZURE_AUTHORITY_HOST", tt.variable)
				}
				id := Identity{Credential: kind, Authority: tt.authority}
				if kind == "client-secret" {
					id.TenantID, id.ClientID, id.ClientSecret = tenant, client, "secret"
				}
				f := newInProcess(t)
				mustFetch(t, newCredential(t, id, CredentialOptions{Transport: f}), "")
				if got := f.hosts[len(f.hosts)-1]; !sameCloud(got, tt.host) {
					t.Errorf("asked %v", f.hosts)
				}
				if !tt.discovery && len(f.hosts) != 2 { // its configuration and the token
					t.Errorf("asked %v", f.hosts)
				}
			})
		}
	}
}

// MSAL prefers one of a cloud's names over another.
func sameCloud(got, want string) bool {
	return got == want || want == "login.chinacloudapi.cn" && got == "login.partner.microsoftonline.cn"
}

func TestIdentityCannotPrintItsSecrets(t *testing.T) {
	id := Identity{Name: "team-a", Credential: "client-secret", TenantID: tenant, ClientSecret: "canary", CertificatePassword: "canary"}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+verb+verb+"\n", id, &id, []Identity{id})
	}
	b, err := json.Marshal(map[string]any{"id": id, "pointer": &id})
	if err != nil {
		t.Error(err)
	}
	out.Write(b)
	out.WriteString(logged(id, &id))
	assertNoCanary(t, out.String())
	if !strings.Contains(out.String(), "team-a (client-secret)") {
		t.Error(out.String())
	}
}

func TestUncachedCredentialsPassARealChallengeOn(t *testing.T) {
	for _, name := range []string{"az", "azd"} {
		stubCommand(t, name)
		kind := map[string]string{"az": "azure-cli", "azd": "azure-developer-cli"}[name]
		cred := newCredential(t, Identity{Credential: kind}, CredentialOptions{})
		mustFetch(t, cred, forced)
		if _, err := fetch(t.Context(), cred, uniqueScope(t), `{"access_token":{}}`); name == "az" && (err == nil || !strings.Contains(Describe(err), "az login --claims-challenge")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
