package proxy

import (
	"cmp"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
)

// A Route binds a path prefix to one upstream, its identity and its headers. A
// token never leaves for another host than its route's.
type Route struct {
	// Prefix is the path below which the route answers, "/" or "/name". It is
	// matched on the bounds of path segments and removed on the way.
	Prefix string
	// Upstream is scheme, host and, before an API Management front, a base path.
	Upstream *url.URL
	// Path is put between the upstream's base path and the rest of the
	// request's: "/models" for azure_ai clients that leave it out.
	Path string
	// Header is set on every request, after the client's credentials are gone.
	Header http.Header
	// Tokens hands out the tokens that this route sends.
	Tokens TokenSource
}

// target returns the path to ask for at the upstream, byte for byte what the
// client sent behind the route's prefix.
func (r *Route) target(raw string) string {
	rest := strings.TrimPrefix(raw, strings.TrimSuffix(r.Prefix, "/"))
	target := strings.TrimSuffix(r.Upstream.EscapedPath(), "/") + r.Path + rest
	if target == "" {
		return "/"
	}
	return target
}

func (r *Route) matches(raw string) bool {
	prefix := strings.TrimSuffix(r.Prefix, "/")
	rest, ok := strings.CutPrefix(raw, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// confined reports whether the route leads to a part of its upstream only.
func (r *Route) confined() bool {
	return strings.Trim(r.Upstream.Path, "/") != "" || r.Path != ""
}

// hasDotSegment finds "." and ".." in a raw path, in whatever spelling a server
// behind us may take for one.
func hasDotSegment(raw string) bool {
	if !strings.ContainsAny(raw, ".%") {
		return false
	}
	path, err := url.PathUnescape(raw)
	if err != nil {
		return true
	}
	for segment := range strings.FieldsFuncSeq(path, func(c rune) bool { return c == '/' || c == '\\' }) {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// routeTable holds the routes with the longest prefix first.
type routeTable []*Route

func newRouteTable(routes []Route) (routeTable, error) {
	var table routeTable
	for i := range routes {
		r := &routes[i]
		if r.Tokens == nil {
			return nil, fmt.Errorf("proxy: route %s has no token source", r.Prefix)
		}
		if r.Upstream == nil || r.Upstream.Host == "" {
			return nil, fmt.Errorf("proxy: route %s has no upstream", r.Prefix)
		}
		if r.Upstream.Scheme != "https" && !isLoopbackHost(r.Upstream.Host) {
			return nil, fmt.Errorf("proxy: route %s would send tokens over plain %s", r.Prefix, r.Upstream.Scheme)
		}
		table = append(table, r)
	}
	slices.SortStableFunc(table, func(a, b *Route) int { return cmp.Compare(len(b.Prefix), len(a.Prefix)) })
	return table, nil
}

// match returns the route of a raw path, nil if there is none.
func (t routeTable) match(raw string) *Route {
	if !strings.HasPrefix(raw, "/") {
		return nil
	}
	for _, r := range t {
		if r.matches(raw) {
			return r
		}
	}
	return nil
}

// rawPath is the path of the request's target exactly as it came, since Azure
// tells "//" from "/" and "%2F" from "/". r.URL.Path is decoded and will not do.
func rawPath(r *http.Request) string {
	target, _, _ := strings.Cut(r.RequestURI, "?")
	if strings.HasPrefix(target, "/") {
		return target
	}
	// The absolute form (RFC 9112, section 3.2.2), "*", or the host of a CONNECT.
	_, rest, absolute := strings.Cut(target, "://")
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		return rest[i:]
	}
	if absolute {
		return "/"
	}
	return ""
}

// rewrite turns the client's request into ours. ReverseProxy has removed the
// hop-by-hop headers already, those that the client named in Connection
// included, so nothing set from here on can be taken away again.
func rewrite(p *httputil.ProxyRequest) {
	x := exchangeOf(p.In)
	p.Out.URL.Scheme = x.route.Upstream.Scheme
	p.Out.URL.Host = x.route.Upstream.Host
	p.Out.Host = ""
	setPath(p.Out.URL, x.target)
	p.Out.URL.RawQuery = stripQuery(p.In.URL.RawQuery)

	stripHeader(p.Out.Header)
	for name, values := range x.route.Header {
		p.Out.Header[name] = values
	}
	if p.Out.Body != nil {
		p.Out.Trailer = x.body.newTrailer()
		p.Out.Body = x.body.open(p.Out.Trailer)
	}
}

// setPath makes raw the path on the wire. URL.Opaque is written as it is,
// unless it begins with "//", which would be read as a host. net/http writes
// such a path only if it holds no bytes that are forbidden in URLs.
func setPath(u *url.URL, raw string) {
	if !strings.HasPrefix(raw, "//") {
		u.Path, u.RawPath, u.Opaque = "", "", raw
		return
	}
	raw = escapeForbidden(raw)
	path, err := url.PathUnescape(raw)
	if err != nil { // the server would not have let it in
		path = raw
	}
	u.Path, u.RawPath = path, raw
}

// escapeForbidden encodes what RFC 3986 has in no path, and leaves the rest.
func escapeForbidden(raw string) string {
	var b strings.Builder
	for i := range len(raw) {
		if c := raw[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"#<>\\^`{|}", c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
