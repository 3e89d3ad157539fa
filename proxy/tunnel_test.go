package proxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
)

// echoWebSocket accepts a WebSocket and sends every message back.
func echoWebSocket(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{
			Subprotocols: []string{"realtime"}, CompressionMode: websocket.CompressionContextTakeover,
		})
		if err != nil {
			t.Errorf("the upstream: %v", err)
			return
		}
		c.SetReadLimit(-1)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		for {
			kind, message, err := c.Read(ctx)
			if err != nil {
				_ = c.CloseNow()
				return
			}
			if err := c.Write(ctx, kind, message); err != nil {
				return
			}
		}
	}
}

// connect opens a WebSocket through the sidecar.
func (s *sidecar) connect(o *websocket.DialOptions) *websocket.Conn {
	s.t.Helper()
	c, _, err := websocket.Dial(s.t.Context(), s.url+"/openai/realtime", o)
	if err != nil {
		s.t.Fatal(err)
	}
	c.SetReadLimit(-1)
	s.t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

func assertEcho(t *testing.T, c *websocket.Conn, message string) {
	t.Helper()
	if err := c.Write(t.Context(), websocket.MessageText, []byte(message)); err != nil {
		t.Fatal(err)
	}
	if kind, got, err := c.Read(t.Context()); err != nil || string(got) != message || kind != websocket.MessageText {
		t.Fatalf("%.80q came back as %.80q: %v", message, got, err)
	}
}

func TestMessagesPassInBothDirections(t *testing.T) {
	for _, mode := range []websocket.CompressionMode{websocket.CompressionDisabled, websocket.CompressionContextTakeover} {
		s := start(t, echoWebSocket(t))
		c := s.connect(&websocket.DialOptions{CompressionMode: mode})
		for _, size := range []int{0, 1, 125, 126, 65535, 65536, 8 << 20} {
			assertEcho(t, c, strings.Repeat("ä", size/2)+strings.Repeat("x", size%2))
		}
		binary := bytes.Repeat([]byte{0, 0xff, 0x88, 2}, 1<<20)
		if err := c.Write(t.Context(), websocket.MessageBinary, binary); err != nil {
			t.Fatal(err)
		}
		if kind, got, err := c.Read(t.Context()); err != nil || kind != websocket.MessageBinary || !bytes.Equal(got, binary) {
			t.Errorf("%v, %d bytes, %v", kind, len(got), err)
		}
		if n := s.metric("entra_sidecar_tunnels", "route", "/"); n != 1 {
			t.Errorf("%v tunnels counted", n)
		}
		_ = c.Close(websocket.StatusNormalClosure, "")
		if line := s.accessLog(); line["status"] != int64(101) || line["level"] != "info" {
			t.Errorf("logged as %v", line)
		}
		if n := s.metric("entra_sidecar_requests_total", "code", "101", "method", "GET"); n != 1 {
			t.Errorf("%v counted as 101", n)
		}
	}
}

func TestAMessageInFragments(t *testing.T) {
	s := start(t, echoWebSocket(t))
	c := s.connect(nil)
	w, err := c.Writer(t.Context(), websocket.MessageText)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if _, err := io.WriteString(w, "fragment "); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, got, err := c.Read(t.Context()); err != nil || string(got) != strings.Repeat("fragment ", 50) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestPingsPassInBothDirections(t *testing.T) {
	ponged := make(chan error, 1)
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.CloseNow()
		ctx := c.CloseRead(context.Background())
		ponged <- c.Ping(ctx)
		<-ctx.Done()
	})
	c := s.connect(nil)
	ctx := c.CloseRead(t.Context())
	if err := c.Ping(ctx); err != nil {
		t.Errorf("the client's ping: %v", err)
	}
	if err := <-ponged; err != nil {
		t.Errorf("the upstream's ping: %v", err)
	}
}

