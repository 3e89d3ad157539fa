package tokencache

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azlog "github.com/Azure/azure-sdk-for-go/sdk/azcore/log"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// An arrangement is a credential kind with the fake that it gets tokens from.
type arrangement struct {
	name, source string
	caches       bool // azidentity answers an unforced request from its cache
	make         func(t *testing.T) (Identity, CredentialOptions, func() int /* token requests so far */)
}

var arrangements = []arrangement{
	{"managed-identity on App Service", "ManagedIdentityCredential", true, func(t *testing.T) (Identity, CredentialOptions, func() int) {
		f := appService(t)
		return Identity{Credential: "managed-identity", ClientID: client}, CredentialOptions{}, f.count
	}},
	{"managed-identity on a virtual machine", "ManagedIdentityCredential", true, func(t *testing.T) (Identity, CredentialOptions, func() int) {
		f := newFake(t, false)
		return Identity{Credential: "managed-identity"}, CredentialOptions{Transport: to169(t, f)}, f.count
	}},
	{"client-secret", "ClientSecretCredential", true, func(t *testing.T) (Identity, CredentialOptions, func() int) {
		f := newFake(t, true)
		return secretIdentity(f), CredentialOptions{Transport: f.Client()}, f.count
	}},
	{"client-certificate", "ClientCertificateCredential", true, func(t *testing.T) (Identity, CredentialOptions, func() int) {
		f := newFake(t, true)
		file := writeFile(t, filepath.Join(t.TempDir(), "cert.pem"), certificate(t, "one"))
		return Identity{Credential: "client-certificate", TenantID: tenant, ClientID: client, CertificateFile: file, Authority: f.URL},
			CredentialOptions{Transport: f.Client()}, f.count
	}},
	{"workload-identity", "WorkloadIdentityCredential", true, func(t *testing.T) (Identity, CredentialOptions, func() int) {
		f := newFake(t, true)
		file := writeFile(t, filepath.Join(t.TempDir(), "token"), "assertion")
		return Identity{Credential: "workload-identity", TenantID: tenant, ClientID: client, TokenFile: file, Authority: f.URL},
			CredentialOptions{Transport: f.Client()}, f.count
	}},
	{"environment", "EnvironmentCredential", true, func(t *testing.T) (Identity, CredentialOptions, func() int) {
		f := newFake(t, true)
		environmentSecret(t, f)
		return Identity{Credential: "environment"}, CredentialOptions{Transport: f.Client()}, f.count
	}},
	{"default: the environment's client secret", "EnvironmentCredential", true, func(t *testing.T) (Identity, CredentialOptions, func() int) {
		f := newFake(t, true)
		environmentSecret(t, f)
		return Identity{}, CredentialOptions{Transport: f.Client(), Log: listen(t, zap.NewNop())}, f.count
	}},
	{"default: the managed identity of a virtual machine", "ManagedIdentityCredential", true, func(t *testing.T) (Identity, CredentialOptions, func() int) {
		f := newFake(t, false)
		return Identity{Credential: "default"}, CredentialOptions{Transport: to169(t, f), Log: listen(t, zap.NewNop())}, f.count
	}},
	{"default: the Azure CLI", "AzureCLICredential", false, func(t *testing.T) (Identity, CredentialOptions, func() int) {
		count := stubCommand(t, "az")
		return Identity{}, CredentialOptions{Transport: blackHole{}, Log: listen(t, zap.NewNop())}, count
	}},
	{"azure-cli", "AzureCLICredential", false, func(t *testing.T) (Identity, CredentialOptions, func() int) {
		return Identity{Credential: "azure-cli", TenantID: tenant}, CredentialOptions{}, stubCommand(t, "az")
	}},
	{"azure-developer-cli", "AzureDeveloperCLICredential", false, func(t *testing.T) (Identity, CredentialOptions, func() int) {
		return Identity{Credential: "azure-developer-cli", TenantID: tenant}, CredentialOptions{}, stubCommand(t, "azd")
	}},
}

func (f *fake) count() int { return len(f.tokenRequests()) }

