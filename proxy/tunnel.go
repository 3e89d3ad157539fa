package proxy

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// closeGrace is how long a client may take to answer a close frame before its
// connection is cut (RFC 6455, section 7.1.1, asks for "a reasonable time").
const closeGrace = 5 * time.Second

// goingAway is an unmasked close frame with code 1001 (RFC 6455, section 7.4.1):
// the client may connect again, elsewhere.
var goingAway = []byte{0x88, 2, 1001 >> 8, 1001 & 0xff}

func isWebSocket(h http.Header) bool {
	return strings.EqualFold(h.Get("Upgrade"), "websocket")
}

// tunnels are the WebSockets that are open. The zero value has none.
type tunnels struct {
	mu      sync.Mutex
	open    map[*tunnel]struct{}
	closing bool
	empty   chan struct{} // closed when the last one ends; nil unless waited for
}

func (s *tunnels) add(t *tunnel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[*tunnel]struct{})
	}
	s.open[t] = struct{}{}
	t.ended = func() { s.remove(t) }
	if s.closing {
		go t.goAway()
	}
}

func (s *tunnels) remove(t *tunnel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.open[t]; !ok {
		return
	}
	delete(s.open, t)
	if len(s.open) == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// close asks every client to go away and waits until they have.
func (s *tunnels) close(ctx context.Context) error {
	for {
		left := s.askToLeave()
		if left == nil {
			return nil
		}
		select {
		case <-left: // look again: a late one may have come
		case <-ctx.Done():
			s.cut()
			return ctx.Err()
		}
	}
}

// askToLeave returns what is closed when the last one has left, or nil if there
// is none.
func (s *tunnels) askToLeave() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.closing = true
		for t := range s.open {
			go t.goAway() // not here: a client that does not read would hold up the others
		}
	}
	if len(s.open) > 0 && s.empty == nil {
		s.empty = make(chan struct{})
	}
	return s.empty
}

func (s *tunnels) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t := range s.open {
		_ = t.Conn.Close()
	}
}

// A tunnel is the client's side of a WebSocket. Bytes pass in both directions
// as they are. It follows the frames towards the client, only to know where a
// close frame can be put without tearing another one apart.
type tunnel struct {
	net.Conn
	in    io.Reader
	ended func()

	mu       sync.Mutex // guards what follows, and writes to Conn
	frames   frames
	upgraded bool // the head of the 101 is out
	leaving  bool // a close frame is due
	left     bool // it was sent: nothing may follow
}

// newTunnel takes over a hijacked connection. What the client sent early waits
// in rw's reader; the head of the answer will come through rw's writer.
func newTunnel(conn net.Conn, rw *bufio.ReadWriter) *tunnel {
	t := &tunnel{Conn: conn, in: conn}
	if n := rw.Reader.Buffered(); n > 0 {
		early, _ := rw.Reader.Peek(n)
		t.in = io.MultiReader(bytes.NewReader(bytes.Clone(early)), conn)
	}
	rw.Writer.Reset(&headWriter{tunnel: t})
	return t
}

type headWriter struct {
	tunnel *tunnel
	tail   []byte // the last bytes written, 4 at most
}

// Write sends the answer's head, which ReverseProxy flushes in one piece or
// several; frames follow only after the last.
func (w *headWriter) Write(p []byte) (int, error) {
	t := w.tunnel
	t.mu.Lock()
	defer t.mu.Unlock()
	n, err := t.Conn.Write(p)
	w.tail = append(w.tail, p...)
	w.tail = w.tail[max(0, len(w.tail)-4):]
	t.upgraded = string(w.tail) == "\r\n\r\n"
	t.leave()
	return n, err
}

// Read implements [io.Reader].
func (t *tunnel) Read(p []byte) (int, error) { return t.in.Read(p) }

// Write passes frames to the client, up to the close frame.
func (t *tunnel) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left {
		return len(p), nil // as if sent: the client waits for nothing any more
	}
	n := t.frames.scan(p, t.leaving)
	if _, err := t.Conn.Write(p[:n]); err != nil {
		return 0, err
	}
	t.leave()
	return len(p), nil
}

// CloseWrite ends this direction, if the connection can (TCP and TLS can). After
// a close frame nothing of use can come from the client: one that does not hang
// up is cut, or its tunnel would stay for ever.
func (t *tunnel) CloseWrite() error {
	t.mu.Lock()
	closed := t.frames.closed
	t.mu.Unlock()
	if closed {
		time.AfterFunc(closeGrace, func() { _ = t.Conn.Close() })
	}
	if c, ok := t.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// Close implements [io.Closer].
func (t *tunnel) Close() error {
	t.ended()
	return t.Conn.Close()
}

// goAway sends the close frame as soon as a frame's end allows it.
func (t *tunnel) goAway() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leaving = true
	t.leave()
}

// leave sends the close frame if it is due and possible, unless Azure has sent
// one. The client's own close frame goes through to Azure and ends that side. A
// client that takes no notice is cut. t.mu is held.
func (t *tunnel) leave() {
	if !t.leaving || t.left || !t.upgraded || !t.frames.atBoundary() {
		return
	}
	t.left = true
	if !t.frames.closed {
		_, _ = t.Conn.Write(goingAway) // a client that is gone needs none
	}
	time.AfterFunc(closeGrace, func() { _ = t.Conn.Close() })
}

// frames follows WebSocket frames (RFC 6455, section 5.2) through chunks that
// are cut anywhere.
type frames struct {
	header    [14]byte
	filled    int   // bytes of the header seen
	remaining int64 // bytes of the payload to come; valid when the header is complete
	closed    bool  // a close frame has begun
}

func (f *frames) atBoundary() bool { return f.filled == 0 && f.remaining == 0 }

// scan reads p and returns its length, or, with stop, how much of it belongs to
// the frame under way.
func (f *frames) scan(p []byte, stop bool) int {
	for i := 0; i < len(p); {
		if stop && f.atBoundary() {
			return i
		}
		if f.remaining > 0 {
			n := min(f.remaining, int64(len(p)-i))
			f.remaining -= n
			i += int(n)
			continue
		}
		f.header[f.filled] = p[i]
		f.filled++
		i++
		if f.filled == f.headerSize() {
			f.remaining, f.filled = f.payloadSize(), 0
			f.closed = f.closed || f.header[0]&0x0f == 8
		}
	}
	return len(p)
}

// headerSize is what the bytes seen so far say about the header's size.
func (f *frames) headerSize() int {
	if f.filled < 2 {
		return 2
	}
	size := 2
	switch f.header[1] & 0x7f {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if f.header[1]&0x80 != 0 {
		size += 4 // the mask
	}
	return size
}

func (f *frames) payloadSize() int64 {
	length := int64(f.header[1] & 0x7f)
	bytes := 0
	switch length {
	case 126:
		bytes = 2
	case 127:
		bytes = 8
	default:
		return length
	}
	length = 0
	for _, b := range f.header[2 : 2+bytes] {
		length = length<<8 | int64(b)
	}
	return max(length, 0) // the highest bit must be 0
}
