package proxy

import (
	"strings"
	"testing"
)

// triggers are the texts by which LiteLLM overrides an answer's status.
var triggers = []string{
	"internal server error", "deploymentnotfound", "connection error", "invalid_request_error", "content_policy_violation",
	"responsibleaipolicyviolation", "content_filter_policy", "could not be verified", "this model's maximum context length is",
	"rate limit", "429",
}

func assertNoTriggers(t *testing.T, text string) {
	t.Helper()
	for _, trigger := range triggers {
		if strings.Contains(strings.ToLower(text), trigger) {
			t.Errorf("%q holds %q, by which LiteLLM overrides the status", text, trigger)
		}
	}
}
