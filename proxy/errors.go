package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net"
	"net/http"
	"strconv"
	"time"

	"entra-sidecar/proxy/diagnose"
	"entra-sidecar/tokencache"
)

// statusClientGone is nginx's code for a client that left before its answer. It
// is only ever logged and counted.
const statusClientGone = 499

// An apiError is an answer of the sidecar's own. Its message is fixed text: the
// reason behind it, which may hold names of the identity, goes to the log. The
// texts avoid the phrases by which LiteLLM overrides a status, "Connection
// error" and "rate limit" among them.
type apiError struct {
	status     int
	code       string
	message    string
	cause      string        // X-Entra-Sidecar-Cause, if known
	retryAfter time.Duration // sent in whole seconds if positive
}

var (
	errNoRoute           = apiError{status: http.StatusBadRequest, code: "no_route", message: "No route of the sidecar has a prefix that matches this path. Check api_base against the routes in the sidecar's configuration."}
	errMethodRefused     = apiError{status: http.StatusMethodNotAllowed, code: "method_refused", message: "The sidecar does not forward TRACE: its answer would give the token away."}
	errPathRefused       = apiError{status: http.StatusBadRequest, code: "path_refused", message: "The path has a dot segment, which would lead out of the base path of this route."}
	errInvalidInboundKey = apiError{status: http.StatusUnauthorized, code: "invalid_inbound_key", message: "The sidecar asks for an inbound key, as api-key, x-api-key, Ocp-Apim-Subscription-Key or bearer, and this request shows none that it knows."}
	errOriginRefused     = apiError{status: http.StatusForbidden, code: "origin_refused", message: "The sidecar does not answer web pages: the request carries an Origin header."}
	errHostRefused       = apiError{status: http.StatusForbidden, code: "host_refused", message: "The sidecar listens on a loopback address and was asked under another name. Use 127.0.0.1 or localhost."}
	errTokenUnavailable  = apiError{status: http.StatusServiceUnavailable, code: "token_unavailable", message: "The sidecar has no Entra ID token for this route. Its log, its status page and `entra-sidecar check` say why."}
	errUnreachable       = apiError{status: http.StatusBadGateway, code: "upstream_unreachable", message: "The sidecar cannot reach the Azure endpoint of this route. Its log and `entra-sidecar check` say why."}
	errTimeout           = apiError{status: http.StatusGatewayTimeout, code: "upstream_timeout", message: "The Azure endpoint of this route did not answer in time."}
	errUnreadable        = apiError{status: http.StatusBadRequest, code: "request_unreadable", message: "The request's body ended before its announced length or is not well formed."}
)

// answer gives e as x's answer. LiteLLM and the OpenAI clients read this shape.
func (x *exchange) answer(e apiError) {
	x.ownCode = e.code
	body, err := json.Marshal(map[string]any{"error": map[string]string{
		"code": e.code, "message": e.message, "type": "entra_sidecar_error",
	}})
	if err != nil { // strings always marshal
		panic(err)
	}
	h := x.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Entra-Sidecar-Error", e.code)
	if e.cause != "" {
		h.Set("X-Entra-Sidecar-Cause", e.cause)
	}
	if e.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(e.retryAfter.Seconds()))))
	}
	x.WriteHeader(e.status)
	_, _ = x.Write(body) // the client may be gone, and then there is nobody to tell
}

// fail answers a request that never got Azure's answer.
func (h *Handler) fail(_ http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r)
	x.failure = err
	if r.Context().Err() != nil {
		// The client is gone, or the drain is over: without the abort, net/http
		// would make an empty 200 of this.
		panic(http.ErrAbortHandler)
	}
	e, d := classify(x, err)
	if d != nil {
		e.cause, x.cause = d.Cause, d.Cause
		h.noteCause(x, *d)
		if d.Auth && h.annotate {
			e.message += diagnose.Note(*d)
		}
	}
	x.answer(e)
}

// classify tells an error's answer and, where it is known, its cause.
func classify(x *exchange, err error) (apiError, *diagnose.Diagnosis) {
	if noToken, ok := errors.AsType[*tokenError](err); ok {
		d := diagnose.Credential(tokencache.Describe(noToken.err), diagnose.Claims{})
		return tokenUnavailable(noToken), &d
	}
	switch {
	case x.body.clientGone():
		return errUnreadable, nil
	case isResponseTimeout(err):
		return errTimeout, nil
	}
	if d, ok := diagnose.Network(err, x.route.Upstream.Host); ok {
		return errUnreachable, &d
	}
	return errUnreachable, nil
}

// A tokenError is a request that could not be sent for want of a token.
type tokenError struct{ err error }

func (e *tokenError) Error() string { return "no token: " + e.err.Error() }
func (e *tokenError) Unwrap() error { return e.err }

func tokenUnavailable(err *tokenError) apiError {
	e := errTokenUnavailable
	e.retryAfter = time.Second
	if unavailable, ok := errors.AsType[*tokencache.UnavailableError](err); ok {
		e.retryAfter = max(e.retryAfter, unavailable.RetryAfter)
	}
	return e
}

// isResponseTimeout tells an upstream that was reached and stayed silent from
// one that could not be reached: dialling and TLS have their own time limits.
func isResponseTimeout(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Op == "read" && op.Timeout()
	}
	return errors.Is(err, context.DeadlineExceeded)
}
