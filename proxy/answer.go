package proxy

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"entra-sidecar/proxy/diagnose"
)

var errSwitched = errors.New("the upstream switched to a protocol that was not asked for")

// modifyResponse makes the few changes to Azure's answer that a proxy owes its
// client. Everything else passes as it is.
func (h *Handler) modifyResponse(res *http.Response) error {
	x := exchangeOf(res.Request)
	x.requestID = res.Header.Get("Apim-Request-Id")
	rewriteLocations(x, res.Header)
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
		if !isWebSocket(res.Request.Header) || !isWebSocket(res.Header) {
			return errSwitched // here, where ReverseProxy closes the connection
		}
		x.tunnelled = true
		h.metrics.tunnels.WithLabelValues(x.route.Prefix).Inc()
	case isEventStream(res.Header):
		x.streamed = true
		if res.Header.Get("Content-Encoding") == "" { // a plain frame would spoil another
			res.Body = &eventStream{ReadCloser: res.Body, broken: func() { x.broken = true }}
		}
	case diagnose.Covers(res.StatusCode): // others are not held back until their body has come
		h.explain(x, res)
	}
	return nil
}

// locationHeaders point back to the resource in Azure's long-running operations
// (image generation, Document Intelligence). A client that followed them would
// go past the sidecar, with the dummy key that it has.
var locationHeaders = []string{"Operation-Location", "Location", "Azure-Asyncoperation"}

func rewriteLocations(x *exchange, h http.Header) {
	for _, name := range locationHeaders {
		for i, value := range h[name] {
			h[name][i] = rewriteLocation(x, value)
		}
	}
}

// rewriteLocation turns a URL of the route's upstream into the one that leads
// there through the sidecar, as the client addresses it. Other hosts' URLs stay,
// and so do those that no request of this route could reach.
func rewriteLocation(x *exchange, location string) string {
	u, err := url.Parse(location)
	if err != nil || !x.route.owns(u) || x.inbound.Host == "" {
		return location
	}
	path := location
	if u.Host != "" {
		_, path, _ = strings.Cut(location, "//")
		path = path[len(u.Host):]
	}
	base := strings.TrimSuffix(x.route.Upstream.EscapedPath(), "/") + x.route.Path
	rest, ok := strings.CutPrefix(path, base)
	if !ok || rest != "" && strings.IndexByte("/?#", rest[0]) < 0 {
		return location
	}
	path = strings.TrimSuffix(x.route.Prefix, "/") + rest
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	if u.Host == "" && !strings.HasPrefix(path, "//") { // which would name a host
		return path
	}
	return clientOrigin(x.inbound) + path
}

// owns reports whether u leads to the route's upstream: with its host, or as an
// absolute path without one.
func (r *Route) owns(u *url.URL) bool {
	if u.Host == "" {
		return u.Scheme == "" && strings.HasPrefix(u.Path, "/")
	}
	sameScheme := u.Scheme == "" || u.Scheme == r.Upstream.Scheme
	return sameScheme && u.User == nil && strings.EqualFold(hostPort(u), hostPort(r.Upstream))
}

func hostPort(u *url.URL) string {
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "http":
		port = "80"
	default:
		port = "443"
	}
	return u.Hostname() + ":" + port
}

// clientOrigin is scheme, host and port as the client wrote them.
func clientOrigin(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// A refusal is an error that Azure answered.
type refusal struct {
	body  []byte // decoded, at most errorBodyLimit
	whole bool   // body is all of it
	*diagnose.Diagnosis
}

// explain names the cause of a failure in a header and, for failures of
// authentication or set-up, in the message. What it does not know passes
// untouched.
func (h *Handler) explain(x *exchange, res *http.Response) {
	r := refusalOf(x, res)
	if r.Diagnosis == nil {
		return
	}
	x.cause = r.Cause
	if !r.Auth {
		return
	}
	res.Header.Set("X-Entra-Sidecar-Cause", r.Cause)
	h.noteCause(x, *r.Diagnosis)
	if h.annotate {
		r.annotate(res)
	}
}

// noteCause counts and logs what was diagnosed.
func (h *Handler) noteCause(x *exchange, d diagnose.Diagnosis) {
	if d.Auth {
		h.metrics.authFailure(x.route, d.Cause)
	}
	h.causes.report(x.route, d)
}

// refusalOf reads the beginning of an error's body, once, and says what it means.
func refusalOf(x *exchange, res *http.Response) *refusal {
	if x.refusal != nil {
		return x.refusal
	}
	head, whole := peek(res)
	body, decoded := decode(head, res.Header.Get("Content-Encoding"))
	r := &refusal{body: body, whole: whole && decoded}
	x.refusal = r
	d, ok := diagnose.Diagnose(diagnose.Input{
		Status: res.StatusCode,
		Header: res.Header,
		Body:   r.body,
		Claims: diagnose.Claims(x.token.Claims()),
		Method: res.Request.Method,
		Path:   x.target,
		Query:  res.Request.URL.RawQuery,
		Host:   x.route.Upstream.Host,
		Now:    time.Now(),
	})
	if ok {
		r.Diagnosis = &d
	}
	return r
}

// errorBodyLimit is how much of an error's body is read for a diagnosis.
const errorBodyLimit = 16 << 10

// peek reads the beginning of an error's body, puts it back, and reports
// whether it is all.
func peek(res *http.Response) (head []byte, whole bool) {
	head, err := io.ReadAll(io.LimitReader(res.Body, errorBodyLimit))
	rest := io.Reader(res.Body)
	if err != nil {
		rest = errorReader{err}
	}
	res.Body = readCloser{io.MultiReader(bytes.NewReader(head), rest), res.Body}
	return head, err == nil && len(head) < errorBodyLimit
}

type readCloser struct {
	io.Reader
	io.Closer
}

// An errorReader repeats the error with which a peek ended.
type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

// decode undoes the encodings that the standard library can undo, and reports
// whether that is all of it. The rest stays unread, and so undiagnosed.
func decode(body []byte, encoding string) (decoded []byte, whole bool) {
	switch strings.ToLower(encoding) {
	case "", "identity":
		return body, true
	case "gzip", "x-gzip":
		r, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, false
		}
		decoded, err = io.ReadAll(io.LimitReader(r, errorBodyLimit)) // cut short, it may still tell
		return decoded, err == nil && len(decoded) < errorBodyLimit
	}
	return nil, false
}

// annotate appends the diagnosis to the message. It gives up where it has not
// seen the whole body, or does not know its shape.
func (r *refusal) annotate(res *http.Response) {
	if !r.whole {
		return
	}
	body, ok := diagnose.Annotate(r.body, *r.Diagnosis)
	if !ok {
		return
	}
	res.Body = readCloser{bytes.NewReader(body), res.Body}
	res.ContentLength = int64(len(body))
	res.Header.Set("Content-Length", strconv.Itoa(len(body)))
	for _, name := range []string{"Content-Encoding", "Content-Md5", "Digest", "Content-Digest", "Etag"} {
		res.Header.Del(name) // they speak of the bytes as they were
	}
}

func isEventStream(h http.Header) bool {
	mediaType, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	return mediaType == "text/event-stream"
}
