package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A flag and a variable win over the file in everything, routes included.
func TestTheUpstreamWinsOverTheRoutesOfTheFile(t *testing.T) {
	const file = "routes: [{prefix: /a, upstream: https://a.openai.azure.com}, {prefix: /b, upstream: https://b.openai.azure.com}]"
	for name, g := range map[string]given{
		"--upstream":             {file: file, flags: map[string]string{"upstream": "https://z.openai.azure.com"}},
		"ENTRA_SIDECAR_UPSTREAM": {file: file, env: map[string]string{"ENTRA_SIDECAR_UPSTREAM": "https://z.openai.azure.com"}},
	} {
		c := g.load(t)
		if len(c.Routes) != 1 || c.Routes[0].Prefix != "/" || c.Routes[0].Upstream.Host != "z.openai.azure.com" {
			t.Errorf("%s: %+v", name, c.Routes)
		}
		if !slices.ContainsFunc(c.Warnings, func(w string) bool { return strings.Contains(w, "wins over the routes of the file") }) {
			t.Errorf("%s: the routes are dropped without a word: %v", name, c.Warnings)
		}
	}
}

// It is set in many pods for others.
func TestTheEndpointOfOthersDoesNotWinOverTheRoutesOfTheFile(t *testing.T) {
	c := given{
		file: "routes: [{upstream: https://a.openai.azure.com}]",
		env:  map[string]string{"AZURE_OPENAI_ENDPOINT": "https://z.openai.azure.com"},
	}.load(t)
	if c.Routes[0].Upstream.Host != "a.openai.azure.com" {
		t.Errorf("%+v", c.Routes)
	}
}

func TestTheScopeWinsOverThoseOfTheRoutes(t *testing.T) {
	c := given{
		file:  "routes: [{prefix: /a, upstream: https://a.openai.azure.com, scope: https://ai.azure.com/.default}, {prefix: /b, upstream: https://b.openai.azure.com}]",
		flags: map[string]string{"scope": "https://x.example/.default"},
	}.load(t)
	for i, r := range c.Routes {
		if r.Scope != "https://x.example/.default" {
			t.Errorf("routes[%d]: %s", i, r.Scope)
		}
	}
}

// A private name may hide an API Management front behind a resource's name.
func TestAKeyForAResourceIsAWarning(t *testing.T) {
	c := given{
		file: "routes: [{upstream: https://a.openai.azure.com, headers: {Ocp-Apim-Subscription-Key: \"${APIM_KEY}\"}}]",
		env:  map[string]string{"APIM_KEY": canary},
	}.load(t)
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "API Management front") || strings.Contains(c.Warnings[0], canary) {
		t.Errorf("%v", c.Warnings)
	}
}

func TestAKeysFileMayBeLaidOut(t *testing.T) {
	name := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(name, []byte("\ufeff0123456789abcdef \r\n  # a comment\n\n\tfedcba9876543210\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := given{flags: map[string]string{"upstream": "https://a.openai.azure.com", "inbound-keys-file": name}}.load(t)
	if len(c.Inbound.Keys) != 2 || c.Inbound.Keys[0].Reveal() != "0123456789abcdef" || c.Inbound.Keys[1].Reveal() != "fedcba9876543210" {
		t.Errorf("%d keys", len(c.Inbound.Keys))
	}
}