func TestCloseCodesPassInBothDirections(t *testing.T) {
	for _, code := range []websocket.StatusCode{1000, 1001, 1008, 1011, 3000, 4999} {
		heard := make(chan error, 1)
		s := start(t, func(w http.ResponseWriter, r *http.Request) {
			c, err := websocket.Accept(w, r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if r.URL.Query().Get("close") == "upstream" {
				_ = c.Close(code, "its reason")
				return
			}
			_, _, err = c.Read(context.Background())
			heard <- err
		})
		_ = s.connect(nil).Close(code, "its reason")
		assertClosed(t, <-heard, code)

		c, _, err := websocket.Dial(t.Context(), s.url+"/x?close=upstream", nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = c.Read(t.Context())
		assertClosed(t, err, code)
		_ = c.CloseNow()
	}
}

func assertClosed(t *testing.T, err error, code websocket.StatusCode) {
	t.Helper()
	closed, ok := errors.AsType[websocket.CloseError](err)
	if !ok || closed.Code != code || closed.Reason != "its reason" {
		t.Errorf("closed with %v, want %d", err, code)
	}
}

func TestSubprotocolsAreNegotiatedWithoutTheKey(t *testing.T) {
	var offered []string
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		offered = r.Header["Sec-Websocket-Protocol"]
		echoWebSocket(t)(w, r)
	})
	c := s.connect(&websocket.DialOptions{Subprotocols: []string{"openai-insecure-api-key.canary", "realtime", "other"}})
	if c.Subprotocol() != "realtime" {
		t.Errorf("subprotocol %q", c.Subprotocol())
	}
	if strings.Join(offered, "|") != "realtime, other" {
		t.Errorf("the upstream was offered %q", offered)
	}
}

const upgrade = "GET /x HTTP/1.1\nHost: localhost\nConnection: Upgrade\nUpgrade: websocket\n" +
	"Sec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n\n"

// switches answers 101 and hands the connection to talk.
func switches(t *testing.T, talk func(net.Conn, *bufio.Reader)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, rw := hijack(t, w)
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		talk(conn, rw.Reader)
	}
}

// upgraded opens a tunnel of bytes, with more sent in one packet with the head.
func (s *sidecar) upgraded(more string) *wire {
	s.t.Helper()
	w := s.dial()
	if _, err := io.WriteString(w, strings.ReplaceAll(upgrade, "\n", "\r\n")+more); err != nil {
		s.t.Fatal(err)
	}
	res, err := http.ReadResponse(w.in, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		s.t.Fatalf("no tunnel: %v, %v", res, err)
	}
	return w
}

