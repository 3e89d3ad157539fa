package proxy

import (
	"cmp"
	"crypto/tls"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"entra-sidecar/proxy/diagnose"
)

// TransportOptions are the time limits of a [Transport]. Zero means the default.
type TransportOptions struct {
	DialTimeout           time.Duration // 10 s
	TLSTimeout            time.Duration // 10 s
	ResponseHeaderTimeout time.Duration // 10 min: a model may think for long before its first byte
	// IdleTimeout closes connections that nobody uses. 60 s: Azure's load
	// balancer forgets one after about 4 minutes without telling.
	IdleTimeout time.Duration
	// MaxConnectionAge, 10 min, is how long a connection takes new requests. A
	// busy one would otherwise never look its name up again (golang/go#23427)
	// and miss a private endpoint that has moved.
	MaxConnectionAge time.Duration
	// TLS is cloned. Default: the system's roots.
	TLS *tls.Config
}

// A Transport reaches Azure over connections of bounded age. It follows no
// redirect, decompresses nothing, keeps no cookies, and honours HTTPS_PROXY and
// NO_PROXY.
type Transport struct {
	options    TransportOptions
	generation atomic.Pointer[generation]
}

// A generation is a pool of connections that were all opened within one
// MaxConnectionAge.
type generation struct {
	*http.Transport
	born time.Time
}

// NewTransport returns a Transport. It opens nothing.
func NewTransport(o TransportOptions) *Transport {
	o.DialTimeout = cmp.Or(o.DialTimeout, 10*time.Second)
	o.TLSTimeout = cmp.Or(o.TLSTimeout, 10*time.Second)
	o.ResponseHeaderTimeout = cmp.Or(o.ResponseHeaderTimeout, 10*time.Minute)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 60*time.Second)
	o.MaxConnectionAge = cmp.Or(o.MaxConnectionAge, 10*time.Minute)
	if o.TLS == nil {
		o.TLS = &tls.Config{}
	}
	o.TLS = o.TLS.Clone()
	o.TLS.MinVersion = max(o.TLS.MinVersion, tls.VersionTLS12)
	// Shared by all generations: a new one costs a resumption, not a handshake.
	o.TLS.ClientSessionCache = tls.NewLRUClientSessionCache(0)

	t := &Transport{options: o}
	t.generation.Store(t.newGeneration())
	return t
}

// RoundTrip implements [http.RoundTripper].
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	g := t.generation.Load()
	if time.Since(g.born) >= t.options.MaxConnectionAge {
		g = t.renew(g)
	}
	return g.RoundTrip(r)
}

// renew replaces old by a new generation. Requests under way in old end there;
// their connections close behind them.
func (t *Transport) renew(old *generation) *generation {
	if t.generation.CompareAndSwap(old, t.newGeneration()) {
		old.CloseIdleConnections()
	}
	return t.generation.Load()
}

// CloseIdleConnections closes the connections that no request uses.
func (t *Transport) CloseIdleConnections() { t.generation.Load().CloseIdleConnections() }

func (t *Transport) newGeneration() *generation {
	dialer := &net.Dialer{Timeout: t.options.DialTimeout, KeepAlive: 30 * time.Second}
	transport := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		OnProxyConnectResponse: diagnose.OnProxyConnect,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        t.options.TLS,
		TLSHandshakeTimeout:    t.options.TLSTimeout,
		ResponseHeaderTimeout:  t.options.ResponseHeaderTimeout,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        t.options.IdleTimeout,
		// The default of 2 makes a TLS handshake of nearly every request of a burst.
		MaxIdleConnsPerHost: 1024,
		DisableCompression:  true,
		Protocols:           new(http.Protocols),
	}
	// A WebSocket needs HTTP/1.1, and its streams are the smoother ones: with
	// HTTP/2, one slow reader shares a connection with all others.
	transport.Protocols.SetHTTP1(true)
	return &generation{Transport: transport, born: time.Now()}
}
