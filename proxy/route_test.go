package proxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestTheLongestPrefixOnSegmentBoundsWins(t *testing.T) {
	table, err := newRouteTable([]Route{
		{Prefix: "/", Upstream: parse(t, "https://root"), Tokens: newTokens("t")},
		{Prefix: "/east", Upstream: parse(t, "https://east"), Tokens: newTokens("t")},
		{Prefix: "/east/2", Upstream: parse(t, "https://east2"), Tokens: newTokens("t")},
		{Prefix: "/eastus", Upstream: parse(t, "https://eastus/base/"), Path: "/models", Tokens: newTokens("t")},
		{Prefix: "/slash/", Upstream: parse(t, "https://slash"), Tokens: newTokens("t")},
	})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, raw, want string }{
		{"the root", "/", "root /"},
		{"below the root", "/openai/v1", "root /openai/v1"},
		{"a prefix itself", "/east", "east /"},
		{"a prefix with a slash", "/east/", "east /"},
		{"below a prefix", "/east/openai", "east /openai"},
		{"the longer prefix", "/east/2/openai", "east2 /openai"},
		{"not within a segment", "/east/22/openai", "east /22/openai"},
		{"a longer name is another name", "/eastus/x", "eastus /base/models/x"},
		{"a prefix alone before a base path", "/eastus", "eastus /base/models"},
		{"a longer name without a route", "/eastwards/x", "root /eastwards/x"},
		{"a prefix is case-sensitive", "/East/x", "root /East/x"},
		{"an encoded slash ends no segment", "/east%2Fx", "root /east%2Fx"},
		{"an encoded prefix is not the prefix", "/%65ast/x", "root /%65ast/x"},
		{"two slashes before the prefix", "//east/x", "root //east/x"},
		{"two slashes behind the prefix", "/east//x", "east //x"},
		{"dot segments are the upstream's business", "/east/../eastus/x", "east /../eastus/x"},
		{"dots within the root", "/../east", "root /../east"},
		{"a prefix written with a slash", "/slash/x", "slash /x"},
		{"a prefix written with a slash, alone", "/slash", "slash /"},
		{"an empty path", "", ""},
		{"no path", "*", ""},
		{"no slash", "east/x", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := ""
			if r := table.match(test.raw); r != nil {
				got = r.Upstream.Host + " " + r.target(test.raw)
			}
			if got != test.want {
				t.Errorf("%q goes to %q, want %q", test.raw, got, test.want)
			}
		})
	}
}

func TestWithoutARootThereIsNoWayAround(t *testing.T) {
	table := routeTable{{Prefix: "/east"}}
	for _, raw := range []string{"/", "/eas", "/eastus", "//east", "/%65ast", "/./east", "/x/../east"} {
		if r := table.match(raw); r != nil {
			t.Errorf("%q matches %s", raw, r.Prefix)
		}
	}
}

func TestARouteTableNeedsTokensAndUpstreams(t *testing.T) {
	tests := map[string]Route{
		"no tokens":        {Prefix: "/", Upstream: parse(t, "https://x")},
		"no upstream":      {Prefix: "/", Tokens: newTokens("t")},
		"no upstream host": {Prefix: "/", Tokens: newTokens("t"), Upstream: parse(t, "/x")},
	}
	for name, route := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := New(Options{Routes: []Route{route}}); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func parse(t testing.TB, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestThePathReachesTheUpstreamByteForByte(t *testing.T) {
	tests := []struct{ name, target string }{
		{"an ordinary one", "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"},
		{"two slashes first", "//openai/v1/chat/completions"},
		{"three slashes first", "///openai"},
		{"a host after two slashes", "//evil.example/openai"},
		{"two slashes within", "/openai//v1"},
		{"a slash last", "/openai/"},
		{"an encoded slash", "/openai/files/a%2Fb"},
		{"an encoded slash in small letters", "/openai/files/a%2fb%2F"},
		{"an encoded percent sign", "/a%25b%2525"},
		{"a colon and a verb", "/documentintelligence/documentModels/prebuilt-layout:analyze?api-version=1"},
		{"a colon in the first segment", "/a:b/c"},
		{"dot segments", "/a/./b/../c/."},
		{"encoded dots", "/a/%2e%2E/b"},
		{"letters needlessly encoded", "/%61%62"},
		{"sub-delimiters", "/a!$&'()*+,;=:@b"},
		{"brackets and braces", `/a[b]{c}|d^e\f"g<h>`},
		{"raw UTF-8", "/größe/模型"},
		{"encoded UTF-8", "/gr%C3%B6%c3%9fe"},
		{"bytes that are no UTF-8", "/a\xffb\xc3"},
		{"encoded bytes that are none", "/a%FFb"},
		{"a fragment's sign", "/a#b?c#d"},
		{"a plus and a tilde", "/a+b~c"},
		{"an encoded NUL", "/a%00b"},
		{"an encoded line break", "/a%0d%0aX-Evil:%201"},
		{"an at sign", "/@evil.example/x"},
		{"a scheme within", "/https://evil.example/x"},
		{"an odd query", `/x?a=%zz&b=%&c;d&"<>^{|}` + "\xff"},
	}
	azure := &recorder{}
	s := start(t, azure.ServeHTTP)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			res := s.raw("GET " + test.target + " HTTP/1.1\nHost: localhost\n\n")
			if res.StatusCode != http.StatusOK {
				t.Fatalf("status %d: %s", res.StatusCode, res.body)
			}
			if got := azure.last(t).RequestURI; got != test.target {
				t.Errorf("the upstream got %q", got)
			}
		})
	}
}

