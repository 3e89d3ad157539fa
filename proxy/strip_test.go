package proxy

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestNoCredentialOfTheClientReachesTheUpstream(t *testing.T) {
	tests := map[string]string{
		"api-key":                          "api-key: canary\n",
		"api-key in capitals":              "API-KEY: canary\n",
		"api-key with an underscore":       "api_key: canary\n",
		"api-key twice":                    "api-key: canary\nApi-Key: canary\n",
		"x-api-key":                        "X-Api-Key: canary\n",
		"x-api-key with underscores":       "x_api_key: canary\n",
		"a subscription key":               "Ocp-Apim-Subscription-Key: canary\n",
		"a subscription key, mixed":        "ocp_apim-subscription_KEY: canary\n",
		"Authorization":                    "Authorization: Bearer canary\n",
		"Authorization in small letters":   "authorization: Bearer canary\n",
		"Authorization twice":              "Authorization: Bearer canary\nauthorization: Basic canary\n",
		"Proxy-Authorization":              "Proxy-Authorization: Basic canary\n",
		"Proxy-Authorization, underscored": "Proxy_Authorization: Basic canary\n",
		"a cookie":                         "Cookie: session=canary\n",
		"several cookies":                  "cookie: a=canary\nCOOKIE: b=canary\n",
		"Cookie2":                          "Cookie2: canary\n",
		"Forwarded":                        "Forwarded: for=canary\n",
		"X-Forwarded-For":                  "X-Forwarded-For: canary\n",
		"X-Forwarded-For, underscored":     "X_Forwarded_For: canary\n",
		"X-Forwarded-Host":                 "X-Forwarded-Host: canary\n",
		"X-Forwarded-Proto":                "X-Forwarded-Proto: canary\n",
		"any other X-Forwarded":            "X-Forwarded-Client-Certificate-Whatever: canary\n",
		"X-Real-Ip":                        "X-Real-Ip: canary\n",
		"X-Real-Ip, underscored":           "x_real-ip: canary\n",
	}
	for name, header := range tests {
		t.Run(name, func(t *testing.T) {
			azure := &recorder{}
			s := start(t, azure.ServeHTTP)
			res := s.raw("POST /openai/x HTTP/1.1\nHost: localhost\nX-Kept: 1\n" + header + "Content-Length: 2\n\n{}")
			if res.StatusCode != http.StatusOK {
				t.Fatalf("status %d", res.StatusCode)
			}
			assertNoCanary(t, azure.last(t))
			if got := azure.last(t).Header.Get("X-Kept"); got != "1" {
				t.Errorf("X-Kept = %q, other headers must pass", got)
			}
		})
	}
}

// assertNoCanary looks for the canary everywhere, and for our token in one place.
func assertNoCanary(t *testing.T, r seen) {
	t.Helper()
	for name, values := range r.Header {
		if strings.Contains(name+strings.Join(values, " "), "canary") {
			t.Errorf("%s: %s reached the upstream", name, values)
		}
	}
	for name, values := range r.Trailer {
		if strings.Contains(strings.Join(values, " "), "canary") {
			t.Errorf("trailer %s: %s reached the upstream", name, values)
		}
	}
	if strings.Contains(r.RequestURI, "canary") {
		t.Errorf("target %s reached the upstream", r.RequestURI)
	}
	if got := r.Header["Authorization"]; !slices.Equal(got, []string{"Bearer token-1"}) {
		t.Errorf("Authorization = %q, want our token once", got)
	}
}

func TestTheTokenSurvivesAConnectionHeaderThatNamesIt(t *testing.T) {
	for _, connection := range []string{"Authorization", "authorization, api-key", "close, AUTHORIZATION", "keep-alive, Authorization,,"} {
		t.Run(connection, func(t *testing.T) {
			azure := &recorder{}
			s := start(t, azure.ServeHTTP)
			s.raw("GET /x HTTP/1.1\nHost: localhost\nConnection: " + connection + "\nAuthorization: Bearer canary\napi-key: canary\n\n")
			assertNoCanary(t, azure.last(t))
		})
	}
}

func TestNothingIsAddedToARequest(t *testing.T) {
	azure := &recorder{}
	s := start(t, azure.ServeHTTP)
	s.raw("GET /x HTTP/1.1\nHost: localhost\n\n")
	var names []string
	for name := range azure.last(t).Header {
		names = append(names, name)
	}
	if !slices.Equal(names, []string{"Authorization"}) {
		t.Errorf("the upstream got %v, want Authorization alone: no User-Agent, no Accept-Encoding", names)
	}
}

