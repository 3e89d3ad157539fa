package tokencache

import "regexp"

var (
	// What MSAL appends when it cannot parse an answer: the whole answer, and
	// with it the token.
	rawAnswer = regexp.MustCompile(`(?s)\s*(json message bytes were|raw message was): .*`)

	jwt = regexp.MustCompile(`eyJ[\w-]{4,}(\.[\w-]*)*`)

	// A name, "=" or ":", and a value, in a form, in JSON or in prose.
	namedSecret = regexp.MustCompile(`(?i)((?:client_?secret|client_?assertion|(?:access|refresh|id)_?token|password|"token"|secret)\\?["']?\s*[=:]\s*\\?["']?)[^\s"'&,}\\]+`)

	bearer = regexp.MustCompile(`(?i)(bearer\s+)[\w.~+/-]{12,}=*`) // longer than a word of prose

	userinfo = regexp.MustCompile(`(://)[^/\s@"']+@`)
)

// redact removes what may be a secret from a text for people.
func redact(s string) string {
	s = rawAnswer.ReplaceAllString(s, "")
	s = jwt.ReplaceAllString(s, "[redacted]")
	s = namedSecret.ReplaceAllString(s, "$1[redacted]")
	s = bearer.ReplaceAllString(s, "$1[redacted]")
	return userinfo.ReplaceAllString(s, "$1[redacted]@")
}
