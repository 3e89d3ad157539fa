package azure

import (
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// gate is a listener that can go down and come back on the same port, and whose
// connections can be made to die in the ways that Azure's do.
type gate struct {
	address string
	// idle says when to close, and when to drop, an idle connection; nil or zero: never.
	idle func() (closeAfter, dropAfter time.Duration)

	mu       sync.Mutex
	changed  *sync.Cond   // of inner and closed
	inner    net.Listener // nil while down
	closed   bool
	accepted map[*conn]struct{}
}

func newGate(address string) (*gate, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	g := &gate{address: l.Addr().String(), inner: l, accepted: map[*conn]struct{}{}}
	g.changed = sync.NewCond(&g.mu)
	return g, nil
}

// Accept waits while the gate is down, so that http.Server never notices.
func (g *gate) Accept() (net.Conn, error) {
	for {
		l := g.listener()
		if l == nil {
			return nil, net.ErrClosed
		}
		inner, err := l.Accept()
		if err == nil {
			return g.admit(inner), nil
		}
		if !errors.Is(err, net.ErrClosed) {
			return nil, err
		}
	}
}

// listener is the open listener, for which it waits; nil once the gate is closed.
func (g *gate) listener() net.Listener {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.inner == nil && !g.closed {
		g.changed.Wait()
	}
	if g.closed {
		return nil
	}
	return g.inner
}

func (g *gate) admit(inner net.Conn) net.Conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := &conn{Conn: inner, gate: g, end: make(chan struct{})}
	if g.inner == nil || g.closed {
		_ = c.Conn.Close() // went down while this one was in the queue
		return c
	}
	g.accepted[c] = struct{}{}
	return c
}

// setDown closes the listener and cuts every connection, or listens again.
func (g *gate) setDown(down bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed || down == (g.inner == nil):
		return nil
	case down:
		g.shut()
		return nil
	}
	l, err := net.Listen("tcp", g.address)
	if err != nil {
		return err
	}
	g.inner = l
	g.changed.Broadcast()
	return nil
}

// shut is called with the lock held.
func (g *gate) shut() {
	if g.inner != nil {
		_ = g.inner.Close()
		g.inner = nil
	}
	for c := range g.accepted {
		_ = c.Conn.Close()
	}
}

// Close closes the gate for good.
func (g *gate) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.shut()
	g.changed.Broadcast()
	return nil
}

// Addr is the address of the gate, up or down.
func (g *gate) Addr() net.Addr { return gateAddr(g.address) }

type gateAddr string

func (a gateAddr) Network() string { return "tcp" }
func (a gateAddr) String() string  { return string(a) }

// conn is an accepted connection.
type conn struct {
	net.Conn
	gate    *gate
	dropped atomic.Bool   // answers nothing any more
	end     chan struct{} // closed by Close
	once    sync.Once

	// Only http.Server's state hook touches the timers, and never twice at once.
	closeTimer, dropTimer *time.Timer
}

// Read hangs, rather than fails, once the connection was dropped: the client
// is to see no sign of it.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.dropped.Load() {
		<-c.end
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *conn) Close() error {
	c.once.Do(func() {
		close(c.end)
		c.gate.mu.Lock()
		delete(c.gate.accepted, c)
		c.gate.mu.Unlock()
	})
	return c.Conn.Close()
}

// connState starts and stops the timers of idle connections. It is the
// ConnState hook of every server.
func connState(nc net.Conn, state http.ConnState) {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = t.NetConn() // below TLS
	}
	c, ok := nc.(*conn)
	if !ok || c.gate.idle == nil {
		return
	}
	for _, timer := range []*time.Timer{c.closeTimer, c.dropTimer} {
		if timer != nil {
			timer.Stop()
		}
	}
	if state != http.StateIdle {
		return
	}
	closeAfter, dropAfter := c.gate.idle()
	if closeAfter > 0 {
		c.closeTimer = time.AfterFunc(closeAfter, func() { _ = c.Conn.Close() })
	}
	if dropAfter > 0 {
		c.dropTimer = time.AfterFunc(dropAfter, func() { c.dropped.Store(true) })
	}
}
