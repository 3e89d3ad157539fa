package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
)

// A request through the sidecar differs from the same request sent straight to
// the upstream in what follows, and in nothing else. The two functions apply
// these differences to what was seen without the sidecar.

// expectedRequest is what the upstream should see.
func expectedRequest(r exchanged) exchanged {
	r.header = maps.Clone(r.header)
	// Credentials and what tells of the client are removed, our token is added.
	for name := range r.header {
		if isCredential(name) {
			delete(r.header, name)
		}
	}
	r.header["Authorization"] = []string{"Bearer token-1"}
	// Hop-by-hop headers end here (RFC 9110, section 7.6.1).
	for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Connection", "X-Hop"} {
		delete(r.header, name)
	}
	// Of TE only trailers has a meaning for the next hop.
	if te := strings.Join(r.header["Te"], ","); strings.Contains(te, "trailers") {
		r.header["Te"] = []string{"trailers"}
	} else {
		delete(r.header, "Te")
	}
	// One User-Agent is sent, and an empty one is none.
	if agents := r.header["User-Agent"]; len(agents) > 0 && agents[0] != "" {
		r.header["User-Agent"] = agents[:1]
	} else {
		delete(r.header, "User-Agent")
	}
	// "Content-Length: 0" goes only with methods that usually have a body.
	if method, _, _ := strings.Cut(r.line, " "); !slices.Contains([]string{"POST", "PUT", "PATCH"}, method) && r.body == "" {
		delete(r.header, "Content-Length")
	}
	// Trailers that carry credentials are removed.
	r.trailer = maps.Clone(r.trailer)
	maps.DeleteFunc(r.trailer, func(name string, _ []string) bool { return isCredential(name) })
	return r
}

// expectedAnswer is what the client should see.
func expectedAnswer(a exchanged) exchanged {
	a.header = maps.Clone(a.header)
	// A Date is added where there is none (RFC 9110, section 6.6.1).
	if a.header["Date"] == nil {
		a.header["Date"] = []string{"added"}
	}
	// Trailers are announced only where they can follow, not in an answer to HEAD.
	delete(a.header, "Trailer")
	return a
}

// exchanged is one message as a peer saw it.
type exchanged struct {
	line      string // method and target, or status
	header    map[string][]string
	framing   string // length or chunked
	body      string
	trailer   map[string][]string
	hints     int // informational answers before this one
	continued int // 100 among them
	end       string
}

func (e exchanged) String() string {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "%s, %s, %d hints, %d times 100, end %s\n", e.line, e.framing, e.hints, e.continued, e.end)
	for _, part := range []map[string][]string{e.header, e.trailer} {
		for _, name := range slices.Sorted(maps.Keys(part)) {
			_, _ = fmt.Fprintf(&b, "  %s: %q\n", name, part[name])
		}
		b.WriteString("  --\n")
	}
	_, _ = fmt.Fprintf(&b, "  %d bytes: %.60q", len(e.body), e.body)
	return b.String()
}

// A call is a request that is generated, and the answer that it will get.
type call struct {
	request string // its head, but for the end
	method  string
	body    []string // as it is written, piece by piece
	expect  bool     // 100-continue: the body is sent when it is asked for
	answer  reply
}

// A reply is what the upstream does.
type reply struct {
	status  int
	header  http.Header
	pieces  []string
	length  bool // announce it
	trailer http.Header
	late    bool // a trailer that was not announced
	hint    bool
}

func TestTransparency(t *testing.T) {
	const cases = 300
	upstream := &scripted{}
	server := httptest.NewUnstartedServer(upstream)
	server.Config.ErrorLog = debugLog(zap.NewNop())
	server.StartTLS()
	s := startBefore(t, server, func(c *setup) { c.Route.Tokens = newTokens("token-1") })
	for seed := range uint64(cases) {
		call := generate(rand.New(rand.NewPCG(seed, 5)))
		direct, err := tls.Dial("tcp", server.Listener.Addr().String(), &tls.Config{RootCAs: rootsOf(server), ServerName: "example.com"})
		if err != nil {
			t.Fatal(err)
		}
		wantAnswer, wantRequest := upstream.run(call, direct)
		through, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		gotAnswer, gotRequest := upstream.run(call, through)
		if got, want := gotRequest.String(), expectedRequest(wantRequest).String(); got != want {
			t.Errorf("seed %d: %s\nthe upstream saw %s\nwant %s", seed, call.request, got, want)
		}
		if got, want := gotAnswer.String(), expectedAnswer(wantAnswer).String(); got != want {
			t.Errorf("seed %d: %s\nthe client saw %s\nwant %s", seed, call.request, got, want)
		}
		if t.Failed() {
			return
		}
	}
}

