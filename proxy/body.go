package proxy

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// A budget bounds the bytes that all bodies hold at one time.
type budget struct {
	max  int64
	used atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.used.Add(n) <= b.max {
		return true
	}
	b.used.Add(-n)
	return false
}

// A body lets a request's body be sent again while it is still arriving: what
// one reader has taken from the client is held for the next. It stops holding
// when the body outgrows its limit or the budget, and when the answer begins.
//
// Readers may overlap, since http.Transport can go on reading a body whose
// answer has come already.
type body struct {
	src      io.ReadCloser
	inbound  *http.Request
	trailers []string // names of the trailers that go on to the upstream
	limit    int64
	budget   *budget

	reading sync.Mutex // held while reading src, which may take for ever

	mu      sync.Mutex // guards what follows; never held while reading
	held    []byte
	taken   int64       // bytes of the budget
	offset  int64       // bytes read from src
	err     error       // src's last word
	trailer http.Header // as the client sent it; known when err is io.EOF
	latest  *bodyReader // the one whose request is under way
	holding bool
	closed  bool
}

func newBody(r *http.Request, limit int64, budget *budget) *body {
	b := &body{src: r.Body, inbound: r, limit: limit, budget: budget}
	b.trailers = declaredTrailers(r.Trailer)
	b.holding = r.ContentLength <= limit
	if b.holding && r.ContentLength > 0 {
		b.holding = b.reserve(r.ContentLength)
	}
	return b
}

// declaredTrailers are those that the client announced. One that would carry a
// credential is left out, and so is what it did not announce.
func declaredTrailers(announced http.Header) []string {
	var names []string
	for name := range announced {
		if !isCredential(name) {
			names = append(names, name)
		}
	}
	return names
}

var errBodyClosed = errors.New("proxy: the request is over and its body closed")

// newTrailer makes room for the trailers of one attempt. Attempts cannot share
// it: the one before may still be filling it.
func (b *body) newTrailer() http.Header {
	if len(b.trailers) == 0 {
		return nil
	}
	trailer := make(http.Header, len(b.trailers))
	for _, name := range b.trailers {
		trailer[name] = nil
	}
	return trailer
}

// open returns a reader of the whole body, from its first byte, that fills
// trailer at the end.
func (b *body) open(trailer http.Header) io.ReadCloser {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.newReader(trailer)
}

func (b *body) newReader(trailer http.Header) io.ReadCloser {
	b.latest = &bodyReader{body: b, trailer: trailer}
	return b.latest
}

// reopen returns a further reader from the first byte, if all is still held.
func (b *body) reopen(trailer http.Header) (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.holding || b.closed {
		return nil, errors.New("proxy: the request's body is not held and cannot be sent again")
	}
	return b.newReader(trailer), nil
}

// forget stops holding: the answer has begun, and no replay can follow. What
// the replay under way has yet to read stays until it has.
func (b *body) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.holding = false
	b.dropRead()
}

// dropRead drops what is held, unless it is still to be held or to be read.
func (b *body) dropRead() {
	lagging := b.latest != nil && !b.latest.closed && b.latest.offset < int64(len(b.held))
	if !b.holding && !lagging {
		b.drop()
	}
}

// release ends all reading. The client's body must not be touched once the
// handler has returned.
func (b *body) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop()
	b.closed = true
}

// ended reports that the client has nothing more to send.
func (b *body) ended() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err != nil || b.inbound.ContentLength == 0
}

// clientGone reports that the client broke its body off.
func (b *body) clientGone() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err != nil && b.err != io.EOF
}

func (b *body) drop() {
	b.holding, b.held = false, nil
	b.budget.used.Add(-b.taken)
	b.taken = 0
}

// reserve takes n bytes off the budget, or reports that there is no room.
func (b *body) reserve(n int64) bool {
	if !b.budget.take(n) {
		return false
	}
	b.taken += n
	return true
}

// hold keeps p, which has just come from the client.
func (b *body) hold(p []byte) {
	b.offset += int64(len(p))
	if !b.holding {
		return
	}
	missing := b.offset - b.taken
	if b.offset > b.limit || missing > 0 && !b.reserve(max(missing, min(b.taken, b.limit-b.taken))) {
		b.drop()
		return
	}
	if b.held == nil {
		b.held = make([]byte, 0, b.taken)
	}
	b.held = append(b.held, p...)
}

// A bodyReader reads a body from its beginning.
type bodyReader struct {
	body    *body
	trailer http.Header
	offset  int64
	closed  bool // guarded by body.mu
}

// Close stops this reader alone: http.Transport closes the body of a request
// that it could not send, while the client's must stay open.
func (r *bodyReader) Close() error {
	r.body.mu.Lock()
	defer r.body.mu.Unlock()
	r.closed = true
	r.body.dropRead()
	return nil
}

// Read gives what is held first, then what the client sends.
func (r *bodyReader) Read(p []byte) (int, error) {
	if n, done, err := r.readHeld(p); done {
		return n, err
	}
	b := r.body
	b.reading.Lock()
	defer b.reading.Unlock()
	if n, done, err := r.readHeld(p); done { // another reader got here first
		return n, err
	}
	n, err := b.src.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hold(p[:n])
	if err != nil {
		b.end(err)
	}
	if r.closed || b.closed { // meanwhile; what came is held for the next reader
		return 0, errBodyClosed
	}
	r.offset = b.offset
	if err == io.EOF {
		r.end()
	}
	return n, err
}

// readHeld reports done unless the client has to be asked for more.
func (r *bodyReader) readHeld(p []byte) (n int, done bool, err error) {
	b := r.body
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case r.closed || b.closed:
		return 0, true, errBodyClosed
	case r.offset < int64(len(b.held)):
		n = copy(p, b.held[r.offset:])
		r.offset += int64(n)
		b.dropRead()
		return n, true, nil
	case r.offset < b.offset: // what this reader lacks is no longer held
		return 0, true, errBodyClosed
	case b.err == io.EOF:
		r.end()
		return 0, true, io.EOF
	case b.err != nil:
		return 0, true, b.err
	}
	return 0, false, nil
}

// end gives the reader's request its trailers.
func (r *bodyReader) end() {
	for name := range r.trailer {
		r.trailer[name] = r.body.trailer[name]
	}
}

// end notes src's last word. The trailers are known from here on.
func (b *body) end(err error) {
	b.err, b.trailer = err, b.inbound.Trailer.Clone()
}
