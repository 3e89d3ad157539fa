package proxy

import (
	"net/http"
	"net/url"
	"strings"
)

// credentialHeaders never leave with a request, whoever set them: a key beside
// a token decides over it at Azure, and a cookie is nobody's business there.
// What a proxy adds about the client stays inside as well.
var credentialHeaders = map[string]bool{
	"api-key":                   true,
	"x-api-key":                 true,
	"ocp-apim-subscription-key": true,
	"authorization":             true,
	"proxy-authorization":       true,
	"cookie":                    true,
	"cookie2":                   true,
	"ocp-apim-trace":            true, // its answer may show the request's head
	"forwarded":                 true,
	"x-real-ip":                 true,
}

// webSocketKey marks a subprotocol that carries an API key: browsers cannot set
// headers on a WebSocket, so OpenAI's own clients put it there.
const webSocketKey = "openai-insecure-api-key."

// stripHeader removes the client's credentials from h. Servers behind Azure's
// gateways may fold "_" into "-" (CVE-2025-64484 was a proxy that did not think
// of that), so both spell the same name here.
func stripHeader(h http.Header) {
	for name := range h {
		if isCredential(name) {
			delete(h, name)
		}
	}
	if protocols := h["Sec-Websocket-Protocol"]; len(protocols) > 0 {
		h["Sec-Websocket-Protocol"] = stripProtocols(protocols)
	}
}

// isCredential allocates nothing: it sees every header of every request.
func isCredential(name string) bool {
	const longest = len("ocp-apim-subscription-key")
	var buf [longest]byte
	if len(name) > longest {
		name = name[:len("x-forwarded-")]
		return foldName(buf[:0], name) == "x-forwarded-"
	}
	folded := foldName(buf[:0], name)
	return credentialHeaders[folded] || strings.HasPrefix(folded, "x-forwarded-")
}

func foldName(buf []byte, name string) string {
	for i := range len(name) {
		c := name[i]
		switch {
		case c == '_':
			c = '-'
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		}
		buf = append(buf, c)
	}
	return string(buf)
}

// stripProtocols leaves the lines as they are, unless there is a key in them.
func stripProtocols(lines []string) []string {
	var kept []string
	found := false
	for protocol := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		protocol = strings.TrimSpace(protocol)
		switch {
		case strings.HasPrefix(strings.ToLower(protocol), webSocketKey):
			found = true
		case protocol != "":
			kept = append(kept, protocol)
		}
	}
	switch {
	case !found:
		return lines
	case kept == nil:
		return nil
	}
	return []string{strings.Join(kept, ", ")}
}

// stripQuery removes the parameters that carry a key or a token and leaves
// every other byte of the query as it is. Parameters end at ";" too, as some
// servers have it.
func stripQuery(raw string) string {
	if !mayHoldKey(raw) {
		return raw
	}
	var kept strings.Builder
	for rest := raw; rest != ""; {
		end := len(rest) // of the pair, which takes the separator before it along
		if i := strings.IndexAny(rest[1:], "&;"); i >= 0 {
			end = 1 + i
		}
		if pair := rest[:end]; !isKeyParameter(strings.TrimLeft(pair, "&;")) {
			kept.WriteString(pair)
		}
		rest = rest[end:]
	}
	query := kept.String()
	if query != "" && isSeparator(query[0]) && !isSeparator(raw[0]) {
		return query[1:] // the first pair is gone
	}
	return query
}

func isSeparator(c byte) bool { return c == '&' || c == ';' }

// mayHoldKey is a cheap look before taking the query apart: every such name has
// a "k" or a "z", unless "%" hides it.
func mayHoldKey(raw string) bool { return strings.ContainsAny(raw, "%kKzZ") }

func isKeyParameter(pair string) bool {
	name, _, _ := strings.Cut(pair, "=")
	if decoded, err := url.QueryUnescape(name); err == nil {
		name = decoded
	}
	switch strings.ToLower(strings.ReplaceAll(strings.TrimSpace(name), "_", "-")) {
	case "api-key", "x-api-key", "subscription-key", "ocp-apim-subscription-key", "authorization":
		return true
	}
	return false
}
