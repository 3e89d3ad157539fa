package proxy

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"time"

	"entra-sidecar/tokencache"
)

// refusalTimeout bounds how long an answer is held back while its token is
// being replaced.
const refusalTimeout = 10 * time.Second

// An injector sets the token and, once, replaces it. It is a RoundTripper and
// not a part of Rewrite because here errors and 401s are seen, WebSocket
// handshakes included.
type injector struct {
	next    http.RoundTripper
	metrics *metrics
}

// RoundTrip implements [http.RoundTripper].
func (i *injector) RoundTrip(r *http.Request) (*http.Response, error) {
	x := exchangeOf(r)
	token, err := x.route.Tokens.Token(r.Context())
	if err != nil {
		return nil, &tokenError{err}
	}
	res, err := i.send(x, r, token)
	if err == nil && res.StatusCode == http.StatusUnauthorized {
		res, err = i.replay(x, r, res)
	}
	x.body.forget()
	if gone := r.Context().Err(); gone != nil && err == nil { // the client did not wait for it
		_ = res.Body.Close()
		return nil, gone
	}
	return res, err
}

// send sends r with token. GetBody lets the transport take another connection
// when a pooled one turns out to be dead before anything was written. With an
// Idempotency-Key it would also repeat what was written, and Azure OpenAI does
// not say that it honours one: such a request is not given a second chance.
func (i *injector) send(x *exchange, r *http.Request, token *tokencache.Token) (*http.Response, error) {
	x.token = token
	r.Header["Authorization"] = []string{token.Authorization()}
	if r.Body != nil && !namesIdempotency(r.Header) {
		r.GetBody = func() (io.ReadCloser, error) { return x.body.reopen(r.Trailer) }
	}
	return i.next.RoundTrip(r)
}

func namesIdempotency(h http.Header) bool {
	return h["Idempotency-Key"] != nil || h["X-Idempotency-Key"] != nil
}

// replay answers a 401 that blames the token with a second try, if the body can
// be sent again and there is another token. Otherwise res stands.
func (i *injector) replay(x *exchange, r *http.Request, res *http.Response) (*http.Response, error) {
	if !blamesToken(x, res) {
		return res, nil
	}
	again, err := repeat(x, r)
	fresh := i.replace(r.Context(), x, challenge(res.Header), err == nil)
	if fresh == nil {
		if again.Body != nil { // or what is held would wait for its reader
			_ = again.Body.Close()
		}
		return res, nil
	}
	if r.Body != nil { // a client that is still sending sends to the second try
		_ = r.Body.Close()
	}
	_ = res.Body.Close()
	x.replayed, x.refusal = true, nil
	i.metrics.replay(x.route)
	return i.send(x, again, fresh)
}

// repeat returns r again, sharing nothing that the transport may still be
// reading, or an error if its body is not held.
func repeat(x *exchange, r *http.Request) (again *http.Request, err error) {
	again = r.WithContext(r.Context())
	again.Header = r.Header.Clone()
	if r.Body != nil {
		again.Trailer = x.body.newTrailer()
		again.Body, err = x.body.reopen(again.Trailer)
	}
	return again, err
}

// replace reports the refusal of x's token and waits for another one. Where the
// request cannot be sent again it does not wait: the report serves the next.
func (i *injector) replace(ctx context.Context, x *exchange, claims string, wait bool) *tokencache.Token {
	ctx, cancel := context.WithTimeout(ctx, refusalTimeout)
	defer cancel()
	if !wait {
		cancel()
	}
	fresh, err := x.route.Tokens.Refused(ctx, x.token, claims)
	if err != nil || !wait {
		return nil
	}
	return fresh
}

// blamesToken reports whether a 401 is about the token itself, or says nothing
// that is known. A missing role or a stray key is not mended by a new token.
func blamesToken(x *exchange, res *http.Response) bool {
	r := refusalOf(x, res)
	if r.Diagnosis == nil {
		return !bytes.Contains(r.body, []byte(`"PermissionDenied"`)) // in words of which there are many
	}
	switch r.Cause {
	case "wrong-audience", "token-expired", "token-rejected":
		return true
	}
	return false
}