func TestBytesThatTheClientSendsEarly(t *testing.T) {
	s := start(t, switches(t, func(c net.Conn, in *bufio.Reader) {
		got := make([]byte, 10)
		_, _ = io.ReadFull(in, got)
		_, _ = c.Write(got)
	}))
	w := s.upgraded("early")
	_, _ = io.WriteString(w, " late")
	if got, err := io.ReadAll(w.in); string(got) != "early late" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestAHalfCloseByTheClient(t *testing.T) {
	s := start(t, switches(t, func(c net.Conn, in *bufio.Reader) {
		got, _ := io.ReadAll(in)
		_, _ = c.Write(append(got, " answered"...))
	}))
	w := s.upgraded("asked")
	_ = w.Conn.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(w.in); string(got) != "asked answered" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestAHalfCloseByTheUpstream(t *testing.T) {
	heard := make(chan string, 1)
	s := start(t, switches(t, func(c net.Conn, in *bufio.Reader) {
		_, _ = io.WriteString(c, "over")
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
		got, _ := io.ReadAll(in)
		heard <- string(got)
	}))
	w := s.upgraded("")
	if got, err := io.ReadAll(w.in); string(got) != "over" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_, _ = io.WriteString(w, "and out")
	_ = w.Close()
	if got := <-heard; got != "and out" {
		t.Errorf("the upstream heard %q", got)
	}
}

func TestAClientThatVanishesEndsItsTunnel(t *testing.T) {
	ended := make(chan struct{})
	s := start(t, switches(t, func(_ net.Conn, in *bufio.Reader) {
		_, _ = io.Copy(io.Discard, in)
		close(ended)
	}))
	w := s.upgraded("")
	_ = w.Conn.(*net.TCPConn).SetLinger(0)
	_ = w.Close()
	select {
	case <-ended:
	case <-time.After(time.Second):
		t.Error("the upstream does not know after a second")
	}
}

func TestAHandshakeThatIsRefusedPassesAzuresAnswer(t *testing.T) {
	s := start(t, fails(404, `{"error":{"code":"404","message":"no"}}`))
	w := s.dial()
	w.send(upgrade)
	if res := w.answer("GET"); res.StatusCode != 404 || res.body != `{"error":{"code":"404","message":"no"}}` {
		t.Errorf("status %d: %s", res.StatusCode, res.body)
	}
	assertUsable(t, w)
}

func TestNoOtherProtocolIsSwitchedTo(t *testing.T) {
	tests := map[string]string{
		"h2c":                       "Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\n",
		"h2c beside websocket":      "Connection: Upgrade\nUpgrade: h2c, websocket\n",
		"h2c after websocket":       "Connection: Upgrade\nUpgrade: websocket, h2c\n",
		"TLS":                       "Connection: Upgrade\nUpgrade: TLS/1.0\n",
		"a name that begins alike":  "Connection: Upgrade\nUpgrade: websocket2\n",
		"bytes that are no name":    "Connection: Upgrade\nUpgrade: h2\x01c\n",
		"websocket, not asked for":  "Upgrade: websocket\n",
		"websocket for another hop": "Connection: close\nUpgrade: websocket\n",
	}
	for name, header := range tests {
		t.Run(name, func(t *testing.T) {
			azure := &recorder{}
			s := start(t, azure.ServeHTTP)
			s.raw("GET /x HTTP/1.1\nHost: localhost\n" + header + "\n")
			for _, r := range azure.all() {
				if r.Header.Get("Upgrade") != "" || r.Header.Get("Connection") != "" {
					t.Errorf("the upstream was asked for %q", r.Header.Get("Upgrade"))
				}
			}
		})
	}
}

func TestOfTwoProtocolsOnlyWebSocketPasses(t *testing.T) {
	azure := &recorder{}
	s := start(t, azure.ServeHTTP)
	s.raw("GET /x HTTP/1.1\nHost: localhost\nConnection: upgrade\nUpgrade: WebSocket\nUpgrade: h2c\n\n")
	if got := azure.last(t).Header["Upgrade"]; len(got) != 1 || got[0] != "WebSocket" {
		t.Errorf("the upstream was asked for %q", got)
	}
}

func TestAnUpstreamThatSwitchesUnasked(t *testing.T) {
	for name, request := range map[string]string{
		"to a WebSocket": "GET /x HTTP/1.1\nHost: localhost\n\n",
		"from h2c":       "GET /x HTTP/1.1\nHost: localhost\nConnection: Upgrade\nUpgrade: h2c\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			closed := make(chan struct{})
			s := start(t, switches(t, func(_ net.Conn, in *bufio.Reader) {
				_, _ = io.Copy(io.Discard, in)
				close(closed)
			}))
			assertOwnError(t, s.raw(request), 502, "upstream_unreachable")
			select {
			case <-closed:
			case <-time.After(time.Second):
				t.Error("its connection stays open")
			}
		})
	}
}

// within runs CloseTunnels and reports when it returned.
func (s *sidecar) closeTunnels(timeout time.Duration) <-chan error {
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		done <- s.CloseTunnels(ctx)
	}()
	return done
}

