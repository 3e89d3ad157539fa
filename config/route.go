package config

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func (l *loader) validateRoutes() {
	prefixes := make(map[string]int)
	for i := range l.config.Routes {
		r := &l.config.Routes[i]
		setting := func(key string) string { return l.routeSetting(i, key) }
		l.validateUpstream(setting("upstream"), i)
		l.check(setting("prefix"), prefixProblem(r.Prefix))
		if first, ok := prefixes[r.Prefix]; ok {
			l.problem(setting("prefix"), "is that of routes[%d] too: give each route its own", first)
		} else {
			prefixes[r.Prefix] = i
		}
		if r.Path != "" {
			l.check(setting("path"), pathProblem(r.Path))
		}
		if r.Scope != "" {
			l.check(setting("scope"), scopeProblem(r.Scope))
		}
		l.validateHeaders(setting("headers"), r)
	}
}

// routeSetting names a setting of a route: routes[1].scope, or just scope for
// the one route that flags and environment make.
func (l *loader) routeSetting(i int, key string) string {
	if l.origins["routes"] == "" {
		return key
	}
	return fmt.Sprintf("routes[%d].%s", i, key)
}

// parseUpstream shows nothing of a URL that it refuses: it may hold a password.
func parseUpstream(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return nil, errors.New("is not a URL: write it with its scheme, as https://NAME.openai.azure.com")
	}
	u.Host = strings.ToLower(u.Host)
	u.Path = strings.TrimSuffix(u.Path, "/")
	return u, nil
}

// validateUpstream also completes what follows from the upstream.
func (l *loader) validateUpstream(setting string, i int) {
	r := &l.config.Routes[i]
	if r.Upstream == nil {
		if l.origins[setting] == "" { // else it has been refused already
			l.origins[setting] = l.origins[fmt.Sprintf("routes[%d]", i)]
			l.problem(setting, "is missing: write https://NAME.openai.azure.com")
		}
		return
	}
	for _, text := range upstreamProblems(r.Upstream) {
		l.check(setting, text)
	}
	if r.Scope == "" {
		r.Scope = DefaultScope(r.Upstream)
		l.origins[l.routeSetting(i, "scope")] = byHost
	}
}

func upstreamProblems(u *url.URL) (problems []string) {
	add := func(wrong bool, text string) {
		if wrong {
			problems = append(problems, text)
		}
	}
	host := u.Hostname()
	add(u.Scheme != "https" && u.Scheme != "http", "must begin with https://")
	add(u.Scheme == "http" && !isLoopback(host), "must begin with https://, since anybody on the way could read the token (http is for loopback only)")
	add(host == "", "names no host: write the resource's own, https://NAME.openai.azure.com")
	add(strings.HasSuffix(host, "."), "must not have a dot behind the host's name: certificates do not cover it")
	add(!validPort(u.Port()), "has a port that does not exist: leave it away, or write one up to 65535")
	add(u.User != nil, "must not hold a user or password: remove what is before the @")
	add(u.RawQuery != "" || u.ForceQuery, "must not have a query: remove the ? and what follows (clients send their own api-version)")
	add(u.Fragment != "", "must not have a fragment: remove the # and what follows")
	add(strings.Contains(host, ".api.cognitive."), "a regional host takes keys only: write the resource's own, https://NAME.openai.azure.com or https://NAME.cognitiveservices.azure.com "+
		"(`az cognitiveservices account update --name NAME --resource-group GROUP --custom-domain NAME` gives it one)")
	add(strings.Contains(host, ".privatelink."), "certificates do not cover privatelink names: write the public one, without privatelink, which the private DNS zone resolves too")
	add(true, basePathProblem(u))
	return slices.DeleteFunc(problems, func(text string) bool { return text == "" })
}

func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}

var (
	addedByClients = regexp.MustCompile(`(?i)/(openai|anthropic)(/|$)`)
	project        = regexp.MustCompile(`^/api/projects/[^/]+$`)
)

// basePathProblem allows a base path before an API Management front. Before a
// resource it is a mistake, commonly a whole endpoint copied from the portal.
func basePathProblem(u *url.URL) string {
	const only = "give only the resource's base URL, https://HOST: clients add "
	switch path := u.EscapedPath(); {
	case path == "":
		return ""
	case addedByClients.MatchString(path):
		return only + "/openai/… or /anthropic/… themselves"
	case isResource(u.Hostname()) && !project.MatchString(path):
		return only + "the rest themselves (or a route's path does, such as /models)"
	default:
		return pathProblem(path)
	}
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}

// plainPath holds the characters of RFC 3986 that need no escaping, so that a
// path means the same to everybody who compares its bytes.
var plainPath = regexp.MustCompile(`^[A-Za-z0-9/._~!$&'()*+,;=:@-]+$`)

func pathProblem(path string) string {
	switch {
	case !strings.HasPrefix(path, "/"):
		return "must begin with /"
	case strings.HasSuffix(path, "/"):
		return "must not end with /: remove it"
	case strings.Contains(path, "//"):
		return "must not hold //: write one /"
	case !plainPath.MatchString(path):
		return "holds a character that needs escaping in a URL, or % itself: use letters, digits, - and _"
	case strings.Contains(path+"/", "/./") || strings.Contains(path+"/", "/../"):
		return "must not hold . or .. as a segment: write out the path that is meant"
	}
	return ""
}

func prefixProblem(prefix string) string {
	lower := strings.ToLower(prefix)
	switch {
	case prefix == "/":
		return ""
	case strings.Contains(lower, "/openai"), strings.Contains(lower, "/anthropic"):
		return "must not hold /openai or /anthropic, where LiteLLM cuts a base URL off: choose another name, such as /eastus"
	}
	return pathProblem(prefix)
}

func scopeProblem(scope string) string {
	u, err := url.Parse(scope)
	switch {
	case !strings.HasSuffix(scope, "/.default"):
		return "must end in /.default, as https://cognitiveservices.azure.com/.default"
	case err != nil || u.Scheme != "https" && u.Scheme != "api" || u.Host == "" || u.User != nil || u.RawQuery != "":
		return "must be an https:// or api:// URL, as https://cognitiveservices.azure.com/.default"
	}
	return ""
}

// refusedHeaders are the token's, the message's and the connection's own.
var refusedHeaders = []string{
	"Authorization", "Host", "Content-Length", "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// keyHeaders are taken before the token by a resource, and needed by API
// Management in front of one.
var keyHeaders = []string{"Api-Key", "X-Api-Key", "Ocp-Apim-Subscription-Key"}

func (l *loader) validateHeaders(setting string, r *Route) {
	if r.Headers == nil {
		return
	}
	headers := make(map[string]Secret, len(r.Headers))
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		value, key, at := r.Headers[name], http.CanonicalHeaderKey(name), setting+"."+name
		_, twice := headers[key]
		headers[key] = value
		l.origins[setting+"."+key] = l.origins[at]
		switch {
		case slices.Contains(refusedHeaders, key):
			l.problem(at, "cannot be set, since the sidecar or the connection sets it: remove it")
		case twice:
			l.problem(at, "is set twice, since case makes no difference: remove one")
		case slices.Contains(keyHeaders, strings.ReplaceAll(key, "_", "-")) && r.Upstream != nil && isResource(r.Upstream.Hostname()):
			l.warn(at, "is for an API Management front: remove it, unless one answers under this name, since the resource itself checks this key and not the token")
		case strings.ContainsFunc(value.Reveal(), func(c rune) bool { return c < ' ' || c > '~' }):
			l.problem(at, "holds a character that a header cannot: write ASCII")
		}
	}
	r.Headers = headers
}