func appService(t *testing.T) *fake {
	f := newFake(t, false)
	t.Setenv("IDENTITY_ENDPOINT", f.URL+"/msi/token")
	t.Setenv("IDENTITY_HEADER", "canary-header")
	return f
}

func secretIdentity(f *fake) Identity {
	return Identity{Credential: "client-secret", TenantID: tenant, ClientID: client, ClientSecret: "canary-secret", Authority: f.URL}
}

func environmentSecret(t *testing.T, f *fake) {
	t.Setenv("AZURE_TENANT_ID", tenant)
	t.Setenv("AZURE_CLIENT_ID", client)
	t.Setenv("AZURE_CLIENT_SECRET", "canary-secret")
	t.Setenv("AZURE_AUTHORITY_HOST", f.URL)
}

// stubCommand puts a command on PATH that prints numbered tokens as az and azd do.
func stubCommand(t *testing.T, name string) (count func() int) {
	calls := filepath.Join(t.TempDir(), "calls")
	expiry := time.Now().Add(time.Hour).UTC()
	out := fmt.Sprintf(`{"accessToken":"token-%%s","expires_on":%d,"expiresOn":"2000-01-01 00:00:00.000000"}`, expiry.Unix())
	if name == "azd" {
		out = fmt.Sprintf(`{"token":"token-%%s","expiresOn":%q}`, expiry.Format("2006-01-02T15:04:05Z"))
	}
	cleanEnvironment(t, map[string]string{name: fmt.Sprintf("echo \"$@\" >> %s\nn=0; while read l; do n=$((n+1)); done < %[1]s\nprintf '%[2]s' $n", calls, out)})
	return func() int {
		b, _ := os.ReadFile(calls)
		return strings.Count(string(b), "\n")
	}
}

func listen(t *testing.T, log *zap.Logger) *AzureLog {
	t.Cleanup(func() { azlog.SetListener(nil); azlog.SetEvents() })
	return ListenAzure(log)
}

func TestEveryCredentialKind(t *testing.T) {
	for _, a := range arrangements {
		t.Run(a.name, func(t *testing.T) {
			cleanEnvironment(t, nil)
			id, o, count := a.make(t)
			c := New(newCredential(t, id, o), Options{Scope: uniqueScope(t)})
			runUntilCleanup(t, c)

			first := mustToken(t, c)
			assertCount(t, "first token", count(), 1)
			if got := c.Status().Source; got != a.source {
				t.Errorf("source %q, want %q", got, a.source)
			}
			if left := time.Until(first.ExpiresOn()); left < 59*time.Minute || left > time.Hour {
				t.Errorf("it lives %v", left)
			}

			// What makes forcing necessary: azidentity alone would give the same token.
			unforced, err := fetch(t.Context(), c.cred, c.scope, "")
			if err != nil || unforced.same(first) != a.caches {
				t.Errorf("unforced: %v, %v, same %v", unforced, err, unforced.same(first))
			}
			before := count()
			second, err := c.Refused(t.Context(), first, "")
			if err != nil || second.same(first) {
				t.Fatalf("refused: %v, %v", second, err)
			}
			assertCount(t, "refusal", count(), before+1)
			third, err := fetch(t.Context(), c.cred, c.scope, forced)
			if err != nil || third.same(second) {
				t.Errorf("forced: %v, %v", third, err)
			}
			assertCount(t, "forced renewal", count(), before+2)
		})
	}
}

func assertCount(t *testing.T, what string, got, want int) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %d token requests, want %d", what, got, want)
	}
}

