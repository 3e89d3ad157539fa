package litellm_test

import (
	"net/http"
	"strings"
	"testing"

	"entra-sidecar/test/azure"
)

// testExplanations checks what a LiteLLM user reads when Azure refuses, or the
// sidecar cannot go on: the status that LiteLLM's retries depend on, the cause,
// and a sentence to act upon.
func (s *stack) testExplanations(t *testing.T) {
	for _, c := range []struct {
		name   string
		model  string
		faults func(*azure.Faults)

		raised string // by the OpenAI client
		status int
		cause  string // in the header; empty: no business of the sidecar's

		annotated bool     // the sidecar has added its sentence
		says      []string // Azure's own words, or the sidecar's where Azure said nothing
	}{
		{
			"no role", "azure-chat", func(f *azure.Faults) { f.Resource.Roles = []string{"Owner"} },
			"AuthenticationError", http.StatusUnauthorized, "missing-role", true, []string{"lacks the required data action"},
		}, {
			"the wrong audience", "azure-chat", func(f *azure.Faults) { f.Resource.Audiences = []string{"https://ai.azure.com"} },
			"AuthenticationError", http.StatusUnauthorized, "wrong-audience", true, []string{"audience is incorrect (https://ai.azure.com)"},
		}, {
			"the wrong tenant", "azure-chat", fault("wrong-tenant"),
			"BadRequestError", http.StatusBadRequest, "wrong-tenant", true, []string{"does not match resource tenant"},
		}, {
			"a firewall", "azure-chat", fault("firewall"),
			"PermissionDeniedError", http.StatusForbidden, "firewall", true, []string{"Virtual Network/Firewall rules"},
		}, {
			"no such deployment", "missing", nil,
			"NotFoundError", http.StatusNotFound, "deployment-not-found", true, []string{"The API deployment for this resource does not exist"},
		}, {
			"Azure cannot be reached", "azure-chat", func(f *azure.Faults) { f.AzureDown = true },
			"InternalServerError", http.StatusBadGateway, "proxy-refused", false, []string{"The sidecar cannot reach the Azure endpoint of this route."},
		}, {
			"too many requests", "azure-chat", fault("rate-limited-tokens"),
			"RateLimitError", http.StatusTooManyRequests, "", false, []string{"have exceeded token rate limit"},
		}, {
			"a content filter", "azure-chat", fault("content-filter"),
			"BadRequestError", http.StatusBadRequest, "", false, []string{"content management policy"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.forget(t)
			if c.faults != nil {
				s.azure.Set(c.faults)
			}
			e := s.client.fail(t, s.litellm, "chat", arguments{"model": c.model})
			t.Logf("%s %d: %s", e.Type, e.Status, e.Message)
			if e.Type != c.raised || e.Status != c.status {
				t.Errorf("raised %s %d, want %s %d", e.Type, e.Status, c.raised, c.status)
			}
			if got := e.Headers["llm_provider-x-entra-sidecar-cause"]; got != c.cause {
				t.Errorf("the cause is %q, want %q", got, c.cause)
			}
			if annotated := strings.Contains(e.Message, "[entra-sidecar: "+c.cause+": "); annotated != c.annotated {
				t.Errorf("the sidecar's sentence is there: %t, want %t", annotated, c.annotated)
			}
			for _, want := range c.says {
				if !strings.Contains(e.Message, want) {
					t.Errorf("the message does not say %q", want)
				}
			}
		})
	}
}

// fault is a named fault as a change of the emulator's.
func fault(name string) func(*azure.Faults) {
	return func(f *azure.Faults) {
		if err := f.Add(name); err != nil {
			panic(err) // a mistake in the table
		}
	}
}
