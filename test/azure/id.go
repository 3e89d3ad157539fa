package azure

import (
	"crypto/rand"
	"fmt"
	"strings"
)

// newGUID makes an identifier as Azure writes them, in lower case.
func newGUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// newID makes an identifier of OpenAI's kind: chatcmpl-…, file-….
func newID(prefix string) string { return prefix + strings.ToLower(rand.Text()) }