func TestTrailersCarryNoCredential(t *testing.T) {
	const request = "POST /x HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n" +
		"Trailer: X-Checksum, Authorization, api-key\n\n" +
		"2\n{}\n0\nX-Checksum: 7\nAuthorization: Bearer canary\nApi-Key: canary\nX_Forwarded_For: canary\n\n"
	azure := &recorder{}
	s := start(t, azure.ServeHTTP)
	s.raw(request)
	assertNoCanary(t, azure.last(t))
	if got := azure.last(t).Trailer.Get("X-Checksum"); got != "7" {
		t.Errorf("X-Checksum = %q, other trailers must pass", got)
	}
	if got := azure.last(t).body; got != "{}" {
		t.Errorf("body %q", got)
	}
}

func TestSubprotocolsLoseTheirKeyAndNothingElse(t *testing.T) {
	tests := []struct {
		name       string
		sent, want []string
	}{
		{"none", nil, nil},
		{"one without a key", []string{"realtime"}, []string{"realtime"}},
		{"several without a key keep their bytes", []string{"realtime,x ,  y"}, []string{"realtime,x ,  y"}},
		{"several lines without a key keep them", []string{"realtime", "x"}, []string{"realtime", "x"}},
		{"a key in between", []string{"realtime, openai-insecure-api-key.canary, openai-beta.realtime-v1"}, []string{"realtime, openai-beta.realtime-v1"}},
		{"a key in another case", []string{"realtime, OpenAI-Insecure-API-Key.canary"}, []string{"realtime"}},
		{"a key alone", []string{"openai-insecure-api-key.canary"}, nil},
		{"a key on a line of its own", []string{"realtime", "openai-insecure-api-key.canary", "x"}, []string{"realtime, x"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := http.Header{}
			if test.sent != nil {
				h["Sec-Websocket-Protocol"] = test.sent
			}
			stripHeader(h)
			if got := h["Sec-Websocket-Protocol"]; !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestTheQueryLosesKeysAndKeepsEveryOtherByte(t *testing.T) {
	tests := []struct{ name, sent, want string }{
		{"empty", "", ""},
		{"nothing to remove", "api-version=2024-10-21&a=%20+;x&&=&b", "api-version=2024-10-21&a=%20+;x&&=&b"},
		{"only the key", "api-key=canary", ""},
		{"the key without a value", "api-key", ""},
		{"the key first", "api-key=canary&a=1", "a=1"},
		{"the key last", "a=1&api-key=canary", "a=1"},
		{"the key in the middle", "a=1&api-key=canary&b=2", "a=1&b=2"},
		{"the key twice", "api-key=canary&a=1&api-key=canary", "a=1"},
		{"the subscription key", "subscription-key=canary&a=1", "a=1"},
		{"the names of credential headers", "x-api-key=canary&ocp-apim-subscription-key=canary&authorization=canary&a=1", "a=1"},
		{"names that are no credentials stay", "cookie=1&forwarded=2&x-real-ip=3&k=%20", "cookie=1&forwarded=2&x-real-ip=3&k=%20"},
		{"mixed case", "Api-KEY=canary&SUBSCRIPTION-key=canary&a=1", "a=1"},
		{"underscores", "api_key=canary&subscription_key=canary&a=1", "a=1"},
		{"percent-encoded", "%61pi%2Dkey=canary&a=1", "a=1"},
		{"percent-encoded throughout", "%61%70%69%2d%6b%65%79=canary&a=1", "a=1"},
		{"percent-encoded underscore", "api%5Fkey=canary&a=1", "a=1"},
		{"spaces around the name", "+api-key=canary&api-key%20=canary&a=1", "a=1"},
		{"behind a semicolon", "a=1;api-key=canary", "a=1"},
		{"before a semicolon", "api-key=canary;a=1", "a=1"},
		{"between semicolons", "a=1;api-key=canary;b=2&c=3", "a=1;b=2&c=3"},
		{"a value that names it stays", "a=api-key&b=%61pi-key", "a=api-key&b=%61pi-key"},
		{"names that only begin alike stay", "api-keys=1&my-api-key=2&api-key.x=3", "api-keys=1&my-api-key=2&api-key.x=3"},
		{"the rest keeps its encoding", "a=%7E%7e+%20&api-key=canary&b=ä;c=%zz", "a=%7E%7e+%20&b=ä;c=%zz"},
		{"the rest keeps empty pairs", "&&a&api-key=canary&&=", "&&a&&="},
		{"a name that cannot be decoded stays", "api-key%=1&%zz=k", "api-key%=1&%zz=k"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := stripQuery(test.sent); got != test.want {
				t.Errorf("stripQuery(%q) = %q, want %q", test.sent, got, test.want)
			}
		})
	}
}

func TestTheQueryOnTheWire(t *testing.T) {
	tests := []struct{ name, sent, want string }{
		{"a semicolon and an odd escape survive", "/x?a=1;b=%zz&api-version=1", "/x?a=1;b=%zz&api-version=1"},
		{"a bare question mark survives", "/x?", "/x?"},
		{"two question marks survive", "/x??a", "/x??a"},
		{"an encoded key is gone", "/x?a=%2F&%61pi-Key=canary", "/x?a=%2F"},
		{"of a key alone no question mark remains", "/x?api-key=canary", "/x"},
	}
	azure := &recorder{}
	s := start(t, azure.ServeHTTP)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s.raw("GET " + test.sent + " HTTP/1.1\nHost: localhost\n\n")
			if got := azure.last(t).RequestURI; got != test.want {
				t.Errorf("the upstream got %q, want %q", got, test.want)
			}
		})
	}
}