func TestClosingTunnelsSaysGoingAwayToEachClient(t *testing.T) {
	s := start(t, echoWebSocket(t))
	var clients sync.WaitGroup
	for range 20 {
		c := s.connect(nil)
		assertEcho(t, c, "hello")
		clients.Go(func() {
			if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
				t.Errorf("closed with %v", err)
			}
		})
	}
	began := time.Now()
	if err := <-s.closeTunnels(5 * time.Second); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	clients.Wait()
	if n := s.metric("entra_sidecar_tunnels"); n != 0 {
		eventually(t, "no tunnel counted", func() bool { return s.metric("entra_sidecar_tunnels") == 0 })
	}
}

func TestClosingTunnelsWhenThereAreNone(t *testing.T) {
	s := start(t, echoWebSocket(t))
	for range 3 {
		if err := <-s.closeTunnels(time.Second); err != nil {
			t.Error(err)
		}
	}
}

func TestATunnelThatComesWhileClosingIsToldAtOnce(t *testing.T) {
	s := start(t, echoWebSocket(t))
	if err := <-s.closeTunnels(time.Second); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		c := s.connect(nil)
		if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
			t.Errorf("closed with %v", err)
		}
		if err := <-s.closeTunnels(time.Second); err != nil { // waits for this one
			t.Error(err)
		}
	}
}

func TestNoCloseFrameWithinAnotherFrame(t *testing.T) {
	payload := bytes.Repeat([]byte("payload "), 1<<15) // 256 KiB
	message := frame(0x82, payload, 0, false)
	next := make(chan struct{})
	s := start(t, switches(t, func(c net.Conn, in *bufio.Reader) {
		for rest := message; len(rest) > 0; rest = rest[min(len(rest), 16<<10):] {
			_, _ = c.Write(rest[:min(len(rest), 16<<10)])
			<-next
		}
		_, _ = c.Write(frame(0x81, []byte("too late"), 0, false))
		_, _ = io.Copy(io.Discard, in)
	}))
	w := s.upgraded("")
	var got []byte
	for i := range len(message)/(16<<10) + 1 {
		size := min(16<<10, len(message)-len(got))
		piece := make([]byte, size)
		if _, err := io.ReadFull(w.in, piece); err != nil {
			t.Fatal(err)
		}
		got = append(got, piece...)
		if i == 5 {
			s.closeTunnels(5 * time.Second)
			time.Sleep(20 * time.Millisecond)
		}
		next <- struct{}{}
	}
	if !bytes.Equal(got, message) {
		t.Error("the frame was torn apart")
	}
	end := make([]byte, len(goingAway))
	if _, err := io.ReadFull(w.in, end); err != nil || !bytes.Equal(end, goingAway) {
		t.Errorf("then came %q, %v", end, err)
	}
	_ = w.Conn.(*net.TCPConn).CloseWrite()
	if rest, _ := io.ReadAll(w.in); len(rest) > 0 {
		t.Errorf("and after that %q", rest)
	}
}

