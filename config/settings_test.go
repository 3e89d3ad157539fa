package config

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Every way to set each setting, three values each, so that it shows which won.
func TestAFlagWinsOverTheEnvironmentAndThatOverTheFileAndThatOverTheDefault(t *testing.T) {
	for _, s := range Settings() {
		if s.index == nil || s.Name == "config" {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			def := merged(t, given{}, s)
			if text := fmt.Sprint(def.value); s.Default != "" && format(def.value) != shorten.Replace(format(parsed(t, s, s.Default))) {
				t.Errorf("the default is %s", text)
			}
			ways := []struct {
				from string
				set  func(*given, string)
			}{
				{"file:", func(g *given, v string) { g.file = nested(s.Name, v) }},
				{s.Env, func(g *given, v string) { g.env = map[string]string{s.Env: v} }},
				{"--" + s.Flag, func(g *given, v string) { g.flags = map[string]string{s.Flag: v} }},
			}
			var g given
			for i, way := range ways {
				if i == 0 && !s.InFile || i == 2 && s.Flag == "" {
					continue
				}
				text := distinct(s, i)
				way.set(&g, text)
				got := merged(t, g, s)
				if !cmp.Equal(got.value, parsed(t, s, text)) {
					t.Errorf("set by %s, it is %v, not %s", way.from, got.value, text)
				}
				if i == 0 && !regexp.MustCompile(`sidecar\.yaml:\d+:\d+$`).MatchString(got.origin) || i > 0 && got.origin != way.from {
					t.Errorf("set by %s, its origin is %s", way.from, got.origin)
				}
			}
		})
	}
}

type result struct {
	value  any
	origin string
}

func merged(t *testing.T, g given, s Setting) result {
	t.Helper()
	l := newLoader(g.sources(t))
	l.merge()
	if len(l.problems) > 0 {
		t.Fatal(l.problems)
	}
	return result{reflect.ValueOf(l.config).Elem().FieldByIndex(s.index).Interface(), l.config.Origin(s.Name)}
}

// distinct returns a value for each way to set it; neighbours differ.
func distinct(s Setting, way int) string {
	switch reflect.TypeFor[Config]().FieldByIndex(s.index).Type {
	case reflect.TypeFor[bool]():
		return []string{"true", "false", "true"}[way]
	case reflect.TypeFor[time.Duration]():
		return []string{"1s", "2s", "3s"}[way]
	case reflect.TypeFor[Size]():
		return []string{"1KiB", "2KiB", "3KiB"}[way]
	}
	return []string{"file", "environment", "flag"}[way]
}

func parsed(t *testing.T, s Setting, text string) any {
	t.Helper()
	v := reflect.New(reflect.TypeFor[Config]().FieldByIndex(s.index).Type).Elem()
	if err := parse(text, v); err != nil {
		t.Fatal(err)
	}
	return v.Interface()
}

// nested writes a.b: v as YAML.
func nested(name, value string) string {
	var b strings.Builder
	keys := strings.Split(name, ".")
	for i, key := range keys {
		fmt.Fprintf(&b, "%s%s:", strings.Repeat("  ", i), key)
		if i < len(keys)-1 {
			b.WriteString("\n")
		}
	}
	return b.String() + " " + value + "\n"
}

