package proxy

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestLocationsLeadThroughTheSidecar(t *testing.T) {
	const azure = "https://res.openai.azure.com"
	tests := []struct{ name, upstream, prefix, path, location, want string }{
		{"the upstream's URL", azure, "/", "", azure + "/openai/operations/1?api-version=2", "http://127.0.0.1:4001/openai/operations/1?api-version=2"},
		{"with a prefix", azure, "/eastus", "", azure + "/openai/x", "http://127.0.0.1:4001/eastus/openai/x"},
		{"with a prefix that has a slash", azure, "/eastus/", "", azure + "/openai/x", "http://127.0.0.1:4001/eastus/openai/x"},
		{"the root", azure, "/eastus", "", azure + "/", "http://127.0.0.1:4001/eastus/"},
		{"without a path", azure, "/eastus", "", azure, "http://127.0.0.1:4001/eastus"},
		{"without a path, with a query", azure, "/eastus", "", azure + "?a=1", "http://127.0.0.1:4001/eastus?a=1"},
		{"the default port written out", azure, "/", "", azure + ":443/x", "http://127.0.0.1:4001/x"},
		{"the default port on our side", azure + ":443", "/", "", azure + "/x", "http://127.0.0.1:4001/x"},
		{"in capitals", azure, "/", "", "HTTPS://RES.OpenAI.Azure.com/X", "http://127.0.0.1:4001/X"},
		{"every byte behind the host is kept", azure, "/e", "", azure + "//a%2Fb/{c}?x=%zz;y#f", "http://127.0.0.1:4001/e//a%2Fb/{c}?x=%zz;y#f"},
		{"without a scheme", azure, "/e", "", "//res.openai.azure.com/x", "http://127.0.0.1:4001/e/x"},
		{"a path", azure, "/e", "", "/openai/x?y", "/e/openai/x?y"},
		{"a path at the root", azure, "/", "", "/openai/x", "/openai/x"},
		{"a path that the base kept from being a host", azure + "/apim", "/", "", "/apim//evil.example/x", "http://127.0.0.1:4001//evil.example/x"},
		{"a path relative to the request", azure, "/e", "", "x/y", "x/y"},
		{"a query alone", azure, "/e", "", "?x", "?x"},
		{"a fragment alone", azure, "/e", "", "#x", "#x"},
		{"nothing", azure, "/e", "", "", ""},
		{"a port of its own", "https://127.0.0.1:8443", "/e", "", "https://127.0.0.1:8443/x", "http://127.0.0.1:4001/e/x"},
		{"IPv6", "https://[::1]:8443", "/e", "", "https://[::1]:8443/x", "http://127.0.0.1:4001/e/x"},
		{"plain http", "http://127.0.0.1:80", "/e", "", "http://127.0.0.1/x", "http://127.0.0.1:4001/e/x"},

		{"a base path", azure + "/apim", "/e", "", azure + "/apim/x", "http://127.0.0.1:4001/e/x"},
		{"a base path with a slash", azure + "/apim/", "/e", "", azure + "/apim/x", "http://127.0.0.1:4001/e/x"},
		{"a base path alone", azure + "/apim", "/e", "", azure + "/apim", "http://127.0.0.1:4001/e"},
		{"a base path and a query", azure + "/apim", "/e", "", azure + "/apim?x", "http://127.0.0.1:4001/e?x"},
		{"an added path", azure + "/apim", "/e", "/models", azure + "/apim/models/x", "http://127.0.0.1:4001/e/x"},
		{"a path with a base", azure + "/apim", "/e", "/models", "/apim/models/x", "/e/x"},
		{"the base path at the root", azure + "/apim", "/", "", "/apim", "/"},
		{"the base path and a query at the root", azure + "/apim", "/", "", "/apim?x", "/?x"},
		{"beside the base path", azure + "/apim", "/e", "", azure + "/other/x", azure + "/other/x"},
		{"a longer name than the base path's", azure + "/apim", "/e", "", azure + "/apimx/y", azure + "/apimx/y"},
		{"beside the added path", azure, "/e", "/models", "/openai/x", "/openai/x"},

		{"another host", azure, "/e", "", "https://other.openai.azure.com/x", "https://other.openai.azure.com/x"},
		{"another host that begins alike", azure, "/e", "", azure + ".evil.example/x", azure + ".evil.example/x"},
		{"another host without a scheme", azure, "/e", "", "//evil.example/x", "//evil.example/x"},
		{"another port", azure, "/e", "", azure + ":8443/x", azure + ":8443/x"},
		{"another scheme", azure, "/e", "", "http://res.openai.azure.com/x", "http://res.openai.azure.com/x"},
		{"another scheme with our port", azure, "/e", "", "http://res.openai.azure.com:443/x", "http://res.openai.azure.com:443/x"},
		{"a scheme that is not for us", azure, "/e", "", "ftp://res.openai.azure.com/x", "ftp://res.openai.azure.com/x"},
		{"user info", azure, "/e", "", "https://u:p@res.openai.azure.com/x", "https://u:p@res.openai.azure.com/x"},
		{"user info of another host", azure, "/e", "", "https://res.openai.azure.com@evil.example/x", "https://res.openai.azure.com@evil.example/x"},
		{"empty user info", azure, "/e", "", "https://@res.openai.azure.com/x", "https://@res.openai.azure.com/x"},
		{"an opaque URL", azure, "/e", "", "mailto:a@b", "mailto:a@b"},
		{"no URL", azure, "/e", "", "https://[::1", "https://[::1"},
		{"a bad escape", azure, "/e", "", azure + "/%zz", azure + "/%zz"},
		{"a bad port", azure, "/e", "", azure + ":x/y", azure + ":x/y"},
		{"blanks", azure, "/e", "", " " + azure + "/x", " " + azure + "/x"},
		{"a colon in the first segment", azure, "/e", "", "a:b/c", "a:b/c"},
		{"an encoded host", azure, "/e", "", "https://res%2eopenai.azure.com/x", "https://res%2eopenai.azure.com/x"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			x := &exchange{
				inbound: &http.Request{Host: "127.0.0.1:4001"},
				route:   &Route{Prefix: test.prefix, Path: test.path, Upstream: parse(t, test.upstream)},
			}
			if got := rewriteLocation(x, test.location); got != test.want {
				t.Errorf("%q becomes %q, want %q", test.location, got, test.want)
			}
		})
	}
}

