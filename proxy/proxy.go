// Package proxy forwards a client's requests to Azure OpenAI with an Entra ID
// token in place of whatever credential the client sent.
//
// A request passes, in this order, through [Guard] (may this client ask at
// all?), the route table (which upstream?), stripping (no client credential
// leaves), the token source (which identity?), and the upstream transport. A
// 401 that means "this token is no good" is answered by one replay with a fresh
// token; everything else that Azure says reaches the client as it is.
//
// The package owns no goroutines but those of its connections. Its caller owns
// the listeners, the token caches and the end: see [Handler.CloseTunnels].
package proxy

import (
	"context"
	"log"
	"net/http"
	"net/http/httputil"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"entra-sidecar/tokencache"
)

// A TokenSource hands out the tokens of one (identity, scope).
type TokenSource interface {
	// Token returns a token that has not expired. It returns at once when it
	// has one, and waits a bounded time for the first.
	Token(ctx context.Context) (*tokencache.Token, error)
	// Refused reports that Azure refused t, with the claims challenge if there
	// was one, and returns the token that takes its place. An error means that
	// there is no other token, and that the refusal stands.
	Refused(ctx context.Context, t *tokencache.Token, claims string) (*tokencache.Token, error)
}

// Options configure a [Handler]. Routes are required; the zero value of
// everything else is usable.
type Options struct {
	Routes []Route
	// Upstream reaches Azure. Default: [NewTransport] with its defaults.
	Upstream http.RoundTripper
	// AnnotateErrors appends one sentence to the message of an authentication
	// or set-up failure that was recognised.
	AnnotateErrors bool
	// ReplayLimit is the largest request body, in bytes, that is held for a replay.
	ReplayLimit int64
	// ReplayBudget bounds, in bytes, all bodies held at one time, so that a
	// burst of requests cannot exhaust a small memory limit.
	ReplayBudget int64
	// Logger receives the access log and failures. Default: none.
	Logger *zap.Logger
	// Registerer receives the metrics. Default: none.
	Registerer prometheus.Registerer
	// Tracer makes a span of each request. Default: none, at no cost.
	Tracer trace.Tracer
}

// Handler is the proxy.
type Handler struct {
	routes   routeTable
	reverse  *httputil.ReverseProxy
	tunnels  tunnels
	metrics  *metrics
	logger   *zap.Logger
	causes   *causeLog
	tracer   trace.Tracer
	annotate bool
	limit    int64
	budget   *budget
}

// New returns a proxy for the routes of o. It starts nothing.
func New(o Options) (*Handler, error) {
	routes, err := newRouteTable(o.Routes)
	if err != nil {
		return nil, err
	}
	if o.Upstream == nil {
		o.Upstream = NewTransport(TransportOptions{})
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	h := &Handler{
		routes:   routes,
		metrics:  newMetrics(o.Registerer, o.Routes),
		logger:   o.Logger,
		causes:   newCauseLog(o.Logger),
		tracer:   o.Tracer,
		annotate: o.AnnotateErrors,
		limit:    o.ReplayLimit,
		budget:   &budget{max: o.ReplayBudget},
	}
	h.reverse = &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      &injector{next: o.Upstream, metrics: h.metrics},
		ModifyResponse: h.modifyResponse,
		ErrorHandler:   h.fail,
		ErrorLog:       debugLog(o.Logger),
		BufferPool:     newBufferPool(),
	}
	return h, nil
}

// begin makes the exchange of a request. Its end is finish.
func (h *Handler) begin(w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{inbound: r, started: time.Now(), response: response{ResponseWriter: w, tunnels: &h.tunnels}}
	if h.tracer != nil {
		h.startSpan(x)
	}
	return x
}

// refuse answers a request that does not get as far as a route.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, e apiError) {
	x := h.begin(w, r)
	defer h.finish(x)
	x.answer(e)
	x.complete = true
}

// ServeHTTP forwards one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw := rawPath(r)
	route := h.routes.match(raw)
	if e, refused := refusedTarget(r, route, raw); refused {
		h.refuse(w, r, e)
		return
	}
	x := h.begin(w, r)
	defer h.finish(x)
	x.route = route
	x.target = x.route.target(raw)
	h.metrics.begin(x.route)
	defer h.metrics.end(x.route)

	// Only a WebSocket may change the protocol: an upgrade to h2c would make a
	// tunnel whose requests nobody strips (golang/go#80416). RFC 9110, section
	// 7.8, lets a server ignore any Upgrade.
	if !isWebSocket(r.Header) {
		r.Header.Del("Upgrade")
	}
	// Without full duplex, net/http stops reading the request's body when the
	// answer begins, which cuts the answer when the head and the body of the
	// request arrive apart (golang/go#40747). HTTP/2 has no need of it.
	_ = http.NewResponseController(w).EnableFullDuplex()

	x.body = newBody(r, h.limit, h.budget)
	defer x.body.release()
	h.reverse.ServeHTTP(&x.response, r.WithContext(withExchange(r.Context(), x)))
	x.complete = true // where the answer breaks off, ReverseProxy panics instead
	x.finishBody()
}

