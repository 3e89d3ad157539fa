package proxy

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
)

var claimsParameter = regexp.MustCompile(`(?i)(?:^|[\s,])claims="([A-Za-z0-9+/_=-]+)"`)

// challenge returns the claims that a 401 asks a new token to satisfy, "" if it
// asks for none. Azure OpenAI is not known to send such a challenge; other
// services do, as described in
// https://learn.microsoft.com/entra/identity-platform/claims-challenge.
func challenge(h http.Header) string {
	for _, value := range h["Www-Authenticate"] {
		if !strings.Contains(value, "insufficient_claims") {
			continue
		}
		if match := claimsParameter.FindStringSubmatch(value); match != nil {
			return decodeClaims(match[1])
		}
	}
	return ""
}

// decodeClaims takes either alphabet of base64, padded or not, and nothing but
// a JSON object out of it.
func decodeClaims(encoded string) string {
	encoded = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(encoded, "="))
	decoded, err := base64.RawStdEncoding.DecodeString(encoded)
	if err != nil || len(decoded) == 0 || decoded[0] != '{' || !json.Valid(decoded) {
		return ""
	}
	return string(decoded)
}
