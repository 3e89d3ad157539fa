package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A secret stays one wherever a slip of the file puts it: the fuzzer breaks what
// stands before and after each.
func FuzzNoFileMakesTheLoaderPanicOrShowASecret(f *testing.F) {
	const secrets = `
identities:
  a:
    credential: client-secret
    client_secret: CANARY
    certificate_password: "CANARY"
routes:
- upstream: https://user:CANARY@my.openai.azure.com?api-key=CANARY
  identity: a
  headers: {X: CANARY, Y: "${UNSET}CANARY", Z: '${CANARY'}
- upstream: CANARY
  prefix: CANARY
  scope: CANARY
  headers:
    X: |
      CANARY
drain_timeout: CANARY
log: {level: CANARY}
admin: {listen: CANARY}
`
	f.Add(secrets)
	for _, slip := range [][2]string{
		{"\n    client_secret", "\n      client_secret"}, // deeper than its neighbours
		{"\n    client_secret", "\n  client_secret"},
		{"client_secret: ", "client_secret:"},
		{"client_secret: ", "client_secret: {"},
		{"client_secret: ", "client_secret: ["},
		{"client_secret: ", "client_secret: *"},
		{"client_secret: ", "client_secret: &"},
		{"client_secret: ", "client_secret: !"},
		{"client_secret: ", "client_secret: '"},
		{"client_secret: ", "client_secret: \"\\x"},
		{"client_secret: ", "client_secret: |"},
		{"client_secret: ", "client_secret: >"},
		{"client_secret: ", "client_secret: a: "},
		{"client_secret: ", "client_secret: 0x"},
		{"client_secret: ", "client_secret:\t"},
		{"client_secret: ", "? "},
		{"client_secret: ", "<<: "},
		{"client_secret: ", "- "},
		{"client_secret: ", ""},
		{"\nidentities", "\n%YAML "},
		{"\nidentities", "\n--- "},
		{"headers: {", "headers: ["},
		{"X: |", "X: |9"},
		{"\n", "\r"},
		{"\n", ""},
	} {
		f.Add(strings.ReplaceAll(secrets, slip[0], slip[1]))
	}
	name := filepath.Join(f.TempDir(), "sidecar.yaml")
	f.Fuzz(func(t *testing.T, file string) {
		if err := os.WriteFile(name, []byte(strings.ReplaceAll(file, "CANARY", canary)), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(Sources{Flags: map[string]string{"config": name}, LookupEnv: func(string) (string, bool) { return "", false }})
		if (c == nil) != (err != nil) {
			t.Errorf("%v, %v", c, err)
		}
		if err != nil {
			mustNotShow(t, "the error", err.Error())
		}
	})
}

func FuzzSizesSurviveBeingWritten(f *testing.F) {
	f.Add("4MiB")
	f.Add("65537")
	f.Fuzz(func(t *testing.T, text string) {
		size, err := ParseSize(text)
		if err != nil {
			return
		}
		if again, err := ParseSize(size.String()); err != nil || again != size || size < 0 {
			t.Errorf("%q is %d, then %d, %v", text, size, again, err)
		}
	})
}
