package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"entra-sidecar/tokencache"
)

// TestMain fails the run if anything of the package, of net/http or of a test
// is still running when all tests are over.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leakedGoroutines(); code == 0 && left != "" {
		fmt.Fprintln(os.Stderr, "goroutines left behind:\n"+left)
		code = 1
	}
	os.Exit(code)
}

func leakedGoroutines() (left string) {
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	for range 100 {
		if left = runningGoroutines(); left == "" {
			return ""
		}
		time.Sleep(50 * time.Millisecond)
	}
	return left
}

func runningGoroutines() string {
	buf := make([]byte, 4<<20)
	stacks := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	var ours []string
	for _, stack := range stacks[1:] { // the first is this one
		if strings.Contains(stack, "entra-sidecar/") || strings.Contains(stack, "net/http") {
			ours = append(ours, stack)
		}
	}
	return strings.Join(ours, "\n\n")
}

// A setup is what a test may change before its sidecar starts.
type setup struct {
	Options
	Guard     Guard
	Transport TransportOptions
	Route     Route // the only one, unless Routes are set
	FrontTLS  bool  // the client speaks https
}

// A sidecar is the proxy as it runs in the program: guard and handler on a real
// server, the real transport, and a TLS upstream behind it.
type sidecar struct {
	*Handler
	t        testing.TB
	url      string
	addr     string
	front    *httptest.Server
	upstream *httptest.Server
	tokens   *tokens
	registry *prometheus.Registry
	logs     *observer.ObservedLogs
	client   *http.Client
}

// start runs a sidecar before an upstream that answers with azure. When the test
// ends, it checks that nothing was left behind: no byte of the replay budget, no
// request in flight, no tunnel.
func start(t testing.TB, azure http.HandlerFunc, change ...func(*setup)) *sidecar {
	t.Helper()
	upstream := httptest.NewTLSServer(azure)
	upstream.Config.ErrorLog = debugLog(zap.NewNop())
	return startBefore(t, upstream, change...)
}

func startBefore(t testing.TB, upstream *httptest.Server, change ...func(*setup)) *sidecar {
	t.Helper()
	s := &sidecar{t: t, upstream: upstream, tokens: newTokens("token-1", "token-2"), registry: prometheus.NewRegistry()}
	core, logs := observer.New(zapcore.DebugLevel)
	s.logs = logs
	target, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := &setup{
		Options: Options{
			AnnotateErrors: true, ReplayLimit: 1 << 20, ReplayBudget: 4 << 20,
			Logger: zap.New(core), Registerer: s.registry,
		},
		Transport: TransportOptions{TLS: &tls.Config{RootCAs: rootsOf(upstream)}},
		Route:     Route{Prefix: "/", Upstream: target, Tokens: s.tokens},
		Guard:     Guard{Loopback: true},
	}
	for _, f := range change {
		f(c)
	}
	s.run(c)
	return s
}

func rootsOf(upstream *httptest.Server) *x509.CertPool {
	roots := x509.NewCertPool()
	if cert := upstream.Certificate(); cert != nil {
		roots.AddCert(cert)
	}
	return roots
}

func (s *sidecar) run(c *setup) {
	s.t.Helper()
	if c.Routes == nil {
		c.Routes = []Route{c.Route}
	}
	transport := NewTransport(c.Transport)
	if c.Upstream == nil {
		c.Upstream = transport
	}
	h, err := New(c.Options)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Handler = h
	c.Guard.Handler = h
	s.front = httptest.NewUnstartedServer(&c.Guard)
	s.front.Config.ErrorLog = debugLog(zap.NewNop())
	if c.FrontTLS {
		s.front.StartTLS()
	} else {
		s.front.Start()
	}
	s.url, s.addr = s.front.URL, s.front.Listener.Addr().String()
	s.client = plainClient(rootsOf(s.front))
	s.t.Cleanup(func() { s.stop(transport) })
}

// stop ends everything and checks what must hold after any ending.
func (s *sidecar) stop(transport *Transport) {
	s.client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := s.CloseTunnels(ctx); err != nil {
		s.t.Errorf("tunnels are left: %v", err)
	}
	s.front.Close()
	transport.CloseIdleConnections()
	s.upstream.CloseClientConnections()
	s.upstream.Close()
	eventually(s.t, "the replay budget to be returned", func() bool { return s.budget.used.Load() == 0 })
	eventually(s.t, "no request in flight", func() bool { return s.metric("entra_sidecar_inflight_requests") == 0 })
	eventually(s.t, "no tunnel open", func() bool { return s.metric("entra_sidecar_tunnels") == 0 })
}

