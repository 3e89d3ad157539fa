package proxy

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Guard decides whether a client may use the identity at all. It looks at
// nothing that would exempt a request from a check.
type Guard struct {
	// Handler gets the requests that pass, and counts and logs those that do not.
	Handler *Handler
	// Loopback says that the listener is bound to a loopback address. Then the
	// Host must name one as well: a web page whose name was rebound to
	// 127.0.0.1 carries its own name there.
	Loopback bool
	// Keys are the inbound keys, of which a request must show one, wherever
	// LiteLLM and the OpenAI clients put theirs: as api-key, x-api-key,
	// Ocp-Apim-Subscription-Key, bearer, or subprotocol of a WebSocket. None:
	// anyone who reaches the listener may ask.
	Keys []string
}

// ServeHTTP passes the request on or refuses it with 401 or 403.
func (g *Guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case fromWebPage(r.Header):
		g.Handler.refuse(w, r, errOriginRefused)
	case g.Loopback && !isLoopbackHost(r.Host):
		g.Handler.refuse(w, r, errHostRefused)
	case len(g.Keys) > 0 && !g.knows(r.Header):
		g.Handler.refuse(w, r, errInvalidInboundKey)
	default:
		g.Handler.ServeHTTP(w, r)
	}
}

// fromWebPage finds what only browsers send. No page may spend the identity of
// the machine on which it is looked at. Origin is absent from simple GETs, of
// images for example, but Sec-Fetch-Site is not, unless a person has typed the
// address (https://www.w3.org/TR/fetch-metadata/).
func fromWebPage(h http.Header) bool {
	site := h.Get("Sec-Fetch-Site")
	return len(h["Origin"]) > 0 || site != "" && site != "none"
}

// knows compares all keys with all that was shown, in constant time: their
// hashes have one length, and no match ends the loop early.
func (g *Guard) knows(h http.Header) bool {
	found := 0
	for _, shown := range shownKeys(h) {
		sum := sha256.Sum256([]byte(shown))
		for _, key := range g.Keys {
			want := sha256.Sum256([]byte(key))
			found |= subtle.ConstantTimeCompare(sum[:], want[:])
		}
	}
	return found == 1
}

func shownKeys(h http.Header) []string {
	var keys []string
	keys = append(keys, h["Api-Key"]...)
	keys = append(keys, h["X-Api-Key"]...)
	keys = append(keys, h["Ocp-Apim-Subscription-Key"]...)
	for _, protocols := range h["Sec-Websocket-Protocol"] {
		for protocol := range strings.SplitSeq(protocols, ",") {
			if key, ok := strings.CutPrefix(strings.TrimSpace(protocol), webSocketKey); ok {
				keys = append(keys, key)
			}
		}
	}
	for _, value := range h["Authorization"] {
		if scheme, token, ok := strings.Cut(value, " "); ok && strings.EqualFold(scheme, "bearer") {
			keys = append(keys, strings.TrimSpace(token))
		}
	}
	return keys
}

func isLoopbackHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if strings.EqualFold(host, "localhost") || host == "" {
		return host != ""
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
