package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"entra-sidecar/config"
	"entra-sidecar/proxy"
	"entra-sidecar/proxy/admin"
	"entra-sidecar/tokencache"
)

// A server is the running sidecar: its token caches, its listeners and the
// proxy between them.
type server struct {
	config   *config.Config
	logger   *zap.Logger
	registry *prometheus.Registry
	tokens   *tokens
	proxy    *proxy.Handler
	started  time.Time
	draining atomic.Bool
}

// serve runs the proxy until ctx ends, and then drains.
func serve(ctx context.Context, c *config.Config, logger *zap.Logger, lookup func(string) (string, bool)) error {
	tracer, flush, err := newTracer(ctx, lookup, logger)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	defer flushSpans(flush, logger)
	s, err := newServer(c, logger, tracer)
	if err != nil {
		return err
	}
	listeners, err := s.listen()
	if err != nil {
		return err
	}
	return s.run(ctx, listeners)
}

// newServer wires everything and starts nothing.
func newServer(c *config.Config, logger *zap.Logger, tracer trace.Tracer) (*server, error) {
	s := &server{config: c, logger: logger, registry: prometheus.NewRegistry(), started: time.Now()}
	var err error
	if s.tokens, err = newTokens(c, logger); err != nil {
		return nil, &exitError{exitUsage, err}
	}
	s.proxy, err = proxy.New(proxy.Options{
		Routes: s.routes(),
		Upstream: proxy.NewTransport(proxy.TransportOptions{
			DialTimeout:           c.DialTimeout,
			TLSTimeout:            c.TLSTimeout,
			ResponseHeaderTimeout: c.ResponseHeaderTimeout,
			IdleTimeout:           c.IdleTimeout,
			MaxConnectionAge:      c.MaxConnectionAge,
		}),
		AnnotateErrors: c.AnnotateErrors,
		ReplayLimit:    int64(c.ReplayLimit),
		ReplayBudget:   int64(c.ReplayBudget),
		Logger:         logger,
		Registerer:     s.registry,
		Tracer:         tracer,
	})
	if err != nil {
		return nil, err
	}
	s.registry.MustRegister(
		tokencache.NewCollector(s.tokens.caches),
		newBuildInfo(),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return s, nil
}

func (s *server) routes() []proxy.Route {
	var routes []proxy.Route
	for _, r := range s.config.Routes {
		header := make(http.Header)
		for name, value := range r.Headers {
			header.Set(name, value.Reveal())
		}
		routes = append(routes, proxy.Route{
			Prefix:   r.Prefix,
			Upstream: r.Upstream,
			Path:     r.Path,
			Header:   header,
			Tokens:   s.tokens.of(r),
		})
	}
	return routes
}

// notReady says why /readyz is not 200, one reason a route.
func (s *server) notReady() []string {
	if s.draining.Load() {
		return []string{"draining"}
	}
	var reasons []string
	for _, r := range s.config.Routes {
		if status := s.tokens.of(r).Status(); !status.Usable() {
			reasons = append(reasons, fmt.Sprintf("route %s: no usable token for identity %s", r.Prefix, status.Identity))
		}
	}
	return reasons
}

// listeners are open before anything else starts: a port in use is the most
// likely failure, and it must not leave half a sidecar behind.
type listeners struct {
	proxy []boundListener
	admin net.Listener
}

// A boundListener knows whether only this machine can reach it.
type boundListener struct {
	net.Listener
	loopback bool
}

func (s *server) listen() (l listeners, err error) {
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	plain, err := listen("listen", s.config.Listen)
	if err != nil {
		return l, err
	}
	l.proxy = append(l.proxy, bound(plain))
	if s.config.TLS.Listen != "" {
		secured, err := s.listenTLS()
		if err != nil {
			return l, err
		}
		l.proxy = append(l.proxy, secured)
	}
	l.admin, err = listen("admin.listen", s.config.Admin.Listen)
	return l, err
}

func (s *server) listenTLS() (boundListener, error) {
	certificate, err := newCertificateSource(s.config.TLS, s.logger)
	if err != nil {
		return boundListener{}, &exitError{exitUsage, err}
	}
	l, err := listen("tls.listen", s.config.TLS.Listen)
	if err != nil {
		return boundListener{}, err
	}
	b := bound(l)
	b.Listener = tls.NewListener(l, &tls.Config{
		GetCertificate: certificate.get,
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
	})
	return b, nil
}

func listen(setting, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s: %s is in use by another process: end that one, or choose another port", setting, address)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	return l, nil
}

func bound(l net.Listener) boundListener {
	tcp, ok := l.Addr().(*net.TCPAddr)
	return boundListener{Listener: l, loopback: ok && tcp.IP.IsLoopback()}
}

func (l listeners) close() {
	for _, p := range l.proxy {
		_ = p.Close()
	}
	if l.admin != nil {
		_ = l.admin.Close()
	}
}

// run serves until ctx ends or a listener fails. The token caches and the admin
// listener outlive the proxy: streams that are still running may need a token,
// and Kubernetes and Prometheus watch the drain.
func (s *server) run(ctx context.Context, l listeners) error {
	background, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	s.tokens.start(background, &running)

	failed := make(chan error, len(l.proxy)+1)
	serve := func(server *http.Server, l net.Listener) {
		running.Go(func() {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	page := admin.New(admin.Options{NotReady: s.notReady, Gatherer: s.registry, Status: s.status})
	running.Go(func() { _ = page.Run(background) })
	adminServer := s.newHTTPServer(background, page)
	serve(adminServer, l.admin)
	defer adminServer.Close()

	var proxies []*http.Server
	for _, p := range l.proxy {
		server := s.newHTTPServer(background, s.guard(p.loopback))
		proxies = append(proxies, server)
		serve(server, p)
	}
	s.announce(l)

	select {
	case <-ctx.Done():
		s.drain(proxies)
		return nil
	case err := <-failed:
		for _, p := range proxies {
			_ = p.Close()
		}
		return err
	}
}

func (s *server) guard(loopback bool) http.Handler {
	g := &proxy.Guard{Handler: s.proxy, Loopback: loopback}
	for _, key := range s.config.Inbound.Keys {
		g.Keys = append(g.Keys, key.Reveal())
	}
	return g
}

// newHTTPServer sets no WriteTimeout, which would cut streams. Idle connections
// live longer than the 120 s for which LiteLLM keeps its own, so that it is
// never LiteLLM that finds one closed.
func (s *server) newHTTPServer(base context.Context, h http.Handler) *http.Server {
	server := &http.Server{
		Handler:                      h,
		ReadHeaderTimeout:            30 * time.Second,
		IdleTimeout:                  3 * time.Minute,
		BaseContext:                  func(net.Listener) context.Context { return base },
		ErrorLog:                     quietLog(s.logger),
		Protocols:                    new(http.Protocols),
		DisableGeneralOptionsHandler: true,
	}
	server.Protocols.SetHTTP1(true) // a WebSocket needs it, and no client of ours asks for more
	return server
}

func (s *server) announce(l listeners) {
	for i, p := range l.proxy {
		message := "listening"
		if i > 0 {
			message = "listening with TLS"
		}
		s.logger.Info(message, zap.Stringer("address", p.Addr()))
	}
	s.logger.Info("admin listening", zap.Stringer("address", l.admin.Addr()))
	for _, warning := range s.config.Warnings {
		s.logger.Warn(warning)
	}
}

// drain lets running requests finish, at most for drain_timeout, and asks
// WebSockets to go away.
func (s *server) drain(servers []*http.Server) {
	s.draining.Store(true)
	s.logger.Info("draining", zap.Duration("at_most", s.config.DrainTimeout))
	ctx, cancel := context.WithTimeout(context.Background(), s.config.DrainTimeout)
	defer cancel()

	var drained sync.WaitGroup
	for _, server := range servers {
		drained.Go(func() {
			if server.Shutdown(ctx) != nil {
				s.logger.Warn("requests were still running at the end of the drain and are cut")
				_ = server.Close()
			}
		})
	}
	drained.Go(func() { _ = s.proxy.CloseTunnels(ctx) })
	drained.Wait()
	// Once more, for a WebSocket whose handshake was still under way.
	if s.proxy.CloseTunnels(ctx) != nil {
		s.logger.Warn("websockets were still open at the end of the drain and are cut")
	}
	s.logger.Info("drained")
}