// plainClient adds, follows and decodes nothing.
func plainClient(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DisableCompression: true, MaxIdleConnsPerHost: 64,
			TLSClientConfig: &tls.Config{RootCAs: roots},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// metric sums the samples of a counter or gauge whose labels include those
// given as name, value, name, value.
func (s *sidecar) metric(name string, labels ...string) float64 {
	s.t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		s.t.Error(err)
	}
	var sum float64
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			have := map[string]string{}
			for _, pair := range m.GetLabel() {
				have[pair.GetName()] = pair.GetValue()
			}
			matches := true
			for i := 0; i < len(labels); i += 2 {
				matches = matches && have[labels[i]] == labels[i+1]
			}
			if matches {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

// accessLog waits for the next line of the access log and returns its fields.
func (s *sidecar) accessLog() map[string]any {
	s.t.Helper()
	var lines []observer.LoggedEntry
	eventually(s.t, "a line in the access log", func() bool {
		lines = s.logs.FilterMessage("request").All()
		return len(lines) > 0
	})
	if len(lines) == 0 {
		return nil
	}
	fields := lines[len(lines)-1].ContextMap()
	fields["level"] = lines[len(lines)-1].Level.String()
	return fields
}

// An answer is a response that was read to its end.
type answer struct {
	*http.Response
	body string
	err  error // with which the body ended, nil for EOF
}

func (s *sidecar) do(r *http.Request) answer {
	s.t.Helper()
	res, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res, string(body), err}
}

func (s *sidecar) get(path string) answer {
	s.t.Helper()
	return s.do(s.request("GET", path, nil))
}

func (s *sidecar) post(path, body string) answer {
	s.t.Helper()
	return s.do(s.request("POST", path, strings.NewReader(body)))
}

func (s *sidecar) request(method, path string, body io.Reader) *http.Request {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// dial opens a connection of bytes to the sidecar.
func (s *sidecar) dial() *wire {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &wire{Conn: conn, t: s.t, in: bufio.NewReader(conn)}
}

// raw sends request as it is, with "\n" for "\r\n", and returns the answer.
func (s *sidecar) raw(request string) answer {
	s.t.Helper()
	w := s.dial()
	w.send(request)
	return w.answer("")
}

// A wire is a client's connection on which every byte is the test's own.
type wire struct {
	net.Conn
	t  testing.TB
	in *bufio.Reader
}

func (w *wire) send(lines string) {
	w.t.Helper()
	if _, err := io.WriteString(w.Conn, strings.ReplaceAll(lines, "\n", "\r\n")); err != nil {
		w.t.Fatal(err)
	}
}

// answer reads one response to a request of the method; "" is GET.
func (w *wire) answer(method string) answer {
	w.t.Helper()
	res, err := http.ReadResponse(w.in, &http.Request{Method: method})
	if err != nil {
		w.t.Fatalf("no answer: %v", err)
	}
	body, err := io.ReadAll(res.Body)
	return answer{res, string(body), err}
}

// tokens is a scripted TokenSource: it hands out the first of its tokens until
// that is refused, then the second, and so on.
type tokens struct {
	mu       sync.Mutex
	values   []*tokencache.Token
	err      error
	asked    int
	refusals []refusedCall
}

// A refusedCall is one report of a refusal.
type refusedCall struct {
	token, claims string
	cancelled     bool // the context was over already: nobody waits
}

func newTokens(values ...string) *tokens {
	s := &tokens{}
	s.set(nil, values...)
	return s
}

// errPanic makes a source panic.
var errPanic = errors.New("on purpose")

// set starts the script anew: from now on these tokens, or the error.
func (s *tokens) set(err error, values ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.values = err, nil
	for _, value := range values {
		s.values = append(s.values, tokencache.NewToken(value, time.Now().Add(time.Hour)))
	}
}

func (s *tokens) wasAsked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked > 0
}

func (s *tokens) Token(ctx context.Context) (*tokencache.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.err == errPanic {
		panic(s.err)
	}
	if s.err != nil {
		return nil, s.err
	}
	return s.values[0], ctx.Err()
}

func (s *tokens) Refused(ctx context.Context, t *tokencache.Token, claims string) (*tokencache.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusals = append(s.refusals, refusedCall{strings.TrimPrefix(t.Authorization(), "Bearer "), claims, ctx.Err() != nil})
	if t == s.values[0] && len(s.values) > 1 {
		s.values = s.values[1:]
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case t == s.values[0]:
		return nil, tokencache.ErrNotReplaced
	}
	return s.values[0], nil
}

func (s *tokens) reports() []refusedCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]refusedCall(nil), s.refusals...)
}

// A seen is a request as the upstream got it.
type seen struct {
	*http.Request
	body    string
	bodyErr error
}

// A recorder is an upstream that keeps what it gets and answers 200.
type recorder struct {
	mu   sync.Mutex
	seen []seen
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.record(req)
	_, _ = io.WriteString(w, "ok")
}

func (r *recorder) record(req *http.Request) seen {
	body, err := io.ReadAll(req.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	got := seen{req, string(body), err}
	r.seen = append(r.seen, got)
	return got
}

func (r *recorder) all() []seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]seen(nil), r.seen...)
}

// last returns the latest request, which must exist.
func (r *recorder) last(t *testing.T) seen {
	t.Helper()
	all := r.all()
	if len(all) == 0 {
		t.Fatal("nothing reached the upstream")
	}
	return all[len(all)-1]
}

// eventually waits up to 5 s.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("waited in vain for %s", what)
			return
		}
	}
}

// hijack takes the upstream's connection over, to misbehave on it.
func hijack(t *testing.T, w http.ResponseWriter) (net.Conn, *bufio.ReadWriter) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
	}
	return conn, rw
}

// writeRaw answers bytes as they are, with "\n" for "\r\n", and hangs up.
func writeRaw(t *testing.T, w http.ResponseWriter, lines string) {
	conn, _ := hijack(t, w)
	_, _ = io.WriteString(conn, strings.ReplaceAll(lines, "\n", "\r\n"))
	_ = conn.Close()
}