// unwantedBodyTimeout is how long a client may go on sending a body after its
// answer, before its connection is closed.
const unwantedBodyTimeout = 5 * time.Second

// refusedTarget says what no route forwards.
func refusedTarget(r *http.Request, route *Route, raw string) (apiError, bool) {
	switch {
	// The answer to TRACE is the request's head (RFC 9110, section 9.3.8): the
	// client would read our token in it.
	case r.Method == http.MethodTrace, r.Method == "TRACK":
		return errMethodRefused, true
	case route == nil, r.Method == http.MethodConnect:
		return errNoRoute, true
	case route.confined() && hasDotSegment(raw):
		return errPathRefused, true
	}
	return apiError{}, false
}

// finishBody reads to its end what Azure did not want of the body. Left to
// net/http, that happens after the handler, and the background read that the
// end of a body starts then makes it panic at the connection's next request:
// full duplex does not expect it. The answer goes out first, since the client
// may be slow.
func (x *exchange) finishBody() {
	if x.body.ended() {
		return
	}
	control := http.NewResponseController(&x.response)
	_ = control.Flush()
	_ = control.SetReadDeadline(time.Now().Add(unwantedBodyTimeout))
	_ = x.inbound.Body.Close()
}

// CloseTunnels ends all WebSockets, present and future, with close code 1001
// (going away). [http.Server.Shutdown] knows nothing of them (golang/go#17721).
// It returns when the last one is closed, or with the context's error after
// cutting those that were left.
func (h *Handler) CloseTunnels(ctx context.Context) error {
	return h.tunnels.close(ctx)
}

// An exchange is one request and all that is known about it, from its arrival
// to its line in the access log.
type exchange struct {
	response
	inbound *http.Request
	started time.Time
	route   *Route
	target  string // the path to ask for at the upstream, as raw bytes
	body    *body
	token   *tokencache.Token // the last that was sent

	span      trace.Span // nil unless traced
	refusal   *refusal   // what Azure said, if it was an error
	cause     string     // of a failure, where it is known
	ownCode   string     // of an answer of the sidecar's own
	failure   error      // behind it, where there is more to say
	requestID string     // Azure's, for its support
	replayed  bool
	tunnelled bool
	streamed  bool // the answer is an event stream
	broken    bool // Azure broke the answer off
	complete  bool // the answer went out to its end
}

type exchangeKey struct{}

func withExchange(ctx context.Context, x *exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, x)
}

func exchangeOf(r *http.Request) *exchange {
	return r.Context().Value(exchangeKey{}).(*exchange)
}

// finish counts and logs x. It runs while the handler panics, too, which is how
// an answer that breaks off ends.
func (h *Handler) finish(x *exchange) {
	status := x.status()
	if x.clientGone() {
		status = statusClientGone
	} else if !x.complete {
		x.broken = true
	}
	if x.broken && x.streamed {
		h.metrics.brokenStream(x.route)
	}
	if x.tunnelled {
		h.metrics.tunnels.WithLabelValues(x.route.Prefix).Dec()
	}
	h.metrics.observe(x, status)
	if x.span != nil {
		x.endSpan(status)
	}

	level := zapcore.InfoLevel
	if x.broken || x.ownCode != "" && status != statusClientGone {
		level = zapcore.WarnLevel
	}
	if entry := h.logger.Check(level, "request"); entry != nil {
		entry.Write(x.fields(status)...)
	}
}

// clientGone reports whether the client left before its answer was complete.
func (x *exchange) clientGone() bool {
	return !x.complete && !x.broken && (x.writeErr != nil || x.inbound.Context().Err() != nil)
}

// fields never hold the query, which may carry a key, nor any header.
func (x *exchange) fields(status int) []zap.Field {
	fields := []zap.Field{
		zap.String("method", x.inbound.Method),
		zap.String("path", rawPath(x.inbound)),
		zap.Int("status", status),
		zap.Duration("duration", time.Since(x.started)),
		zap.Int64("bytes", x.written),
	}
	add := func(present bool, field zap.Field) {
		if present {
			fields = append(fields, field)
		}
	}
	if x.route != nil {
		add(true, zap.String("route", x.route.Prefix))
	}
	add(!x.first.IsZero(), zap.Duration("first_byte", x.first.Sub(x.started)))
	add(x.requestID != "", zap.String("azure_request_id", x.requestID))
	add(x.ownCode != "", zap.String("code", x.ownCode))
	add(x.cause != "", zap.String("cause", x.cause))
	add(x.replayed, zap.Bool("replayed", true))
	add(x.broken, zap.Bool("broken", true))
	add(x.failure != nil, zap.NamedError("error", x.failure))
	return fields
}

// debugLog passes ReverseProxy's complaints on at debug level: what matters in
// them is in the access log already.
func debugLog(l *zap.Logger) *log.Logger {
	std, err := zap.NewStdLogAt(l, zapcore.DebugLevel)
	if err != nil { // only for an unknown level
		panic(err)
	}
	return std
}
