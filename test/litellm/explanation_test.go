package litellm_test

import (
	"net/http"
	"strings"
	"testing"

	"entra-sidecar/test/azure"
)

// An explanation is what a LiteLLM user reads when Azure refuses, or the sidecar
// cannot go on: the status that LiteLLM's retries depend on, the cause, and a
// sentence to act upon.
type explanation struct {
	name   string
	model  string
	faults func(*azure.Faults)

	raised string // by the OpenAI client
	status int
	cause  string // in the header; empty: no business of the sidecar's

	annotated bool   // the sidecar has added its sentence
	says      string // Azure's own words, or the sidecar's where Azure said nothing
}

func explanations() []explanation {
	return []explanation{
		{
			"no role", "azure-chat", func(f *azure.Faults) { f.Resource.Roles = []string{"Owner"} },
			"AuthenticationError", http.StatusUnauthorized, "missing-role", true, "lacks the required data action",
		}, {
			"the wrong audience", "azure-chat", func(f *azure.Faults) { f.Resource.Audiences = []string{"https://ai.azure.com"} },
			"AuthenticationError", http.StatusUnauthorized, "wrong-audience", true, "audience is incorrect (https://ai.azure.com)",
		}, {
			"the wrong tenant", "azure-chat", fault("wrong-tenant"),
			"BadRequestError", http.StatusBadRequest, "wrong-tenant", true, "does not match resource tenant",
		}, {
			"a firewall", "azure-chat", fault("firewall"),
			"PermissionDeniedError", http.StatusForbidden, "firewall", true, "Virtual Network/Firewall rules",
		}, {
			"no such deployment", "missing", nil,
			"NotFoundError", http.StatusNotFound, "deployment-not-found", true, "The API deployment for this resource does not exist",
		}, {
			"Azure cannot be reached", "azure-chat", func(f *azure.Faults) { f.AzureDown = true },
			"InternalServerError", http.StatusBadGateway, "proxy-refused", false, "The sidecar cannot reach the Azure endpoint of this route.",
		}, {
			"too many requests", "azure-chat", fault("rate-limited-tokens"),
			"RateLimitError", http.StatusTooManyRequests, "", false, "have exceeded token rate limit",
		}, {
			"a content filter", "azure-chat", fault("content-filter"),
			"BadRequestError", http.StatusBadRequest, "", false, "content management policy",
		},
	}
}

func (s *stack) testExplanations(t *testing.T) {
	for _, want := range explanations() {
		t.Run(want.name, func(t *testing.T) {
			s.forget(t)
			if want.faults != nil {
				s.azure.Set(want.faults)
			}
			got := s.client.fail(t, s.litellm, "chat", arguments{"model": want.model})
			t.Logf("%s %d: %s", got.Type, got.Status, got.Message)
			if got.Type != want.raised || got.Status != want.status {
				t.Errorf("raised %s %d, want %s %d", got.Type, got.Status, want.raised, want.status)
			}
			if cause := got.Headers["llm_provider-x-entra-sidecar-cause"]; cause != want.cause {
				t.Errorf("the cause is %q, want %q", cause, want.cause)
			}
			if annotated := strings.Contains(got.Message, "[entra-sidecar: "+want.cause+": "); annotated != want.annotated {
				t.Errorf("the sidecar's sentence is there: %t, want %t", annotated, want.annotated)
			}
			if !strings.Contains(got.Message, want.says) {
				t.Errorf("the message does not say %q", want.says)
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