func TestTheSettingsAreThoseOfTheDesign(t *testing.T) {
	want := map[string][3]string{ // by flag: environment, file, default
		"config":                   {"ENTRA_SIDECAR_CONFIG", "", ""},
		"upstream":                 {"ENTRA_SIDECAR_UPSTREAM", "", ""},
		"scope":                    {"ENTRA_SIDECAR_SCOPE", "", ""},
		"listen":                   {"ENTRA_SIDECAR_LISTEN", "listen", "127.0.0.1:4001"},
		"admin-listen":             {"ENTRA_SIDECAR_ADMIN_LISTEN", "admin.listen", "127.0.0.1:4002"},
		"inbound-keys-file":        {"ENTRA_SIDECAR_INBOUND_KEYS_FILE", "inbound.keys_file", ""},
		"":                         {"ENTRA_SIDECAR_INBOUND_KEY", "", ""},
		"insecure-allow-anonymous": {"ENTRA_SIDECAR_INSECURE_ALLOW_ANONYMOUS", "inbound.insecure_allow_anonymous", "false"},
		"drain-timeout":            {"ENTRA_SIDECAR_DRAIN_TIMEOUT", "drain_timeout", "5m"},
		"log-level":                {"ENTRA_SIDECAR_LOG_LEVEL", "log.level", "info"},
		"log-format":               {"ENTRA_SIDECAR_LOG_FORMAT", "log.format", ""},
		"tls-listen":               {"ENTRA_SIDECAR_TLS_LISTEN", "tls.listen", ""},
		"tls-self-signed":          {"ENTRA_SIDECAR_TLS_SELF_SIGNED", "tls.self_signed", "false"},
		"tls-cert-file":            {"ENTRA_SIDECAR_TLS_CERT_FILE", "tls.cert_file", ""},
		"tls-key-file":             {"ENTRA_SIDECAR_TLS_KEY_FILE", "tls.key_file", ""},
		"tls-ca-bundle-file":       {"ENTRA_SIDECAR_TLS_CA_BUNDLE_FILE", "tls.ca_bundle_file", ""},
		"dial-timeout":             {"ENTRA_SIDECAR_DIAL_TIMEOUT", "dial_timeout", "10s"},
		"tls-timeout":              {"ENTRA_SIDECAR_TLS_TIMEOUT", "tls_timeout", "10s"},
		"response-header-timeout":  {"ENTRA_SIDECAR_RESPONSE_HEADER_TIMEOUT", "response_header_timeout", "10m"},
		"idle-timeout":             {"ENTRA_SIDECAR_IDLE_TIMEOUT", "idle_timeout", "60s"},
		"max-connection-age":       {"ENTRA_SIDECAR_MAX_CONNECTION_AGE", "max_connection_age", "10m"},
		"first-token-timeout":      {"ENTRA_SIDECAR_FIRST_TOKEN_TIMEOUT", "first_token_timeout", "10s"},
		"annotate-errors":          {"ENTRA_SIDECAR_ANNOTATE_ERRORS", "annotate_errors", "true"},
		"replay-limit":             {"ENTRA_SIDECAR_REPLAY_LIMIT", "replay_limit", "4MiB"},
		"replay-budget":            {"ENTRA_SIDECAR_REPLAY_BUDGET", "replay_budget", "64MiB"},
	}
	got := make(map[string][3]string)
	for _, s := range Settings() {
		if s.Env == "" {
			continue
		}
		file := s.Name
		if !s.InFile {
			file = ""
		}
		got[s.Flag] = [3]string{s.Env, file, s.Default}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEverySettingIsDocumented(t *testing.T) {
	for _, s := range Settings() {
		if s.Help == "" || s.Group == "" || !strings.HasSuffix(s.Help, ".") {
			t.Errorf("%s has the help %q in the group %q", s.Name, s.Help, s.Group)
		}
		if (s.Default == "") == (s.Unset == "") {
			t.Errorf("%s has the default %q, and %q without one", s.Name, s.Default, s.Unset)
		}
		if s.Flag != "" && !s.Switch && s.Placeholder == "" {
			t.Errorf("%s has no placeholder", s.Name)
		}
	}
}

// Kubernetes sets such variables in every pod if a Service is called
// entra-sidecar, or entra-sidecar-admin.
func TestNoSettingIsNamedLikeAVariableOfAKubernetesService(t *testing.T) {
	link := regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_.*)?)$`)
	for _, s := range Settings() {
		if link.MatchString(s.Env) {
			t.Errorf("%s may be set by Kubernetes", s.Env)
		}
	}
}

func TestRoutesAndIdentitiesHaveNoFlags(t *testing.T) {
	for _, s := range Settings() {
		if inElement := strings.HasPrefix(s.Name, "routes[]") || strings.HasPrefix(s.Name, "identities."); inElement != (s.Env == "") {
			t.Errorf("%s: flag %q, variable %q", s.Name, s.Flag, s.Env)
		}
	}
}
