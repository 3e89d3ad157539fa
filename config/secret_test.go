package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const canary = "Canary8Q~do-not.print"

// secretive has the canary wherever a secret can be.
func secretive(t *testing.T) *Config {
	t.Helper()
	keys := write(t, canary+"\n", 0o600)
	return given{
		file: `
inbound: {keys_file: ` + keys + `}
identities:
  a: {credential: client-secret, tenant_id: t, client_id: c, client_secret: "${CANARY}"}
  b: {credential: client-certificate, tenant_id: t, client_id: c, certificate_file: ` + keys + `, certificate_password: ` + canary + `}
routes:
- upstream: https://apim.example
  identity: a
  headers: {X-Key: ` + canary + `}
- upstream: https://other.openai.azure.com
  prefix: /b
  identity: b
`,
		env: map[string]string{"CANARY": canary, "ENTRA_SIDECAR_INBOUND_KEY": canary},
	}.load(t)
}

func TestNoWayToPrintAConfigurationShowsASecret(t *testing.T) {
	c := secretive(t)
	if n := len(c.Inbound.Keys); n != 2 || c.Inbound.Keys[0].Reveal() != canary {
		t.Fatalf("%d keys", n)
	}
	if c.Identities["a"].ClientSecret.Reveal() != canary || c.Identities["b"].CertificatePassword.Reveal() != canary || c.Routes[0].Headers["X-Key"].Reveal() != canary {
		t.Fatal("the secrets were not read")
	}
	values := map[string]any{
		"Config": *c, "*Config": c, "Inbound": c.Inbound, "Identities": c.Identities, "Routes": c.Routes,
		"Headers": c.Routes[0].Headers, "Secret": c.Inbound.Key, "*Secret": &c.Inbound.Key,
	}
	for name, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			mustNotShow(t, name+" by "+verb, fmt.Sprintf(verb, v))
		}
		asJSON, err := json.Marshal(v)
		if err != nil {
			t.Errorf("%s by JSON: %v", name, err)
		}
		mustNotShow(t, name+" by JSON", string(asJSON))
		asYAML, err := yaml.Marshal(v)
		if err != nil {
			t.Errorf("%s by YAML: %v", name, err)
		}
		mustNotShow(t, name+" by YAML", string(asYAML))
		mustNotShow(t, name+" by zap", logged(zap.Any("value", v), zap.Reflect("reflected", v)))
	}
	var printed bytes.Buffer
	if err := c.Print(&printed); err != nil {
		t.Fatal(err)
	}
	mustNotShow(t, "Print", printed.String())
	if n := strings.Count(printed.String(), redacted); n != 4 {
		t.Errorf("Print redacts %d secrets:\n%s", n, &printed)
	}
}

func logged(fields ...zap.Field) string {
	var log bytes.Buffer
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	zap.New(zapcore.NewCore(encoder, zapcore.AddSync(&log), zap.DebugLevel)).Info("logged", fields...)
	return log.String()
}

func mustNotShow(t *testing.T, what, text string) {
	t.Helper()
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), "Canary8Q"} {
		if strings.Contains(text, form) {
			t.Errorf("%s shows a secret: %s", what, text)
		}
	}
}

func TestAnEmptySecretIsShownAsEmpty(t *testing.T) {
	if got := fmt.Sprintf("%v|%#v", Secret(""), Secret("")); got != "|" {
		t.Errorf("it is %s", got)
	}
}
