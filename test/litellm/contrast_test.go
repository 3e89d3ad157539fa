package litellm_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"entra-sidecar/test/azure"
)

// signature is the error that this project exists for, word for word as
// LiteLLM's users meet it.
const signature = "litellm.AuthenticationError: AzureException AuthenticationError - Access denied due to invalid subscription key or wrong API endpoint"

// testContrast sends the same LiteLLM to the same Azure without the sidecar.
func (s *stack) testContrast(t *testing.T) {
	t.Run("with a dummy key", func(t *testing.T) {
		s.forget(t)
		e := s.client.fail(t, s.litellm, "chat", arguments{"model": "without-sidecar"})
		if e.Status != http.StatusUnauthorized || !strings.Contains(e.Message, signature) {
			t.Errorf("got %d %s, want 401 with\n%s", e.Status, e.Message, signature)
		}
	})
	t.Run("with the resource's own key, while key authentication is off", func(t *testing.T) {
		s.forget(t)
		e := s.client.fail(t, s.litellm, "chat", arguments{"model": "without-sidecar-real-key"})
		const want = "Key based authentication is disabled for this resource."
		if e.Status != http.StatusForbidden || !strings.Contains(e.Message, want) {
			t.Errorf("got %d %s, want 403 with\n%s", e.Status, e.Message, want)
		}
	})
	t.Run("with the sidecar", func(t *testing.T) {
		s.forget(t)
		for _, function := range []string{"chat", "chat_stream"} {
			var answer struct{ Text string }
			s.client.must(t, s.litellm, function, arguments{"model": "gpt-4o"}, &answer)
			if answer.Text == "" {
				t.Errorf("%s: the answer is empty", function)
			}
		}
		s.checkReceived(t, []string{"POST /openai/deployments/gpt-4o/chat/completions"})
	})
}

// testRegions sends one model's calls, and expects each route to use its own
// host and its own identity.
func (s *stack) testRegions(t *testing.T) {
	s.forget(t)
	for range 24 { // all to one side: once in eight million runs
		var answer struct{ Text string }
		s.client.must(t, s.litellm, "chat", arguments{"model": "gpt-4.1"}, &answer)
	}
	identities := map[string]string{}
	for _, r := range s.received() {
		checkKeyless(t, r)
		if r.Token != nil {
			identities[r.Host] = r.Token.AppID
		}
	}
	want := map[string]string{
		"my-eastus.openai.azure.com": azure.DefaultPrincipal().ClientID,
		"my-westus.openai.azure.com": westClientID,
	}
	for host, id := range want {
		if identities[host] != id {
			t.Errorf("%s was asked as %q, want %q", host, identities[host], id)
		}
	}
	if len(identities) != len(want) {
		t.Errorf("asked were %v", identities)
	}
}

// testRevocation makes every token bad that Azure has seen, and expects LiteLLM
// to notice nothing: not an error, and no deployment in cooldown.
func (s *stack) testRevocation(t *testing.T) {
	s.forget(t)
	s.azure.Revoke()
	for _, function := range []string{"chat", "chat_stream", "chat"} {
		var answer struct{ Text string }
		s.client.must(t, s.litellm, function, arguments{"model": "azure-chat"}, &answer)
	}
	var statuses []int
	for _, r := range s.received() {
		statuses = append(statuses, r.Status)
	}
	if want := []int{401, 200, 200, 200}; !slices.Equal(statuses, want) {
		t.Errorf("Azure answered %d, want %d", statuses, want)
	}
}

// testHealth lets LiteLLM judge every model of the samples, realtime and OCR included.
func (s *stack) testHealth(t *testing.T) {
	s.forget(t)
	var found struct {
		Healthy   []string
		Unhealthy map[string]string
	}
	s.client.must(t, s.litellm, "health", nil, &found)
	for model, reason := range found.Unhealthy {
		if strings.Contains(model, s.azure.URL) || strings.HasPrefix(model, "azure/missing") || strings.Contains(reason, "scheme isn't ws or wss") {
			continue // these are there to fail
		}
		t.Errorf("LiteLLM finds %s unhealthy: %s", model, reason)
	}
	if len(found.Healthy) < 20 {
		t.Errorf("LiteLLM finds only %d models healthy: %v", len(found.Healthy), found.Healthy)
	}
}
