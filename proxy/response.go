package proxy

import (
	"bufio"
	"net"
	"net/http"
	"sync"
	"time"
)

// A response notes what the client is sent. Its Unwrap keeps the way free for
// [http.ResponseController].
type response struct {
	http.ResponseWriter
	tunnels *tunnels

	code     int
	written  int64
	first    time.Time // when the first byte of the body, or a tunnel's head, went out
	writeErr error
}

func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (w *response) WriteHeader(code int) {
	if code == http.StatusContinue {
		return // net/http sends its own when the body is first read, and a client needs one
	}
	if code >= 200 {
		w.code = code
	}
	if h := w.Header(); h["Content-Type"] == nil {
		h["Content-Type"] = nil // or net/http would guess one
	}
	w.ResponseWriter.WriteHeader(code)
}

// Write implements [io.Writer].
func (w *response) Write(p []byte) (int, error) {
	if w.first.IsZero() {
		w.first = time.Now()
	}
	n, err := w.ResponseWriter.Write(p)
	w.written += int64(n)
	if err != nil {
		w.writeErr = err
	}
	return n, err
}

// Hijack implements [http.Hijacker]: it is called when Azure has agreed to a
// WebSocket.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.code, w.first = http.StatusSwitchingProtocols, time.Now()
	t := newTunnel(conn, rw)
	w.tunnels.add(t)
	return t, rw, nil
}

// status is what went out, 200 where nothing did, as net/http has it.
func (w *response) status() int {
	if w.code == 0 {
		return http.StatusOK
	}
	return w.code
}

// copyBufferSize fits one TLS record, which is what a read from Azure gives.
const copyBufferSize = 16 << 10

type bufferPool struct{ sync.Pool }

func newBufferPool() *bufferPool {
	return &bufferPool{sync.Pool{New: func() any { return new([copyBufferSize]byte) }}}
}

// Get implements [net/http/httputil.BufferPool].
func (p *bufferPool) Get() []byte { return p.Pool.Get().(*[copyBufferSize]byte)[:] }

// Put implements [net/http/httputil.BufferPool].
func (p *bufferPool) Put(b []byte) { p.Pool.Put((*[copyBufferSize]byte)(b)) }
