package proxy

import (
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
)

// BenchmarkProxy sets the handler beside the standard library's ReverseProxy as
// it comes: 1 KB there over HTTP, on over TLS, 1 KB of JSON back. The figures
// include client and upstream, which are the same for both.
func BenchmarkProxy(b *testing.B) {
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(bytes.Repeat([]byte("a"), 1024))
	}))
	upstream.Config.ErrorLog = log.New(io.Discard, "", 0)
	upstream.StartTLS()
	b.Cleanup(upstream.Close)
	target, err := url.Parse(upstream.URL)
	if err != nil {
		b.Fatal(err)
	}
	roots := &tls.Config{RootCAs: rootsOf(upstream)}
	handler, err := New(Options{
		Routes:      []Route{{Prefix: "/", Upstream: target, Tokens: newTokens("token")}},
		Upstream:    NewTransport(TransportOptions{TLS: roots}),
		ReplayLimit: 4 << 20, ReplayBudget: 64 << 20,
	})
	if err != nil {
		b.Fatal(err)
	}
	standard := http.DefaultTransport.(*http.Transport).Clone()
	standard.TLSClientConfig = roots
	for name, h := range map[string]http.Handler{
		"Handler":      &Guard{Handler: handler, Loopback: true},
		"ReverseProxy": &httputil.ReverseProxy{Transport: standard, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }},
	} {
		b.Run(name, func(b *testing.B) { benchmark(b, h) })
	}
}

func benchmark(b *testing.B, h http.Handler) {
	front := httptest.NewServer(h)
	defer front.Close()
	client := front.Client()
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = 64
	question := bytes.Repeat([]byte("q"), 1024)
	b.ReportAllocs()
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			res, err := client.Post(front.URL+"/openai/deployments/d/embeddings?api-version=2024-10-21", "application/json", bytes.NewReader(question))
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if res.StatusCode != http.StatusOK {
				b.Error(res.Status)
				return
			}
		}
	})
}