// The one exception: net/http has no way to write such a path as it is.
func TestBehindTwoSlashesBytesOutsideOfURLsAreEncoded(t *testing.T) {
	azure := &recorder{}
	s := start(t, azure.ServeHTTP)
	s.raw("GET //größe/a%2Fb/{c} HTTP/1.1\nHost: localhost\n\n")
	if got := azure.last(t).RequestURI; got != "//gr%C3%B6%C3%9Fe/a%2Fb/%7Bc%7D" {
		t.Errorf("the upstream got %q", got)
	}
}

func TestPrefixBasePathAndAddedPath(t *testing.T) {
	tests := []struct{ name, prefix, base, path, asked, want string }{
		{"a prefix is removed", "/eastus", "", "", "/eastus/openai/v1?a=1", "/openai/v1?a=1"},
		{"a base path is put in front", "/", "/apim/x", "", "/openai", "/apim/x/openai"},
		{"a base path with a slash", "/", "/apim/", "", "/openai", "/apim/openai"},
		{"an added path follows the base", "/f", "/apim", "/models", "/f/chat", "/apim/models/chat"},
		{"two slashes stay two", "/f", "/apim", "", "/f//chat", "/apim//chat"},
		{"two slashes behind the prefix come first", "/f", "", "", "/f//chat", "//chat"},
		{"nothing behind the prefix", "/f", "", "", "/f?x=1", "/?x=1"},
		{"nothing behind the prefix, before a base", "/f", "/apim", "/models", "/f?x=1", "/apim/models?x=1"},
		{"an encoded base keeps its bytes", "/", "/a%2Fb", "", "/c%2Fd", "/a%2Fb/c%2Fd"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			azure := &recorder{}
			s := start(t, azure.ServeHTTP, func(c *setup) {
				c.Route.Prefix, c.Route.Path = test.prefix, test.path
				c.Route.Upstream = parse(t, c.Route.Upstream.String()+test.base)
			})
			s.raw("GET " + test.asked + " HTTP/1.1\nHost: localhost\n\n")
			if got := azure.last(t).RequestURI; got != test.want {
				t.Errorf("%s asks for %q, want %q", test.asked, got, test.want)
			}
		})
	}
}

func TestTargetsThatArePathsInDisguise(t *testing.T) {
	tests := []struct {
		name, line string
		status     int
		code, want string
	}{
		{"absolute form", "GET http://localhost/f/a%2Fb//c?x=%2F", 200, "", "/a%2Fb//c?x=%2F"},
		{"absolute form with odd bytes", `GET http://localhost/f/{a}|"b`, 200, "", `/{a}|"b`},
		{"absolute form of another host", "GET http://evil.example/f/x", 403, "host_refused", ""},
		{"absolute form without a path", "GET http://localhost", 400, "no_route", ""},
		{"absolute form without a route", "GET http://localhost/x", 400, "no_route", ""},
		{"CONNECT to a host", "CONNECT localhost:443", 400, "no_route", ""},
		{"CONNECT to a path", "CONNECT /f/x", 400, "no_route", ""},
		{"a star with another method", "GET *", 400, "no_route", ""},
		{"a path without a route", "GET /fx", 400, "no_route", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			azure := &recorder{}
			s := start(t, azure.ServeHTTP, func(c *setup) { c.Route.Prefix = "/f" })
			res := s.raw(test.line + " HTTP/1.1\nHost: localhost\n\n")
			if res.StatusCode != test.status || res.Header.Get("X-Entra-Sidecar-Error") != test.code {
				t.Errorf("status %d, code %q: %s", res.StatusCode, res.Header.Get("X-Entra-Sidecar-Error"), res.body)
			}
			if test.want != "" && azure.last(t).RequestURI != test.want {
				t.Errorf("the upstream got %q, want %q", azure.last(t).RequestURI, test.want)
			}
			if test.want == "" && len(azure.all()) > 0 {
				t.Errorf("the upstream got %q", azure.last(t).RequestURI)
			}
		})
	}
}

func TestOptionsStarReachesNoUpstream(t *testing.T) {
	azure := &recorder{}
	s := start(t, azure.ServeHTTP)
	s.raw("OPTIONS * HTTP/1.1\nHost: localhost\n\n")
	s.front.Config.DisableGeneralOptionsHandler = true
	if res := s.raw("OPTIONS * HTTP/1.1\nHost: localhost\n\n"); res.StatusCode != 400 {
		t.Errorf("status %d", res.StatusCode)
	}
	if len(azure.all()) > 0 {
		t.Error("it did")
	}
}

