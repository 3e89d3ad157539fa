package proxy

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
)

// A connCounter is an upstream that counts its connections.
type connCounter struct {
	*httptest.Server
	opened, closed atomic.Int32
	resumed        atomic.Int32 // requests on a connection whose TLS session was resumed
}

func countConnections(handle http.HandlerFunc) *connCounter {
	c := &connCounter{}
	c.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS.DidResume {
			c.resumed.Add(1)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		handle(w, r)
	}))
	c.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			c.opened.Add(1)
		case http.StateClosed:
			c.closed.Add(1)
		}
	}
	c.StartTLS()
	return c
}

func TestConnectionsAreReused(t *testing.T) {
	azure := countConnections(func(http.ResponseWriter, *http.Request) {})
	s := startBefore(t, azure.Server)
	for range 50 {
		s.post("/x", "{}")
	}
	if n := azure.opened.Load(); n != 1 {
		t.Errorf("%d connections for 50 requests", n)
	}
}

func TestABurstLeavesItsConnectionsForTheNext(t *testing.T) {
	const burst = 30
	var arrived sync.WaitGroup
	azure := countConnections(func(http.ResponseWriter, *http.Request) {
		arrived.Done()
		arrived.Wait() // all at one time
	})
	s := startBefore(t, azure.Server)
	for range 3 {
		arrived.Add(burst)
		var clients sync.WaitGroup
		for range burst {
			clients.Go(func() { s.post("/x", "{}") })
		}
		clients.Wait()
	}
	if n := azure.opened.Load(); n > burst {
		t.Errorf("%d connections for bursts of %d", n, burst)
	}
}

func TestAConnectionTakesNoRequestsAfterItsAge(t *testing.T) {
	const age = 200 * time.Millisecond
	hold := make(chan struct{})
	azure := countConnections(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			_ = http.NewResponseController(w).Flush()
			<-hold
			_, _ = io.WriteString(w, "finished")
		}
	})
	s := startBefore(t, azure.Server, func(c *setup) { c.Transport.MaxConnectionAge = age })
	began := time.Now()
	res, err := s.client.Do(s.request("GET", "/long", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	s.get("/x")
	s.get("/x")
	if n := azure.opened.Load(); n != 2 && time.Since(began) < age {
		t.Errorf("%d connections, want one for each of two requests at a time", n)
	}

	time.Sleep(time.Until(began.Add(age + 20*time.Millisecond)))
	before := azure.opened.Load()
	s.get("/x")
	if n := azure.opened.Load(); n != before+1 {
		t.Errorf("after their age, %d new connections", n-before)
	}
	eventually(t, "the old idle connection to be closed", func() bool { return azure.closed.Load() >= 1 })
	if azure.resumed.Load() == 0 {
		t.Error("the new connection made a whole handshake")
	}
	close(hold)
	if got, err := io.ReadAll(res.Body); string(got) != "finished" || err != nil {
		t.Errorf("the request under way got %q, %v", got, err)
	}
	eventually(t, "the old busy connection to be closed", func() bool { return azure.closed.Load() >= 2 })
}

func TestAnIdleConnectionIsClosed(t *testing.T) {
	azure := countConnections(func(http.ResponseWriter, *http.Request) {})
	s := startBefore(t, azure.Server, func(c *setup) { c.Transport.IdleTimeout = 50 * time.Millisecond })
	s.get("/x")
	eventually(t, "it to be closed", func() bool { return azure.closed.Load() == 1 })
	if res := s.get("/x"); res.StatusCode != 200 || azure.opened.Load() != 2 {
		t.Errorf("status %d, %d connections", res.StatusCode, azure.opened.Load())
	}
}

func TestTheTimeLimitsHaveTheDocumentedDefaults(t *testing.T) {
	got := NewTransport(TransportOptions{}).options
	got.TLS = nil
	want := TransportOptions{
		DialTimeout: 10 * time.Second, TLSTimeout: 10 * time.Second, ResponseHeaderTimeout: 10 * time.Minute,
		IdleTimeout: time.Minute, MaxConnectionAge: 10 * time.Minute,
	}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestTheCallersTLSSettingsAreLeftAlone(t *testing.T) {
	theirs := &tls.Config{}
	NewTransport(TransportOptions{TLS: theirs})
	if theirs.MinVersion != 0 || theirs.ClientSessionCache != nil {
		t.Error("they were changed")
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	upstream := httptest.NewUnstartedServer(&recorder{})
	upstream.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	upstream.Config.ErrorLog = debugLog(zap.NewNop())
	upstream.StartTLS()
	s := startBefore(t, upstream)
	assertOwnError(t, s.post("/x", "{}"), 502, "upstream_unreachable")
}

// The environment's proxy is read once in a process, hence a second one.
func TestTheUpstreamIsReachedThroughTheEnvironmentsProxy(t *testing.T) {
	if os.Getenv("PROXY_TEST_CHILD") != "" {
		s := start(t, nil, func(c *setup) { c.Route.Upstream = parse(t, "https://example.com/base") })
		res := s.post("/x", "{}")
		fmt.Printf("child: %d %s\n", res.StatusCode, res.body)
		return
	}
	azure := &recorder{}
	upstream := httptest.NewTLSServer(azure)
	t.Cleanup(upstream.Close)
	var asked atomic.Value
	proxy := listen(t, func(c net.Conn) { connect(c, upstream.Listener.Addr().String(), &asked) })

	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), "PROXY_TEST_CHILD=1", "HTTPS_PROXY=http://"+proxy, "NO_PROXY=", "no_proxy=")
	out, err := child.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("child: 200 ok")) {
		t.Fatalf("%v: %s", err, out)
	}
	r := azure.last(t)
	if asked.Load() != "example.com:443" || r.Host != "example.com" || r.TLS.ServerName != "example.com" || r.RequestURI != "/base/x" {
		t.Errorf("the proxy was asked for %v, the upstream for %s%s as %s", asked.Load(), r.Host, r.RequestURI, r.TLS.ServerName)
	}
}

// connect is a forward proxy that knows one way.
func connect(client net.Conn, to string, asked *atomic.Value) {
	head := make([]byte, 0, 1024)
	for one := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); head = append(head, one...) {
		if _, err := client.Read(one); err != nil {
			return
		}
	}
	var target string
	_, _ = fmt.Sscanf(string(head), "CONNECT %s HTTP/1.1", &target)
	asked.Store(target)
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer server.Close()
	_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { _, _ = io.Copy(server, client) }()
	_, _ = io.Copy(client, server)
}
