// Package bench measures the built binary beside others that do the same work,
// in one run and in turns: machines differ, and a shared one differs from
// minute to minute, so that only ratios mean something.
//
//	go test -run - -bench SideBySide -benchtime 1x ./test/bench
//
// The others are no proxy at all, the standard library's ReverseProxy as it
// comes, and nginx, if there is one in PATH. All take a 1 KB POST over plain
// HTTP, put an Authorization header on it, and forward it over TLS to an
// upstream that answers with 1 KB of JSON.
package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	rounds        = 7
	roundLength   = 700 * time.Millisecond
	path          = "/openai/deployments/gpt-4o/embeddings?api-version=2024-10-21"
	authorization = "Bearer benchmark"
)

var (
	question = bytes.Repeat([]byte("q"), 1024)
	reply    = bytes.Repeat([]byte("a"), 1024)
)

// A target is one way to the upstream.
type target struct {
	name string
	url  string
	pid  int // 0 for one in this process
}

func BenchmarkSideBySide(b *testing.B) {
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(answer))
	upstream.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that a round's end interrupts
	upstream.StartTLS()
	defer upstream.Close()
	caFile := writeCA(b, upstream)
	targets := []target{
		{name: "direct", url: upstream.URL},
		{name: "ReverseProxy", url: standardProxy(b, upstream)},
		startSidecar(b, upstream.URL, caFile),
	}
	if nginx, err := exec.LookPath("nginx"); err == nil {
		targets = append(targets, startNginx(b, nginx, upstream.URL, caFile))
	} else {
		b.Log("nginx is not installed: measuring without it")
	}
	for b.Loop() {
		for _, connections := range []int{1, 16, 64} {
			report(b, connections, compare(b, upstream, targets, connections))
		}
	}
}

func answer(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(reply)
}

// A result is one target in one round.
type result struct {
	perSecond float64
	median    time.Duration
}

// compare gives every target its turn in each round. Connections stay open from
// round to round: the first round, which opens them, does not count.
func compare(b *testing.B, upstream *httptest.Server, targets []target, connections int) map[string][]result {
	results := make(map[string][]result)
	clients := make(map[string]*http.Client)
	for _, t := range targets {
		transport := upstream.Client().Transport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = connections
		defer transport.CloseIdleConnections()
		clients[t.name] = &http.Client{Transport: transport}
	}
	for round := range rounds + 1 {
		for _, t := range targets {
			r := load(b, clients[t.name], t.url+path, connections)
			if round > 0 {
				results[t.name] = append(results[t.name], r)
			}
		}
	}
	return results
}

// load keeps so many connections busy for the length of a round.
func load(b *testing.B, client *http.Client, url string, connections int) result {
	var mu sync.Mutex
	var all []time.Duration
	var workers sync.WaitGroup
	begin := time.Now()
	for range connections {
		workers.Go(func() {
			var taken []time.Duration
			for time.Since(begin) < roundLength {
				started := time.Now()
				if err := once(client, url); err != nil {
					b.Error(err)
					return
				}
				taken = append(taken, time.Since(started))
			}
			mu.Lock()
			all = append(all, taken...)
			mu.Unlock()
		})
	}
	workers.Wait()
	if len(all) == 0 {
		b.Fatalf("%s answered nothing", url)
	}
	slices.Sort(all)
	return result{float64(len(all)) / time.Since(begin).Seconds(), all[len(all)/2]}
}

func once(client *http.Client, url string) error {
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(question))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", authorization)
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, res.Body); err != nil || n != int64(len(reply)) || res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s, %d bytes, %v", url, res.Status, n, err)
	}
	return nil
}

