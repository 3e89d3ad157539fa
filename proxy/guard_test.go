package proxy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestGuard(t *testing.T) {
	keys := []string{"first-key", "second key with spaces"}
	tests := []struct {
		name     string
		loopback bool
		keys     []string
		host     string
		header   string // lines
		want     string // error code, "" is let in
	}{
		{"a plain client", true, nil, "127.0.0.1:4001", "", ""},
		{"localhost", true, nil, "localhost:4001", "", ""},
		{"localhost in capitals, without a port", true, nil, "LOCALHOST", "", ""},
		{"another address of loopback", true, nil, "127.8.9.1", "", ""},
		{"IPv6", true, nil, "[::1]:4001", "", ""},
		{"IPv6 without a port", true, nil, "[::1]", "", ""},
		{"IPv6, written long", true, nil, "[0:0:0:0:0:0:0:1]:4001", "", ""},
		{"IPv4 within IPv6", true, nil, "[::ffff:127.0.0.1]:4001", "", ""},

		{"a name rebound to loopback", true, nil, "evil.example:4001", "", "host_refused"},
		{"a name that begins like loopback", true, nil, "127.0.0.1.evil.example", "", "host_refused"},
		{"a name that begins like localhost", true, nil, "localhost.evil.example:4001", "", "host_refused"},
		{"a name that ends like localhost", true, nil, "evil-localhost", "", "host_refused"},
		{"another address", true, nil, "10.0.0.1:4001", "", "host_refused"},
		{"the unspecified address", true, nil, "0.0.0.0:4001", "", "host_refused"},
		{"the unspecified address of IPv6", true, nil, "[::]:4001", "", "host_refused"},
		{"another address within IPv6", true, nil, "[::ffff:10.0.0.1]:4001", "", "host_refused"},
		{"a number for an address", true, nil, "2130706433", "", "host_refused"},
		{"a port alone", true, nil, ":4001", "", "host_refused"},
		{"no host", true, nil, "", "", "host_refused"},
		{"any name where it listens openly", false, keys, "proxy.example", "api-key: first-key\n", ""},

		{"an origin", true, nil, "localhost", "Origin: https://evil.example\n", "origin_refused"},
		{"an origin on loopback", true, nil, "localhost", "Origin: http://localhost:4001\n", "origin_refused"},
		{"the origin null", true, nil, "localhost", "Origin: null\n", "origin_refused"},
		{"an empty origin", true, nil, "localhost", "Origin:\n", "origin_refused"},
		{"an origin in capitals", true, nil, "localhost", "ORIGIN: x\n", "origin_refused"},
		{"an origin beside a good key", false, keys, "x", "Origin: x\napi-key: first-key\n", "origin_refused"},
		{"an origin that Connection names", true, nil, "localhost", "Connection: Origin\nOrigin: x\n", "origin_refused"},

		{"the key as api-key", true, keys, "localhost", "api-key: first-key\n", ""},
		{"the key as x-api-key", true, keys, "localhost", "X-API-KEY: first-key\n", ""},
		{"the key as bearer", true, keys, "localhost", "Authorization: Bearer first-key\n", ""},
		{"the key as bearer in small letters", true, keys, "localhost", "authorization: bearer first-key\n", ""},
		{"the key behind two blanks", true, keys, "localhost", "Authorization: Bearer  first-key\n", ""},
		{"the second key", true, keys, "localhost", "api-key: second key with spaces\n", ""},
		{"a good key among bad ones", true, keys, "localhost", "api-key: bad\nx-api-key: first-key\n", ""},
		{"a good key twice", true, keys, "localhost", "api-key: first-key\nAuthorization: Bearer first-key\n", ""},
		{"both keys", true, keys, "localhost", "api-key: first-key\nx-api-key: second key with spaces\n", ""},

		{"no key", true, keys, "localhost", "", "invalid_inbound_key"},
		{"no key where it listens openly", false, keys, "x", "", "invalid_inbound_key"},
		{"an empty key", true, keys, "localhost", "api-key:\nx-api-key:\nAuthorization: Bearer \n", "invalid_inbound_key"},
		{"a wrong key", true, keys, "localhost", "api-key: wrong\n", "invalid_inbound_key"},
		{"the beginning of a key", true, keys, "localhost", "api-key: first-ke\n", "invalid_inbound_key"},
		{"a key and more", true, keys, "localhost", "api-key: first-keyy\n", "invalid_inbound_key"},
		{"a key in another case", true, keys, "localhost", "api-key: FIRST-KEY\n", "invalid_inbound_key"},
		{"keys with a comma between", true, keys, "localhost", "api-key: first-key, second\n", "invalid_inbound_key"},
		{"a key without a scheme", true, keys, "localhost", "Authorization: first-key\n", "invalid_inbound_key"},
		{"a key of another scheme", true, keys, "localhost", "Authorization: Basic first-key\n", "invalid_inbound_key"},
		{"a key with an underscore's header", true, keys, "localhost", "api_key: first-key\n", "invalid_inbound_key"},
		{"a key in the cookie", true, keys, "localhost", "Cookie: api-key=first-key\n", "invalid_inbound_key"},
		{"a header that would exempt it", true, keys, "localhost", "X-Forwarded-For: 127.0.0.1\nX-Health-Check: 1\nUser-Agent: kube-probe/1.30\n", "invalid_inbound_key"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			azure := &recorder{}
			s := start(t, azure.ServeHTTP, func(c *setup) { c.Guard = Guard{Loopback: test.loopback, Keys: test.keys} })
			res := s.raw("GET /x HTTP/1.1\nHost: " + test.host + "\n" + test.header + "\n")
			if got := res.Header.Get("X-Entra-Sidecar-Error"); got != test.want {
				t.Errorf("status %d, code %q: %s", res.StatusCode, got, res.body)
			}
			if reached := len(azure.all()) > 0; reached != (test.want == "") {
				t.Errorf("the upstream was reached: %t", reached)
			}
			if test.want != "" && s.tokens.wasAsked() {
				t.Error("a token was fetched for a client that may not ask")
			}
			if reached := len(azure.all()) > 0; reached && test.keys != nil {
				for name, values := range azure.last(t).Header {
					if strings.Contains(strings.Join(values, ""), "first-key") {
						t.Errorf("the inbound key reached the upstream as %s", name)
					}
				}
			}
		})
	}
}

