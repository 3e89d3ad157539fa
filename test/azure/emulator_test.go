package azure

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// start runs an emulator for the length of a test.
func start(t *testing.T, o Options) *Emulator {
	t.Helper()
	e, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// client trusts the emulator's CA and keeps connections of its own.
func client(t *testing.T, e *Emulator) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(e.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

const cognitive = "https://cognitiveservices.azure.com"

// token is a good one for the default principal.
func token(t *testing.T, e *Emulator, audience string) string {
	t.Helper()
	g, err := e.grantFor(e.principals[0], audience, Tokens{})
	if err != nil {
		t.Fatal(err)
	}
	return g.token
}

const chatPath = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"

type answer struct {
	*http.Response
	body string
}

func do(t *testing.T, c *http.Client, r *http.Request) answer {
	t.Helper()
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res, string(body)}
}

func request(t *testing.T, method, url, bearer, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	return r
}

const hello = `{"messages":[{"role":"user","content":"hello"}]}`

func TestATokenFromTheManagedIdentityEndpointOpensTheResource(t *testing.T) {
	e := start(t, Options{})
	for _, v := range e.Env() {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	cred, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{cognitive + "/.default"}})
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, e)
	a := do(t, c, request(t, "POST", e.URL+chatPath, got.Token, hello))
	if a.StatusCode != http.StatusOK || !strings.Contains(a.body, Reply("gpt-4o", "hello")) {
		t.Errorf("answer %d: %s", a.StatusCode, a.body)
	}
	withKey := request(t, "POST", e.URL+chatPath, got.Token, hello)
	withKey.Header.Set("api-key", "sidecar")
	if a = do(t, c, withKey); a.StatusCode != http.StatusUnauthorized || a.ContentLength != 224 {
		t.Errorf("beside a dummy key: %d, %d bytes: %s", a.StatusCode, a.ContentLength, a.body)
	}
}