func TestWhatGoesOverTheWire(t *testing.T) {
	t.Run("managed identity asks for the resource and the chosen identity, without claims", func(t *testing.T) {
		cleanEnvironment(t, nil)
		f := newFake(t, false)
		cred := newCredential(t, Identity{Credential: "managed-identity", ClientID: client}, CredentialOptions{Transport: to169(t, f)})
		mustFetch(t, cred, forced)
		form := f.tokenRequests()[0]
		if form.Get("client_id") != client || form.Get("resource")+"/.default" != uniqueScope(t) || form.Has("claims") {
			t.Errorf("%v", form)
		}
	})
	t.Run("a resource id chooses a managed identity as well", func(t *testing.T) {
		cleanEnvironment(t, nil)
		f := newFake(t, false)
		cred := newCredential(t, Identity{Credential: "managed-identity", ClientID: "/subscriptions/s/x"}, CredentialOptions{Transport: to169(t, f)})
		mustFetch(t, cred, "")
		if form := f.tokenRequests()[0]; form.Get("msi_res_id") != "/subscriptions/s/x" {
			t.Errorf("%v", form)
		}
	})
	t.Run("a claims challenge reaches Entra", func(t *testing.T) {
		cleanEnvironment(t, nil)
		f := newFake(t, true)
		cred := newCredential(t, secretIdentity(f), CredentialOptions{Transport: f.Client()})
		mustFetch(t, cred, `{"access_token":{"nbf":{"essential":true,"value":"1700000000"}}}`)
		if form := f.tokenRequests()[0]; !strings.Contains(form.Get("claims"), `"1700000000"`) || !strings.Contains(form.Get("claims"), "CP1") {
			t.Errorf("%v", form["claims"])
		}
	})
	t.Run("requests name the application", func(t *testing.T) {
		cleanEnvironment(t, nil)
		f := newFake(t, true)
		var agents []string
		cred := newCredential(t, secretIdentity(f), CredentialOptions{Transport: spy{f.Client(), &agents}})
		mustFetch(t, cred, "")
		for _, a := range agents {
			if !strings.HasPrefix(a, "entra-sidecar ") {
				t.Errorf("User-Agent %q", a)
			}
		}
	})
}