func FuzzStripQuery(f *testing.F) {
	for _, seed := range []string{"", "a=1&api-key=k", "a;b;%61pi-key=;", "&;&;=", "api-key;api-key"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got := stripQuery(raw)
		if again := stripQuery(got); again != got {
			t.Errorf("stripQuery(%q) = %q, and of that %q", raw, got, again)
		}
		for _, pair := range strings.FieldsFunc(got, func(r rune) bool { return r == '&' || r == ';' }) {
			if isKeyParameter(pair) {
				t.Errorf("stripQuery(%q) = %q keeps a key", raw, got)
			}
		}
	})
}

func TestIsCredential(t *testing.T) {
	tests := map[string]bool{
		"Api-Key": true, "api_key": true, "API_KEY": true, "X-Api-Key": true, "x_api-key": true,
		"Ocp-Apim-Subscription-Key": true, "OCP_APIM_SUBSCRIPTION_KEY": true,
		"Authorization": true, "Proxy_Authorization": true, "Cookie": true, "Forwarded": true,
		"X-Forwarded-": true, "x_forwarded_for": true, "X-Forwarded-" + strings.Repeat("y", 100): true, "X-Real_ip": true,

		"": false, "A": false, "Api": false, "Apikey": false, "Api-Key-": false, "-Api-Key": false, "Set-Cookie": false,
		"Authorizations": false, "X-Forwarded": false, "X-Ms-Client-Request-Id": false,
		"Ocp-Apim-Subscription-Key2": false, "Ocp-Apim-Subscription-Ke": false, strings.Repeat("x", 200): false,
	}
	for name, want := range tests {
		if got := isCredential(name); got != want {
			t.Errorf("isCredential(%q) = %t", name, got)
		}
	}
}

// What runs for each request, whatever it carries, must not make garbage.
func TestTheHotHelpersDoNotAllocate(t *testing.T) {
	header := http.Header{
		"Content-Type": {"application/json"}, "User-Agent": {"OpenAI/Python"}, "Accept-Encoding": {"gzip"},
		"X-Ms-Client-Request-Id-That-Is-Long": {"1"}, "Openai-Organization": {"x"},
	}
	table := routeTable{{Prefix: "/eastus"}, {Prefix: "/westus"}, {Prefix: "/"}}
	request := &http.Request{RequestURI: "/westus/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"}
	tests := map[string]func(){
		"isCredential": func() {
			isCredential("Ocp-Apim-Subscription-Key")
			isCredential("X-Forwarded-For-Something-Long-Indeed")
			isCredential("Content-Type")
		},
		"stripHeader":    func() { stripHeader(header) },
		"stripQuery":     func() { stripQuery("api-version=2024-10-21") },
		"rawPath":        func() { rawPath(request) },
		"match":          func() { table.match("/westus/openai/v1/responses") },
		"isLoopbackHost": func() { isLoopbackHost("127.0.0.1:4001"); isLoopbackHost("localhost:4001"); isLoopbackHost("[::1]:1") },
		"isWebSocket":    func() { isWebSocket(header) },
		"frames.scan":    func() { new(frames).scan(goingAway, false) },
	}
	for name, call := range tests {
		t.Run(name, func(t *testing.T) {
			if n := testing.AllocsPerRun(100, call); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}
