package config

import (
	"fmt"
	"io"
)

// A Secret cannot print itself: not by fmt, JSON, YAML or a log field.
type Secret string

const redacted = "[redacted]"

// Reveal returns the secret, for the one place that needs it.
func (s Secret) Reveal() string { return string(s) }

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// Format covers every verb of fmt, %x and %#v included.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText covers JSON, YAML and zap's reflection.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