// report prints medians over the rounds of figures taken within one round.
func report(b *testing.B, connections int, results map[string][]result) {
	direct := results["direct"]
	for _, name := range []string{"direct", "nginx", "ReverseProxy", "entra-sidecar"} {
		if results[name] == nil {
			continue
		}
		var ratio, added []float64
		for i, r := range results[name] {
			ratio = append(ratio, r.perSecond/direct[i].perSecond)
			added = append(added, float64((r.median - direct[i].median).Microseconds()))
		}
		// Not b.Logf, which keeps ten lines only.
		fmt.Printf("%2d connections  %-13s  %.2f of direct's requests per second, median %+5.0f µs\n", connections, name, median(ratio), median(added))
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

func writeCA(b *testing.B, upstream *httptest.Server) string {
	name := filepath.Join(b.TempDir(), "ca.pem")
	content := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: upstream.Certificate().Raw})
	if err := os.WriteFile(name, content, 0o600); err != nil {
		b.Fatal(err)
	}
	return name
}

// standardProxy is ReverseProxy as it comes.
func standardProxy(b *testing.B, upstream *httptest.Server) string {
	to, err := url.Parse(upstream.URL)
	if err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(upstream.Certificate())
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	server := httptest.NewServer(&httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Header.Set("Authorization", authorization)
		},
	})
	b.Cleanup(server.Close)
	return server.URL
}

// startSidecar runs the binary with tokens from a managed identity endpoint.
func startSidecar(b *testing.B, upstream, caFile string) target {
	binary := filepath.Join(b.TempDir(), "entra-sidecar")
	if out, err := exec.Command("go", "build", "-o", binary, "entra-sidecar/cmd/entra-sidecar").CombinedOutput(); err != nil {
		b.Fatalf("building the binary: %v\n%s", err, out)
	}
	identity := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, `{"access_token":"benchmark","token_type":"Bearer","expires_on":"%d","resource":%q}`,
			time.Now().Add(time.Hour).Unix(), r.FormValue("resource"))
	}))
	b.Cleanup(identity.Close)

	listen, admin := freeAddress(b), freeAddress(b)
	command := exec.Command(binary, "--listen", listen, "--admin-listen", admin, "--upstream", upstream, "--log-level", "warn")
	command.Env = []string{"SSL_CERT_FILE=" + caFile, "IDENTITY_ENDPOINT=" + identity.URL, "IDENTITY_HEADER=x"}
	return start(b, "entra-sidecar", command, listen, "http://"+admin+"/readyz")
}

func startNginx(b *testing.B, nginx, upstream, caFile string) target {
	dir, listen := b.TempDir(), freeAddress(b)
	host := strings.TrimPrefix(upstream, "https://")
	configuration := fmt.Sprintf(`
daemon off; worker_processes auto; pid %[1]s/pid; error_log stderr warn;
events { worker_connections 1024; }
http {
	access_log off;
	client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	keepalive_requests 1000000;
	upstream azure { server %[2]s; keepalive 256; keepalive_requests 1000000; }
	server {
		listen %[3]s;
		location / {
			proxy_pass https://azure; proxy_http_version 1.1; proxy_set_header Connection "";
			proxy_set_header Authorization "%[4]s";
			proxy_ssl_verify on; proxy_ssl_trusted_certificate %[5]s; proxy_ssl_name example.com; proxy_ssl_session_reuse on;
		}
	}
}`, dir, host, listen, authorization, caFile)
	name := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(name, []byte(configuration), 0o600); err != nil {
		b.Fatal(err)
	}
	return start(b, "nginx", exec.Command(nginx, "-c", name), listen, "http://"+listen+path)
}

// start waits until the probe answers at all, and ends the process with the benchmark.
func start(b *testing.B, name string, command *exec.Cmd, listen, probe string) target {
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = command.Process.Signal(os.Interrupt)
		_ = command.Wait()
	})
	ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if res, err := http.Get(probe); err == nil {
			res.Body.Close()
			if res.StatusCode < 500 {
				return target{name, "http://" + listen, command.Process.Pid}
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	b.Fatalf("%s did not start", name)
	return target{}
}

func freeAddress(b *testing.B) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