// scripted is an upstream that does what the call under way says.
type scripted struct {
	mu   sync.Mutex
	call call
	seen exchanged
}

// run makes the call on the connection and returns what both sides saw.
func (u *scripted) run(c call, conn net.Conn) (answer, request exchanged) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	u.mu.Lock()
	u.call, u.seen = c, exchanged{}
	u.mu.Unlock()
	answer = u.talk(c, conn)
	u.mu.Lock()
	defer u.mu.Unlock()
	return answer, u.seen
}

func (u *scripted) talk(c call, conn net.Conn) (answer exchanged) {
	in := bufio.NewReader(conn)
	_, _ = io.WriteString(conn, c.request+"\r\n")
	write := func() {
		for _, piece := range c.body {
			_, _ = io.WriteString(conn, piece)
		}
	}
	if !c.expect {
		write()
	}
	for {
		res, err := http.ReadResponse(in, &http.Request{Method: c.method})
		if err != nil {
			answer.end = err.Error()
			return answer
		}
		switch {
		case res.StatusCode == http.StatusContinue:
			answer.continued++
			write()
		case res.StatusCode < 200:
			answer.hints++
		default:
			body, err := io.ReadAll(res.Body)
			answer.line, answer.header, answer.body, answer.trailer = res.Status, res.Header, string(body), res.Trailer
			answer.framing, answer.end = fmt.Sprint(res.ContentLength, res.TransferEncoding, res.Close), fmt.Sprint(err)
			if res.Header["Date"] != nil && res.Header.Get("Date") != fixedDate {
				res.Header["Date"] = []string{"added"}
			}
			return answer
		}
	}
}

const fixedDate = "Mon, 02 Jan 2006 15:04:05 GMT"

// ServeHTTP notes the request and gives the reply.
func (u *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	u.seen = exchanged{
		line: r.Method + " " + r.RequestURI + " " + r.Proto, header: r.Header.Clone(), body: string(body),
		framing: fmt.Sprint(r.ContentLength, r.TransferEncoding), trailer: r.Trailer, end: fmt.Sprint(err),
	}
	delete(u.seen.header, "Host")
	u.call.answer.give(w)
}

