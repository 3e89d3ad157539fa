package proxy

import (
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// startSpan begins the span of a request, as a child of the client's if it sent
// a traceparent. The headers of W3C trace context pass to Azure untouched, with
// tracing and without.
func (h *Handler) startSpan(x *exchange) {
	r := x.inbound
	parent := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	_, x.span = h.tracer.Start(parent, r.Method,
		trace.WithSpanKind(trace.SpanKindServer),
		trace.WithTimestamp(x.started),
		trace.WithAttributes(
			attribute.String("http.request.method", r.Method),
			attribute.String("url.path", rawPath(r)), // never the query, which may carry a key
		))
}

// endSpan names things as OpenTelemetry's conventions for HTTP do, and the
// sidecar's own under its own name.
func (x *exchange) endSpan(status int) {
	span := x.span
	span.SetAttributes(attribute.Int("http.response.status_code", status))
	if x.route != nil {
		span.SetName(x.inbound.Method + " " + x.route.Prefix)
		span.SetAttributes(
			attribute.String("http.route", x.route.Prefix),
			attribute.String("server.address", x.route.Upstream.Hostname()),
			attribute.Bool("entra_sidecar.replayed", x.replayed),
		)
	}
	if !x.first.IsZero() {
		span.SetAttributes(attribute.Float64("entra_sidecar.time_to_first_byte", x.first.Sub(x.started).Seconds()))
	}
	if x.token != nil && !x.token.Claims().IssuedAt.IsZero() {
		span.SetAttributes(attribute.Float64("entra_sidecar.token_age", time.Since(x.token.Claims().IssuedAt).Seconds()))
	}
	if x.cause != "" {
		span.SetAttributes(attribute.String("entra_sidecar.cause", x.cause))
	}
	if status >= 500 || x.broken {
		span.SetAttributes(attribute.String("error.type", strconv.Itoa(status)))
		span.SetStatus(codes.Error, "")
	}
	span.End()
}