// A request of HTTP/1.0 may come without a Host at all.
func TestGuardRefusesARequestWithoutHostOnLoopback(t *testing.T) {
	s := start(t, (&recorder{}).ServeHTTP)
	if res := s.raw("GET /x HTTP/1.0\n\n"); res.Header.Get("X-Entra-Sidecar-Error") != "host_refused" {
		t.Errorf("status %d: %s", res.StatusCode, res.body)
	}
}

func TestGuardRefusesAWebSocketFromAPage(t *testing.T) {
	azure := &recorder{}
	s := start(t, azure.ServeHTTP)
	res := s.raw("GET /x HTTP/1.1\nHost: localhost\nOrigin: https://evil.example\nConnection: Upgrade\nUpgrade: websocket\n" +
		"Sec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n\n")
	if res.StatusCode != http.StatusForbidden || len(azure.all()) > 0 {
		t.Errorf("status %d", res.StatusCode)
	}
}

func TestWhatTheGuardRefusesIsCountedAndLogged(t *testing.T) {
	azure := &recorder{}
	s := start(t, azure.ServeHTTP, func(c *setup) { c.Guard = Guard{Keys: []string{"the-one-inbound-key"}} })
	res := s.raw("GET /x HTTP/1.1\nHost: localhost\napi-key: canary-of-a-wrong-key\n\n")
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("status %d", res.StatusCode)
	}
	if entry := s.accessLog(); entry["code"] != "invalid_inbound_key" || strings.Contains(fmt.Sprint(entry), "canary") {
		t.Errorf("logged %v", entry)
	}
	if got := s.metric("entra_sidecar_requests_total", "code", "401", "method", "GET"); got != 1 {
		t.Errorf("counted %v times", got)
	}
}
