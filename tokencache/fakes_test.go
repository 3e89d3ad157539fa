package tokencache

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

const (
	tenant = "11111111-1111-1111-1111-111111111111"
	client = "22222222-2222-2222-2222-222222222222"
)

// A fake is an HTTP server in the shape of Entra, of an App Service's managed
// identity endpoint and of IMDS. It issues tokens numbered from 1, unless
// answer says otherwise.
type fake struct {
	*httptest.Server // nil for one that is used in process
	mux              *http.ServeMux
	down             atomic.Bool // in process: no connection

	mu     sync.Mutex
	forms  []url.Values // of the token requests: the query or the body
	hosts  []string     // asked in process, in order
	issued int
	answer func(w http.ResponseWriter) // nil: a token
}

func newFake(t *testing.T, tls bool) *fake {
	f := newInProcess(t)
	if tls {
		f.Server = httptest.NewTLSServer(f.mux)
	} else {
		f.Server = httptest.NewServer(f.mux)
	}
	t.Cleanup(f.Close)
	return f
}

// newInProcess returns a fake that is reached by Do alone, which simulated
// time needs: whatever the URL, the answer takes 300 ms.
func newInProcess(t *testing.T) *fake {
	f := &fake{mux: http.NewServeMux()}
	f.mux.HandleFunc("GET /{tenant}/v2.0/.well-known/openid-configuration", f.discovery)
	f.mux.HandleFunc("POST /{tenant}/oauth2/v2.0/token", f.token)
	f.mux.HandleFunc("GET /common/discovery/instance", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"tenant_discovery_endpoint":"https://%s/%s/v2.0/.well-known/openid-configuration"}`, r.Host, tenant)
	})
	f.mux.HandleFunc("GET /msi/token", f.token)
	f.mux.HandleFunc("GET /metadata/identity/oauth2/token", f.imds)
	f.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("unexpected request: %s %s", r.Method, r.URL)
		http.NotFound(w, r)
	})
	return f
}

func (f *fake) Do(r *http.Request) (*http.Response, error) {
	if f.down.Load() {
		return nil, &url.Error{Op: "Post", URL: r.URL.String(), Err: errors.New("dial tcp: connection refused")}
	}
	time.Sleep(300 * time.Millisecond)
	f.mu.Lock()
	f.hosts = append(f.hosts, r.URL.Host)
	f.mu.Unlock()
	w, server := httptest.NewRecorder(), r.Clone(r.Context())
	server.Host = r.URL.Host
	f.mux.ServeHTTP(w, server)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

func (f *fake) discovery(w http.ResponseWriter, r *http.Request) {
	base := "https://" + r.Host + "/" + r.PathValue("tenant")
	fmt.Fprintf(w, `{"issuer":%q,"authorization_endpoint":%q,"token_endpoint":%q}`,
		base+"/v2.0", base+"/oauth2/v2.0/authorize", base+"/oauth2/v2.0/token")
}

func (f *fake) imds(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Metadata") == "" { // DefaultAzureCredential's probe
		http.Error(w, `{"error":"invalid_request","error_description":"Required metadata header not specified"}`, http.StatusBadRequest)
		return
	}
	f.token(w, r)
}

func (f *fake) token(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forms = append(f.forms, r.Form)
	w.Header().Set("Content-Type", "application/json")
	if f.answer != nil {
		f.answer(w)
		return
	}
	f.issued++
	life := time.Hour
	fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":%q,"ext_expires_in":%[2]q,"expires_on":"%d","resource":"r"}`,
		jwtOf(fmt.Sprintf(`{"jti":"%d","tid":%q}`, f.issued, tenant)), fmt.Sprint(life.Seconds()), time.Now().Add(life).Unix())
}

func (f *fake) respond(status int, body string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = func(w http.ResponseWriter) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

func (f *fake) tokenRequests() []url.Values {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.forms)
}

// A transporter sends every request to base, as the metadata address cannot be
// listened on.
type transporter struct {
	base *url.URL
	*http.Client
}

func to169(t *testing.T, f *fake) transporter {
	u, err := url.Parse(f.URL)
	if err != nil {
		t.Fatal(err)
	}
	return transporter{u, f.Client()}
}

func (tr transporter) Do(r *http.Request) (*http.Response, error) {
	if r.URL.Host != "169.254.169.254" {
		return nil, fmt.Errorf("no route to %s", r.URL.Host)
	}
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = tr.base.Scheme, tr.base.Host
	return tr.Client.Do(r)
}

// A spy notes the User-Agent of each request.
type spy struct {
	*http.Client
	agents *[]string
}

func (s spy) Do(r *http.Request) (*http.Response, error) {
	*s.agents = append(*s.agents, r.UserAgent())
	return s.Client.Do(r)
}

// field returns the values of one form field over all token requests.
func (f *fake) field(name string) (values []string) {
	for _, form := range f.tokenRequests() {
		values = append(values, form.Get(name))
	}
	return values
}

// A blackHole never answers.
type blackHole struct{}

func (blackHole) Do(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, fmt.Errorf("Get %q: %w", r.URL, r.Context().Err())
}

// cleanEnvironment removes what azidentity reads, and everything on PATH but
// the given stub commands.
func cleanEnvironment(t *testing.T, stubs map[string]string) {
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		for _, prefix := range []string{"AZURE_", "IDENTITY_", "MSI_", "IMDS_", "HTTP_", "HTTPS_", "NO_", "http_", "https_", "no_"} {
			if strings.HasPrefix(name, prefix) {
				t.Setenv(name, "") // so that it is restored
				_ = os.Unsetenv(name)
			}
		}
	}
	dir := t.TempDir()
	for name, script := range stubs {
		writeFile(t, filepath.Join(dir, name), "#!/bin/sh\n"+script+"\n")
	}
	t.Setenv("PATH", dir)
}

func writeFile(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// certificate returns a self-signed certificate and its RSA key, as PEM.
func certificate(t *testing.T, name string) string {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
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

func certificatePEM(f *fake) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw}))
}

func jwtHeader(t *testing.T, token string) (header map[string]any) {
	head, _, _ := strings.Cut(token, ".")
	b, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil || json.Unmarshal(b, &header) != nil {
		t.Fatalf("no JWT: %v", err)
	}
	return header
}

func newCredential(t *testing.T, id Identity, o CredentialOptions) azcore.TokenCredential {
	t.Helper()
	cred, err := NewCredential(id, o)
	if err != nil {
		t.Fatalf("NewCredential: %v", err)
	}
	return cred
}

// failureOf returns why the credential gives no token.
func failureOf(t *testing.T, cred azcore.TokenCredential, claims string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	token, err := fetch(ctx, cred, uniqueScope(t), claims)
	if err == nil {
		t.Fatalf("it gave %v", token)
	}
	return err
}

// uniqueScope keeps tests, and runs of one test, apart: MSAL's cache of managed
// identity tokens is process-wide.
func uniqueScope(t *testing.T) string {
	n, _ := scopes.LoadOrStore(t, scopeCount.Add(1))
	return fmt.Sprintf("https://scope-%d.example/.default", n)
}

var (
	scopes     sync.Map // *testing.T to its number
	scopeCount atomic.Int64
)