func (a reply) give(w http.ResponseWriter) {
	h := w.Header()
	if a.hint {
		h.Set("Link", "</x>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		h.Del("Link")
	}
	maps.Copy(h, a.header)
	if !a.late {
		for name := range a.trailer {
			h.Add("Trailer", name)
		}
	}
	if a.length {
		h.Set("Content-Length", strconv.Itoa(len(strings.Join(a.pieces, ""))))
	}
	w.WriteHeader(a.status)
	for _, piece := range a.pieces {
		_, _ = io.WriteString(w, piece)
		if !a.length {
			_ = http.NewResponseController(w).Flush()
		}
	}
	for name, values := range a.trailer {
		if a.late {
			name = http.TrailerPrefix + name
		}
		h[name] = values
	}
}

// generate makes a call.
func generate(random *rand.Rand) call {
	pick := func(choices ...string) string { return choices[random.IntN(len(choices))] }
	often := func(n int) bool { return random.IntN(n) == 0 }
	c := call{method: pick("GET", "GET", "HEAD", "POST", "POST", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY")}
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "%s /%s%s HTTP/1.1\r\nHost: localhost\r\n", c.method,
		pick("", "openai/v1/responses", "a%2Fb//c", "models:analyze", "./x/../y", "größe", "a+b;c"),
		pick("", "?", "?api-version=2024-10-21", "?a=%zz;b", "?x=ä&&=", "?a=b?c/d"))
	for range random.IntN(8) {
		b.WriteString(pick(
			"Accept: */*\r\n", "Accept-Encoding: gzip, br\r\n", "Accept-Encoding: identity\r\n", "Content-Type: application/json\r\n",
			"User-Agent: OpenAI/Python 1.2\r\n", "User-Agent:\r\n", "X-Multi: 1\r\nX-Multi: 2\r\n", "X-Multi: 1, 2\r\n", "x-lower: Ä\xff\r\n",
			"X-Empty:\r\n", "If-None-Match: \"x\", W/\"y\"\r\n", "Range: bytes=0-10\r\n", "TE: trailers\r\n", "TE: gzip\r\n", "Te: deflate;q=0.5, trailers\r\n",
			"Cache-Control: no-cache\r\n", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n", "Via: 1.1 x\r\n",
			"x-ms-client-request-id: 1\r\n", "OpenAI-Beta: assistants=v2\r\n", "Connection: keep-alive\r\n", "Keep-Alive: timeout=5\r\n",
			"Connection: X-Hop\r\nX-Hop: 1\r\n", "Proxy-Connection: keep-alive\r\n", "Max-Forwards: 3\r\n", "Date: x\r\n", "Pragma: x\r\n",
			"api-key: k\r\n", "Authorization: Bearer k\r\n", "Cookie: k\r\n", "X-Forwarded-For: k\r\n", "x_api_key: k\r\n",
			"Idempotency-Key: 7\r\n", "Expect-Ct: x\r\n", "Accept: a\r\nAccept: b\r\n", "X-Long: "+strings.Repeat("x", 400)+"\r\n",
		))
	}
	c.generateBody(random, &b, pick, often)
	c.request = b.String()
	c.answer = generateReply(random, pick, often)
	return c
}

func (c *call) generateBody(random *rand.Rand, head *strings.Builder, pick func(...string) string, often func(int) bool) {
	content := strings.Repeat(pick("x", "{}", "\x00\xff", "\r\n", "0\r\n\r\n"), []int{0, 1, 10, 1000, 70_000}[random.IntN(5)])
	bodiless := c.method == "GET" || c.method == "HEAD" || c.method == "OPTIONS"
	switch {
	case bodiless && !often(5):
		return
	case often(2):
		_, _ = fmt.Fprintf(head, "Content-Length: %d\r\n", len(content))
		c.body = []string{content}
	default:
		head.WriteString("Transfer-Encoding: chunked\r\n")
		trailer := pick("", "", "X-Sum: 7\r\n", "X-Sum: 7\r\nX-Sum: 8\r\n", "Authorization: k\r\n", "X-Sum: 7\r\nApi-Key: k\r\n")
		if trailer != "" {
			head.WriteString("Trailer: X-Sum, Authorization, Api-Key\r\n")
		}
		for content != "" {
			n := min(len(content), 1+random.IntN(30_000))
			c.body = append(c.body, fmt.Sprintf("%x\r\n%s\r\n", n, content[:n]))
			content = content[n:]
		}
		c.body = append(c.body, "0\r\n"+trailer+"\r\n")
	}
	if len(c.body) > 0 && c.body[0] != "" && often(4) {
		head.WriteString("Expect: 100-continue\r\n")
		c.expect = true
	}
}

func generateReply(random *rand.Rand, pick func(...string) string, often func(int) bool) reply {
	a := reply{
		status: []int{200, 200, 200, 201, 202, 204, 206, 301, 304, 307, 400, 401, 404, 409, 429, 500, 503}[random.IntN(17)],
		header: http.Header{"Date": {fixedDate}}, length: often(2), hint: often(8),
	}
	if often(6) {
		a.header["Date"] = nil
	}
	for range random.IntN(6) {
		name, values, _ := strings.Cut(pick(
			"Content-Type=application/json", "Content-Type=text/event-stream", "Content-Type=image/png", "Set-Cookie=a=1|b=2", "X-Multi=1|2, 3",
			"Etag=\"x\"", "Retry-After=4", "Retry-After-Ms=3900", "X-Should-Retry=true", "Apim-Request-Id=1", "X-Ratelimit-Remaining-Tokens=7",
			"Www-Authenticate=Bearer x|Basic y", "Location=https://elsewhere.example/x", "Cache-Control=no-store", "X-Empty=", "X-Latin=\xe4",
			"Server=x", "Via=1.1 x", "Vary=a|b", "Content-Disposition=attachment", "Link=<x>|<y>", "X-Accel-Buffering=no", "Warning=1", "Age=3",
		), "=")
		a.header[name] = strings.Split(values, "|")
	}
	if a.header["Content-Type"] == nil && often(2) {
		a.header["Content-Type"] = nil // none, rather than a guess
	}
	if a.status == 204 || a.status == 304 || often(6) {
		a.length = false
		return a
	}
	for range random.IntN(4) {
		a.pieces = append(a.pieces, strings.Repeat(pick("y", "data: {}\n\n", "\x1f\x8b"), []int{1, 100, 40_000}[random.IntN(3)]))
	}
	if often(3) {
		a.header["Content-Encoding"] = []string{pick("gzip", "br", "x-own")}
		a.pieces = []string{string(bytes.Repeat([]byte{0x1f, 0x8b}, 50))}
	}
	if !a.length && len(a.pieces) > 0 && often(3) {
		a.trailer, a.late = http.Header{"X-Answer-Sum": {"9"}}, often(2)
	}
	return a
}