func TestWhichHeadersAreLocations(t *testing.T) {
	for _, frontTLS := range []bool{false, true} {
		var own string
		s := start(t, func(w http.ResponseWriter, r *http.Request) {
			for _, name := range []string{"Operation-Location", "Location", "azure-asyncoperation", "Content-Location", "Link", "X-Location"} {
				w.Header().Set(name, own+"/openai/operations/1")
			}
			w.Header().Add("Location", "/second")
			w.WriteHeader(http.StatusAccepted)
		}, func(c *setup) { c.Route.Prefix, c.FrontTLS = "/eastus", frontTLS })
		own = s.upstream.URL
		h := s.post("/eastus/openai/x", "{}").Header
		for _, name := range []string{"Operation-Location", "Location", "Azure-Asyncoperation"} {
			if got, want := h.Get(name), s.url+"/eastus/openai/operations/1"; got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if got := h["Location"]; len(got) != 2 || got[1] != "/eastus/second" {
			t.Errorf("Location: %q", got)
		}
		for _, name := range []string{"Content-Location", "Link", "X-Location"} {
			if got := h.Get(name); !strings.HasPrefix(got, s.upstream.URL) {
				t.Errorf("%s: %q was rewritten", name, got)
			}
		}
	}
}

func TestALocationNamesTheSidecarAsTheClientDoes(t *testing.T) {
	var own string
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Operation-Location", own+"/operations/1")
		w.WriteHeader(http.StatusAccepted)
	}, func(c *setup) { c.Guard.Loopback = false })
	own = s.upstream.URL
	for host, want := range map[string]string{
		"localhost:4001": "http://localhost:4001/operations/1",
		"[::1]:4001":     "http://[::1]:4001/operations/1",
		"sidecar":        "http://sidecar/operations/1",
		"":               s.upstream.URL + "/operations/1", // there is nothing to say
	} {
		res := s.raw("GET /x HTTP/1.1\nHost: " + host + "\n\n")
		if got := res.Header.Get("Operation-Location"); got != want {
			t.Errorf("Host %q: %q, want %q", host, got, want)
		}
	}
}

// A client that follows the operation's location comes back to the sidecar,
// which asks for the very URL that Azure had named.
func TestPollingAnOperationThroughTheSidecar(t *testing.T) {
	azure := &recorder{}
	var own string
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		azure.record(r)
		w.Header().Set("Operation-Location", own+"/apim/models/results/a%2Fb?api-version=1")
		w.WriteHeader(http.StatusAccepted)
	}, func(c *setup) {
		c.Route = Route{Prefix: "/ocr", Path: "/models", Upstream: parse(t, c.Route.Upstream.String()+"/apim"), Tokens: c.Route.Tokens}
	})
	own = s.upstream.URL
	location := s.post("/ocr/doc:analyze", "{}").Header.Get("Operation-Location")
	s.get(strings.TrimPrefix(location, s.url))
	if got := azure.last(t).RequestURI; got != "/apim/models/results/a%2Fb?api-version=1" {
		t.Errorf("%q led to %q", location, got)
	}
}

func FuzzRewriteLocation(f *testing.F) {
	for _, seed := range []string{
		"https://res.openai.azure.com/apim/models/x", "//res.openai.azure.com", "https://res.openai.azure.com:443", "/apim/models",
		"https://u@res.openai.azure.com/", "https://res.openai.azure.com?x", "///", "https://[fe80::1%25en0]/", "https://res%2eopenai.azure.com/x",
	} {
		f.Add(seed)
	}
	upstream, _ := url.Parse("https://res.openai.azure.com/apim")
	f.Fuzz(func(t *testing.T, location string) {
		for _, prefix := range []string{"/", "/e"} {
			x := &exchange{
				inbound: &http.Request{Host: "127.0.0.1:4001"},
				route:   &Route{Prefix: prefix, Path: "/models", Upstream: upstream},
			}
			got := rewriteLocation(x, location)
			if got == location {
				continue
			}
			if !strings.HasPrefix(got, "http://127.0.0.1:4001"+prefix) && !strings.HasPrefix(got, prefix) {
				t.Errorf("%q became %q", location, got)
			}
			if u, err := url.Parse(got); err != nil || u.Host != "" && u.Host != "127.0.0.1:4001" {
				t.Errorf("%q became %q: %v", location, got, err)
			}
		}
	})
}
