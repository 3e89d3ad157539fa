package tokencache

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// A Token is one access token, as immutable as it is secret: it offers its
// header value and its claims, and every attempt to print, log or marshal it
// shows its expiry only.
type Token struct {
	// "Bearer " and the token, joined once and not per request. Behind a
	// pointer because fmt's error path (%p of a struct) ignores methods and
	// walks the fields, but follows no pointer.
	authorization *string

	expiresOn time.Time
	expires   deadline
	claims    Claims
}

// NewToken returns the token with the given value, obtained now and valid
// until expiresOn. The claims of a JWT are decoded as far as they can be; an
// opaque value has none.
func NewToken(value string, expiresOn time.Time) *Token {
	now := time.Now()
	authorization := "Bearer " + value
	return &Token{
		authorization: &authorization,
		expiresOn:     expiresOn.Round(0),
		expires:       deadline{wall: expiresOn.Round(0), mono: now.Add(expiresOn.Round(0).Sub(now.Round(0)))},
		claims:        decodeClaims(value),
	}
}

// Authorization returns the value of the Authorization header.
func (t *Token) Authorization() string { return *t.authorization }

// ExpiresOn returns the moment from which the token must not be sent.
func (t *Token) ExpiresOn() time.Time { return t.expiresOn }

// Claims returns what the token says about itself, unverified. It is the zero
// value for a token that is not a JWT.
func (t *Token) Claims() Claims { return t.claims }

// usable reports whether there is a token and it has not expired on either
// clock. It runs once for each request.
func (t *Token) usable(now time.Time) bool {
	return t != nil && !t.expires.reached(now)
}

// same reports whether both are the same token as far as Azure can tell.
func (t *Token) same(u *Token) bool {
	return t != nil && u != nil && *t.authorization == *u.authorization
}

// String describes the token without giving it away.
func (t Token) String() string {
	return "[token expiring " + t.expiresOn.UTC().Format(time.RFC3339) + "]"
}

// Format makes every fmt verb print what String does: without it %d or %x
// would walk the fields.
func (t Token) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, t.String()) }

// MarshalText does the same for JSON, YAML and the log encoders.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// A deadline is a moment on both of the machine's clocks.
//
// The wall clock alone is not enough: set back by an hour it would keep an
// expired token alive for that hour. The monotonic clock alone is not enough
// either: CLOCK_MONOTONIC stands still while the machine is suspended
// (golang/go#24595, golang/go#36141), so a laptop would wake up to a token
// that expired overnight. What came first on either clock has come.
type deadline struct {
	wall time.Time // without a monotonic reading, so that comparing uses the wall clock
	mono time.Time // with one, so that comparing uses the monotonic clock
}

// after returns the moment d from now.
func after(now time.Time, d time.Duration) deadline {
	return deadline{wall: now.Add(d).Round(0), mono: now.Add(d)}
}

// reached reports whether either clock has come to the deadline; now must
// come straight from time.Now. The zero deadline has always been reached.
func (d deadline) reached(now time.Time) bool {
	return !now.Before(d.wall) || !now.Before(d.mono)
}

// in returns how long the deadline is away, by the clock that reaches it
// first; negative when it has passed.
func (d deadline) in(now time.Time) time.Duration {
	return min(d.wall.Sub(now.Round(0)), d.mono.Sub(now))
}

// Claims are the parts of a token that help to explain a refusal. Nobody has
// verified them: Azure does that, with the token's signature.
type Claims struct {
	Audience string // aud: whom the token is for
	TenantID string // tid
	ObjectID string // oid: the principal that needs the role assignment
	AppID    string // appid (v1) or azp (v2): the client id
	UPN      string // upn, for a person's token (Azure CLI)

	IssuedAt, ExpiresAt time.Time // iat, exp; zero when absent
}

// decodeClaims reads the payload of a JWT and returns the zero value for
// anything else: Entra may encrypt tokens, and calls them opaque to clients.
func decodeClaims(token string) Claims {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return Claims{}
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return Claims{}
	}
	var c struct {
		Aud   audience `json:"aud"`
		TID   text     `json:"tid"`
		OID   text     `json:"oid"`
		AppID text     `json:"appid"`
		AZP   text     `json:"azp"`
		UPN   text     `json:"upn"`
		IAT   seconds  `json:"iat"`
		Exp   seconds  `json:"exp"`
	}
	if json.Unmarshal(payload, &c) != nil {
		return Claims{}
	}
	if c.AppID == "" {
		c.AppID = c.AZP
	}
	return Claims{
		Audience: string(c.Aud), TenantID: string(c.TID), ObjectID: string(c.OID),
		AppID: string(c.AppID), UPN: string(c.UPN), IssuedAt: time.Time(c.IAT), ExpiresAt: time.Time(c.Exp),
	}
}

// The following types take a claim of the expected shape and pass over any
// other, so that one odd claim does not cost the others.
type (
	text     string
	audience string
	seconds  time.Time
)

func (t *text) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*t = text(s)
	}
	return nil
}

// UnmarshalJSON takes a string or, as RFC 7519 allows, a list (its first).
func (a *audience) UnmarshalJSON(b []byte) error {
	var list []string
	if json.Unmarshal(b, &list) == nil && len(list) > 0 {
		*a = audience(list[0])
		return nil
	}
	return (*text)(a).UnmarshalJSON(b)
}

func (t *seconds) UnmarshalJSON(b []byte) error {
	var f float64
	if json.Unmarshal(b, &f) == nil && f > 0 && f < 1<<40 {
		*t = seconds(time.Unix(int64(f), 0).UTC())
	}
	return nil
}
