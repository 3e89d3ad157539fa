package litellm_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A tap stands between a client and the sidecar, passes every byte on as it
// comes, and notes the requests: the proof that a client did send the
// credential that Azure then did not get.
type tap struct {
	listener net.Listener
	target   string

	mu   sync.Mutex
	seen []tapped
}

// tapped is the head of a request as the client sent it.
type tapped struct {
	method, target string
	header         http.Header
}

// credentialHeaders are the ones that LiteLLM puts a key into.
var credentialHeaders = []string{"Authorization", "Api-Key", "X-Api-Key", "Ocp-Apim-Subscription-Key"}

// credentials names the headers of a request that carry a key, as the table shows them.
func (r tapped) credentials() string {
	var names []string
	for _, name := range credentialHeaders {
		if r.header.Get(name) != "" {
			names = append(names, "`"+strings.ToLower(name)+"`")
		}
	}
	return strings.Join(names, ", ")
}

func newTap(t *testing.T, target string) *tap {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{listener: listener, target: target}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go p.serve(client)
		}
	})
	t.Cleanup(func() { listener.Close(); running.Wait() })
	return p
}

func (p *tap) address() string { return p.listener.Addr().String() }

// requests are the ones noted so far, oldest first.
func (p *tap) requests() []tapped {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seen)
}

func (p *tap) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = nil
}

// serve ends both connections as soon as either has ended, so that a client
// that goes away is seen at once.
func (p *tap) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	heads, copied := io.Pipe()
	defer copied.Close()
	go p.read(heads)
	join(client, io.TeeReader(client, copied), server)
}

// join passes on what client sends, read from sent, and what server answers,
// until either of them ends.
func join(client io.Writer, sent io.Reader, server io.ReadWriter) {
	ended := make(chan struct{}, 2)
	go func() { io.Copy(server, sent); ended <- struct{}{} }()
	go func() { io.Copy(client, server); ended <- struct{}{} }()
	<-ended
}

func (p *tap) read(stream io.Reader) {
	defer io.Copy(io.Discard, stream) // what is no HTTP any more, such as a WebSocket
	in := bufio.NewReader(stream)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.seen = append(p.seen, tapped{r.Method, r.RequestURI, r.Header})
		p.mu.Unlock()
		if r.Header.Get("Upgrade") != "" {
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
	}
}
