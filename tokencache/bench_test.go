package tokencache

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// The hit path beside what a proxy would do without this package. Run with
//
//	go test -run '^$' -bench Hit -cpu 1,2 ./tokencache
//
// and compare within one run only.

func BenchmarkHitClock(b *testing.B) {
	parallel(b, func() { _ = time.Now() })
}

func BenchmarkHitCache(b *testing.B) {
	c := New(issuer{}, Options{Scope: testScope})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	b.Cleanup(func() { cancel(); <-done })
	if _, err := c.Token(ctx); err != nil {
		b.Fatal(err)
	}
	parallel(b, func() {
		t, err := c.Token(ctx)
		if err != nil || t.Authorization() == "" {
			panic(err)
		}
	})
}

func BenchmarkHitAzidentityClientSecret(b *testing.B) {
	cred, err := NewCredential(entraIdentity("client-secret"), CredentialOptions{Transport: benchmarkEntra{}})
	benchmarkGetToken(b, cred, err)
}

func BenchmarkHitAzidentityManagedIdentity(b *testing.B) {
	cred, err := NewCredential(Identity{Credential: "managed-identity", ClientID: client}, CredentialOptions{Transport: benchmarkEntra{}})
	benchmarkGetToken(b, cred, err)
}

func benchmarkGetToken(b *testing.B, cred azcore.TokenCredential, err error) {
	if err != nil {
		b.Fatal(err)
	}
	o := policy.TokenRequestOptions{Scopes: []string{testScope}, EnableCAE: true}
	get := func() {
		if t, err := cred.GetToken(context.Background(), o); err != nil || t.Token == "" {
			panic(err)
		}
	}
	get() // from now on it comes from MSAL's cache
	parallel(b, get)
}

// azcore's policy caches as well; the pipeline around it is subtracted by
// comparing with BenchmarkHitAzcorePipelineAlone.
func BenchmarkHitAzcoreBearerTokenPolicy(b *testing.B) {
	benchmarkPipeline(b, runtime.NewBearerTokenPolicy(issuer{}, []string{testScope}, nil))
}

func BenchmarkHitAzcorePipelineAlone(b *testing.B) {
	benchmarkPipeline(b, passing{})
}

func benchmarkPipeline(b *testing.B, p policy.Policy) {
	pipeline := runtime.NewPipeline("bench", "v0", runtime.PipelineOptions{PerRetry: []policy.Policy{p}},
		&policy.ClientOptions{Transport: benchmarkEntra{}, Retry: policy.RetryOptions{MaxRetries: -1}})
	parallel(b, func() {
		req, err := runtime.NewRequest(context.Background(), http.MethodGet, "https://azure.example/")
		if err != nil {
			panic(err)
		}
		if _, err := pipeline.Do(req); err != nil {
			panic(err)
		}
	})
}

func parallel(b *testing.B, f func()) {
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			f()
		}
	})
}

type passing struct{}

func (passing) Do(r *policy.Request) (*http.Response, error) { return r.Next() }

// An issuer is a credential without any cost of its own.
type issuer struct{}

func (issuer) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "token", ExpiresOn: time.Now().Add(24 * time.Hour)}, nil
}

// benchmarkEntra answers every request with a token, discovery included.
type benchmarkEntra struct{}

func (benchmarkEntra) Do(r *http.Request) (*http.Response, error) {
	base := "https://" + r.URL.Host + "/" + tenant
	body := fmt.Sprintf(`{"issuer":%q,"authorization_endpoint":%q,"token_endpoint":%q,"access_token":"token","expires_in":86400,"token_type":"Bearer"}`,
		base+"/v2.0", base+"/a", base+"/t")
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Request: r, Body: io.NopCloser(bytes.NewBufferString(body))}, nil
}

func TestHitPathDoesNotAllocate(t *testing.T) {
	c := New(issuer{}, Options{Scope: testScope})
	runUntilCleanup(t, c)
	mustToken(t, c)
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() {
		token, _ := c.Token(ctx)
		_ = token.Authorization()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