func mustFetch(t *testing.T, cred azcore.TokenCredential, claims string) *Token {
	t.Helper()
	token, err := fetch(t.Context(), cred, uniqueScope(t), claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// A rotated workload identity token is picked up without a restart. azidentity
// reads the file again after ten minutes; time is simulated.
func TestRotatedFiles(t *testing.T) {
	bubble(t, "federated token", func(t *testing.T) {
		entra := newInProcess(t)
		file := writeFile(t, filepath.Join(t.TempDir(), "token"), "first-assertion")
		cred := newCredential(t, Identity{Credential: "workload-identity", TenantID: tenant, ClientID: client, TokenFile: file, Authority: "https://entra.example"},
			CredentialOptions{Transport: entra})
		c := start(t, cred, Options{})
		mustToken(t, c)
		writeFile(t, file, "second-assertion")
		time.Sleep(40 * time.Minute)
		if got := fmt.Sprint(entra.field("client_assertion")); got != "[first-assertion second-assertion]" {
			t.Error(got)
		}
		if got := entra.field("client_assertion_type")[0]; got != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
			t.Error(got)
		}
		if st := c.Status(); st.Renewals != 2 || st.Waits != 1 {
			t.Errorf("%+v", st)
		}
	})
	t.Run("certificate", func(t *testing.T) {
		cleanEnvironment(t, nil)
		f := newFake(t, true)
		file := writeFile(t, filepath.Join(t.TempDir(), "cert.pem"), certificate(t, "one"))
		cred := newCredential(t, Identity{Credential: "client-certificate", TenantID: tenant, ClientID: client, CertificateFile: file, Authority: f.URL},
			CredentialOptions{Transport: f.Client()})
		mustFetch(t, cred, "")
		writeFile(t, file, "half a file")
		mustFetch(t, cred, forced)
		writeFile(t, file, certificate(t, "two"))
		mustFetch(t, cred, forced)
		var thumbprints []any
		for _, form := range f.tokenRequests() {
			thumbprints = append(thumbprints, jwtHeader(t, form.Get("client_assertion"))["x5t#S256"])
		}
		if thumbprints[0] != thumbprints[1] || thumbprints[1] == thumbprints[2] || thumbprints[0] == nil {
			t.Errorf("%v", thumbprints)
		}
	})
}

// The promise with the real azidentity: confidential credentials hold a mutex
// over network I/O and drop their token five minutes before its expiry.
func TestAnOutageBehindRealAzidentityGoesUnnoticed(t *testing.T) {
	bubble(t, "of 28 minutes", func(t *testing.T) {
		entra := newInProcess(t)
		id := Identity{Credential: "client-secret", TenantID: tenant, ClientID: client, ClientSecret: "s", Authority: "https://entra.example"}
		c := start(t, newCredential(t, id, CredentialOptions{Transport: entra}), Options{})
		mustToken(t, c)
		time.Sleep(29 * time.Minute)
		entra.down.Store(true)
		readFor(t, c, 28*time.Minute, time.Second)
		if st := c.Status(); st.Failures < 20 || st.Err == nil {
			t.Errorf("%+v", st)
		}
		entra.down.Store(false)
		readFor(t, c, 2*time.Hour, time.Second)
		if st := c.Status(); st.Waits != 1 || st.Err != nil {
			t.Errorf("%+v", st)
		}
	})
}

// MSAL keeps managed identities' tokens in one cache for the whole process.
func TestOneHangingIdentityDoesNotDelayAnotherBehindRealAzidentity(t *testing.T) {
	for name, id := range map[string]Identity{
		"managed-identity": {Credential: "managed-identity", ClientID: client},
		"client-secret":    entraIdentity("client-secret"),
	} {
		bubble(t, name, func(t *testing.T) {
			cleanEnvironment(t, nil)
			hanging := New(newCredential(t, id, CredentialOptions{Transport: blackHole{}}), Options{Scope: uniqueScope(t)})
			runUntilCleanup(t, hanging)
			synctest.Wait() // it hangs now
			quick := New(newCredential(t, id, CredentialOptions{Transport: newInProcess(t)}), Options{Scope: uniqueScope(t)})
			runUntilCleanup(t, quick)
			if d := took(func() { mustToken(t, quick) }); d > time.Second {
				t.Errorf("waited %v", d)
			}
		})
	}
}

func TestIdentityBindings(t *testing.T) {
	cleanEnvironment(t, nil)
	proxy := newFake(t, true)
	ca := writeFile(t, filepath.Join(t.TempDir(), "ca.pem"), certificatePEM(proxy))
	t.Setenv("AZURE_KUBERNETES_TOKEN_PROXY", proxy.URL)
	t.Setenv("AZURE_KUBERNETES_CA_FILE", ca)
	t.Setenv("AZURE_KUBERNETES_SNI_NAME", "example.com")
	file := writeFile(t, filepath.Join(t.TempDir(), "token"), "assertion")
	id := Identity{Credential: "workload-identity", TenantID: tenant, ClientID: client, TokenFile: file, Authority: proxy.URL}
	mustFetch(t, newCredential(t, id, CredentialOptions{Transport: blackHole{}}), "")
	if proxy.count() != 1 {
		t.Error("the token did not come through AKS's proxy")
	}

	t.Setenv("AZURE_KUBERNETES_TOKEN_PROXY", "")
	if _, err := NewCredential(id, CredentialOptions{}); err == nil || !strings.Contains(err.Error(), "AZURE_KUBERNETES_TOKEN_PROXY is not set") {
		t.Errorf("half a configuration: %v", err)
	}
}

func TestAzureLog(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	cleanEnvironment(t, nil)
	f := newFake(t, false)
	o := CredentialOptions{Transport: to169(t, f), Log: listen(t, zap.New(core))}
	cred := newCredential(t, Identity{}, o)
	if got := sourceOf(cred); got != "DefaultAzureCredential" {
		t.Errorf("before the first token: %q", got)
	}
	mustFetch(t, cred, "")
	if got := sourceOf(cred); got != "ManagedIdentityCredential" {
		t.Errorf("source %q", got)
	}
	if logs.Len() == 0 {
		t.Error("azidentity's log was lost")
	}
	o.Log.event("Authentication", "body: "+canary+"\nclient_secret=canary&x=1")
	for _, e := range logs.All() {
		line := fmt.Sprint(e.Message, e.ContextMap())
		assertNoCanary(t, line)
		if strings.Contains(line, "\n") || e.Level != zap.DebugLevel {
			t.Errorf("%v %q", e.Level, line)
		}
	}
}