func TestNoSecondCloseFrameAfterTheUpstreams(t *testing.T) {
	sent := make(chan struct{})
	closeFrame := frame(0x88, []byte{0x03, 0xe8}, 0, false)
	s := start(t, switches(t, func(c net.Conn, in *bufio.Reader) {
		_, _ = c.Write(closeFrame)
		close(sent)
		_, _ = io.Copy(io.Discard, in)
	}))
	w := s.upgraded("")
	got := make([]byte, len(closeFrame))
	_, _ = io.ReadFull(w.in, got)
	<-sent
	done := s.closeTunnels(5 * time.Second)
	time.Sleep(20 * time.Millisecond)
	_ = w.Conn.(*net.TCPConn).CloseWrite()
	if rest, _ := io.ReadAll(w.in); len(rest) > 0 || !bytes.Equal(got, closeFrame) {
		t.Errorf("%q and then %q", got, rest)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestTunnelsThatDoNotEndAreCutWithTheContext(t *testing.T) {
	tests := map[string]func(net.Conn){
		"in the middle of a frame":     func(c net.Conn) { _, _ = c.Write([]byte{0x82, 100, 'x'}) },
		"the client ignores the frame": func(net.Conn) {},
		"the client does not read": func(c net.Conn) {
			go func() { _, _ = c.Write(frame(0x82, make([]byte, 64<<20), 0, false)) }()
			time.Sleep(50 * time.Millisecond)
		},
	}
	for name, talk := range tests {
		t.Run(name, func(t *testing.T) {
			s := start(t, switches(t, func(c net.Conn, in *bufio.Reader) {
				talk(c)
				_, _ = io.Copy(io.Discard, in)
			}))
			s.upgraded("")
			time.Sleep(20 * time.Millisecond)
			if err := <-s.closeTunnels(100 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("CloseTunnels: %v", err)
			}
			eventually(t, "the tunnel to end", func() bool { return s.metric("entra_sidecar_tunnels") == 0 })
		})
	}
}

// Time that passes is simulated here: a client has closeGrace to answer the
// close frame, counted from the moment at which it was sent.
func TestAClientThatIgnoresTheCloseFrameIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, conn := net.Pipe()
		rw := bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(conn))
		set := &tunnels{}
		tunnel := newTunnel(conn, rw)
		set.add(tunnel)
		received := make(chan string)
		go func() {
			got, _ := io.ReadAll(client)
			received <- string(got)
		}()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\n\r\n")
		_ = rw.Flush()
		_, _ = tunnel.Write([]byte{0x82, 2, 'a'}) // and one byte is missing
		began := time.Now()
		go func() { _ = set.close(t.Context()) }()

		time.Sleep(3 * closeGrace)
		if _, err := tunnel.Write([]byte{'b'}); err != nil {
			t.Errorf("it was cut within a frame: %v", err)
		}
		got := <-received
		if took := time.Since(began); took != 4*closeGrace {
			t.Errorf("it was cut after %v", took)
		}
		if !strings.HasSuffix(got, "\r\n\r\n\x82\x02ab"+string(goingAway)) {
			t.Errorf("the client got %q", got)
		}
		_ = tunnel.Close()
	})
}

// ReverseProxy writes the head of the answer through a buffer, which may cut it
// anywhere.
func TestTheEndOfTheHeadIsFoundHoweverItIsCut(t *testing.T) {
	const head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n"
	for cut := range len(head) {
		client, conn := net.Pipe()
		rw := bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(conn))
		set := &tunnels{}
		tunnel := newTunnel(conn, rw)
		set.add(tunnel)
		got := make([]byte, len(head)+len(goingAway))
		var reading sync.WaitGroup
		reading.Go(func() {
			_ = client.SetDeadline(time.Now().Add(2 * time.Second))
			_, _ = io.ReadFull(client, got)
		})
		set.askToLeave()
		_, _ = rw.WriteString(head[:cut])
		_ = rw.Flush()
		_, _ = rw.WriteString(head[cut:])
		_ = rw.Flush()
		reading.Wait()
		if string(got) != head+string(goingAway) {
			t.Errorf("cut at %d: the client got %q", cut, got)
		}
		_ = tunnel.Close()
		_ = client.Close()
	}
}

func TestATokenIsPartOfTheHandshake(t *testing.T) {
	azure := &recorder{}
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		azure.record(r)
		echoWebSocket(t)(w, r)
	})
	header := http.Header{"Api-Key": {"canary"}, "Authorization": {"Bearer canary"}, "Cookie": {"canary"}}
	assertEcho(t, s.connect(&websocket.DialOptions{HTTPHeader: header}), "hello")
	r := azure.last(t)
	assertNoCanary(t, r)
	if key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-Websocket-Key")); err != nil || len(key) != 16 {
		t.Errorf("Sec-WebSocket-Key %q", r.Header.Get("Sec-Websocket-Key"))
	}
}