func TestRedirectsAreNotFollowedBySidecarOrPath(t *testing.T) {
	azure := &recorder{}
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		azure.record(r)
		w.Header().Set("Location", "https://evil.example/x")
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	for _, path := range []string{"/a", "//a/../b"} {
		res := s.raw("GET " + path + " HTTP/1.1\nHost: localhost\n\n")
		if res.StatusCode != 307 || res.Header.Get("Location") != "https://evil.example/x" {
			t.Errorf("%s: %d to %q", path, res.StatusCode, res.Header.Get("Location"))
		}
	}
	if n := len(azure.all()); n != 2 {
		t.Errorf("%d requests upstream", n)
	}
}

func TestRoutesNeverCrossHosts(t *testing.T) {
	east, west := &recorder{}, &recorder{}
	eastern, western := httptest.NewTLSServer(east), httptest.NewTLSServer(west)
	t.Cleanup(western.Close)
	s := startBefore(t, eastern, func(c *setup) {
		c.Routes = []Route{
			{Prefix: "/east", Upstream: parse(t, eastern.URL), Tokens: newTokens("east-token")},
			{Prefix: "/west", Upstream: parse(t, western.URL), Tokens: newTokens("west-token")},
		}
	})
	for _, path := range []string{"/east/x", "/east/../west/x", "/east//" + western.Listener.Addr().String() + "/x", "/east/%2e%2e/west"} {
		s.raw("GET " + path + " HTTP/1.1\nHost: " + western.Listener.Addr().String() + "\nX-Original-Url: /west/x\n\n")
	}
	s.raw("GET /west/x HTTP/1.1\nHost: localhost\n\n")
	for _, r := range east.all() {
		if r.Header.Get("Authorization") != "Bearer east-token" {
			t.Errorf("east got %q for %s", r.Header.Get("Authorization"), r.RequestURI)
		}
	}
	if len(east.all()) != 4 || len(west.all()) != 1 || west.last(t).Header.Get("Authorization") != "Bearer west-token" {
		t.Errorf("east got %d requests, west %d", len(east.all()), len(west.all()))
	}
}

func TestHostAndServerNameAreTheUpstreams(t *testing.T) {
	azure := &recorder{}
	upstream := httptest.NewUnstartedServer(azure)
	cert := certificateFor(t, "localhost")
	upstream.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	upstream.StartTLS()
	_, port, _ := strings.Cut(strings.TrimPrefix(upstream.URL, "https://"), ":")
	s := startBefore(t, upstream, func(c *setup) {
		c.Route.Upstream = parse(t, "https://localhost:"+port)
		c.Transport.TLS.RootCAs = x509.NewCertPool()
		c.Transport.TLS.RootCAs.AddCert(cert.Leaf)
	})
	s.raw("GET /x HTTP/1.1\nHost: 127.0.0.1:1234\nX-Forwarded-Host: evil.example\n\n")
	r := azure.last(t)
	if r.Host != "localhost:"+port || r.TLS.ServerName != "localhost" {
		t.Errorf("Host %q, server name %q", r.Host, r.TLS.ServerName)
	}
	if r.ProtoMajor != 1 {
		t.Errorf("HTTP/%d", r.ProtoMajor)
	}
}

// certificateFor makes a certificate that signs itself.
func certificateFor(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func TestARoutesHeadersReplaceTheClients(t *testing.T) {
	azure := &recorder{}
	s := start(t, azure.ServeHTTP, func(c *setup) {
		c.Route.Header = http.Header{
			"Ocp-Apim-Subscription-Key": {"of-the-route"}, "X-Team": {"a", "b"}, "Authorization": {"Basic of-the-route"},
		}
	})
	for range 2 { // the route's own header must not change by being used
		s.raw("GET /x HTTP/1.1\nHost: localhost\nOcp-Apim-Subscription-Key: canary\nX-Team: canary\nConnection: X-Team, Ocp-Apim-Subscription-Key\n\n")
		assertNoCanary(t, azure.last(t))
		h := azure.last(t).Header
		if h.Get("Ocp-Apim-Subscription-Key") != "of-the-route" || strings.Join(h["X-Team"], " ") != "a b" {
			t.Errorf("the upstream got %v", h)
		}
	}
}

func FuzzSetPath(f *testing.F) {
	for _, seed := range []string{"/a%2Fb", "//a%2Fb", "//ä%2F|", "///", "//[%25]!$&'()*+,;=:@~"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if _, err := url.ParseRequestURI(raw); err != nil || raw[0] != '/' || strings.Contains(raw, "?") {
			t.Skip("no server lets it in")
		}
		want := raw
		if strings.HasPrefix(raw, "//") {
			want = escapeForbidden(raw)
		}
		u := &url.URL{Scheme: "https", Host: "x"}
		setPath(u, raw)
		if got := u.RequestURI(); got != want {
			t.Errorf("%q becomes %q, want %q", raw, got, want)
		}
	})
}
