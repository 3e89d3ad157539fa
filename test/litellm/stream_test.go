package litellm_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"entra-sidecar/test/azure"
)

// A streamed answer as its user gets it.
type streamed struct {
	Text         string
	Seconds      []float64 // when each piece came, from the start of the call
	FinishReason string    `json:"finish_reason"`
	LeftAt       float64   `json:"left_at"` // when the client went away, Unix time
	Error        *clientError
}

// alone is the OpenAI client at the sidecar, and unaided the same at Azure,
// with the resource's key.
func (s *stack) alone() endpoint {
	return endpoint{Kind: "azure", BaseURL: "http://" + s.sidecars["every-endpoint"].address() + "/azure", APIKey: dummyKey, APIVersion: "2024-10-21"}
}

func (s *stack) unaided() endpoint {
	return endpoint{Kind: "azure", BaseURL: s.azure.URL, APIKey: realKey, APIVersion: "2024-10-21"}
}

// testProgress has Azure send ten pieces over a second and expects the user to
// get them so.
func (s *stack) testProgress(t *testing.T) {
	const pieces, delay = 10, 0.1
	for _, way := range []struct {
		name  string
		to    endpoint
		model string
	}{
		{"through LiteLLM", s.litellm, "azure-chat"},
		{"through LiteLLM, v1", s.litellm, "azure-chat-v1"},
		{"through LiteLLM, Foundry", s.litellm, "mistral-large"},
		{"through LiteLLM, Claude", s.litellm, "claude-sonnet-4-5"},
		{"with the OpenAI client alone", s.alone(), "gpt-4o"},
	} {
		t.Run(way.name, func(t *testing.T) {
			s.forget()
			s.azure.Set(func(f *azure.Faults) { f.Pace = azure.Pace{Chunks: pieces, ChunkDelay: delay} })
			var got streamed
			s.client.must(t, way.to, "chat_stream", arguments{"model": way.model}, &got)
			if len(got.Seconds) < pieces/2 {
				t.Fatalf("%d pieces arrived, Azure sent %d", len(got.Seconds), pieces)
			}
			first, last := got.Seconds[0], got.Seconds[len(got.Seconds)-1]
			if spread := last - first; spread < 0.6*pieces*delay {
				t.Errorf("all %d pieces arrived within %.2fs, and Azure took its time: they were held back", len(got.Seconds), spread)
			}
		})
	}
}

// testCutStreams breaks Azure's answer off. What it compares is what the user
// is left with, through the sidecar and without it.
func (s *stack) testCutStreams(t *testing.T) {
	for _, c := range []struct {
		name   string
		cut    azure.Cut
		silent map[string]bool // who takes the torso for the whole, without the sidecar
	}{
		{"the connection breaks", azure.Cut{After: 5}, nil},
		{"the connection breaks inside an event", azure.Cut{After: 5, InsideEvent: true}, nil},
	} {
		for _, user := range []struct {
			name             string
			through, without endpoint
			model, bare      string
		}{
			{"LiteLLM", s.litellm, s.litellm, "azure-chat", "without-sidecar-real-key"},
			{"OpenAI client", s.alone(), s.unaided(), "gpt-4o", "gpt-4o"},
		} {
			t.Run(c.name+", "+user.name, func(t *testing.T) {
				got := s.cut(t, user.through, user.model, c.cut)
				if got.Error == nil {
					t.Errorf("through the sidecar, the user takes %q for the whole answer", got.Text)
				} else if !strings.Contains(got.Error.Message, "What has arrived is incomplete") {
					t.Errorf("through the sidecar, the error does not say what happened: %s", got.Error.Message)
				}
				bare := s.cut(t, user.without, user.bare, c.cut)
				if silent := bare.Error == nil; silent != c.silent[user.name] {
					t.Errorf("without the sidecar, silent: %t, want %t (%+v)", silent, c.silent[user.name], bare)
				}
			})
		}
	}
}

// cut makes one streamed call that Azure breaks off.
func (s *stack) cut(t *testing.T, to endpoint, model string, cut azure.Cut) streamed {
	t.Helper()
	s.forget()
	s.azure.Set(func(f *azure.Faults) {
		f.Resource.KeyAuth = true // for the calls without the sidecar
		f.Azure = []azure.Rule{{Path: "/chat/completions", Cut: &cut, Pace: azure.Pace{Chunks: 20}}}
	})
	var got streamed
	s.client.must(t, to, "cut_stream", arguments{"model": model}, &got)
	if got.Text == "" {
		t.Error("nothing had arrived when the answer broke off: the test shows nothing")
	}
	return got
}

// testCancellation measures how long Azure goes on working for nobody.
func (s *stack) testCancellation(t *testing.T) {
	slow := azure.Pace{Chunks: 300, ChunkDelay: 0.1}
	silent := azure.Pace{HeadDelay: 30}
	for _, c := range []struct {
		name     string
		to       endpoint
		model    string
		function string
		args     arguments
		pace     azure.Pace
	}{
		{"a stream, through LiteLLM", s.litellm, "azure-chat", "chat_stream", arguments{"stop_after": 3}, slow},
		{"a stream, OpenAI client alone", s.alone(), "gpt-4o", "chat_stream", arguments{"stop_after": 3}, slow},
		{"an answer not yet begun, through LiteLLM", s.litellm, "azure-chat", "give_up", arguments{"after": 1}, silent},
		{"an answer not yet begun, OpenAI client alone", s.alone(), "gpt-4o", "give_up", arguments{"after": 1}, silent},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.forget()
			s.azure.Set(func(f *azure.Faults) { f.Pace = c.pace })
			c.args["model"] = c.model
			var got streamed
			s.client.must(t, c.to, c.function, c.args, &got)
			cancelled := s.awaitCancelled(t)
			delay := cancelled.Sub(unixTime(got.LeftAt))
			t.Logf("Azure saw the client go after %s", delay.Round(time.Millisecond))
			if delay > time.Second {
				t.Errorf("it went on for %s after the client had gone", delay)
			}
		})
	}
}

// awaitCancelled returns when Azure saw that nobody waits for its answer any more.
func (s *stack) awaitCancelled(t *testing.T) time.Time {
	t.Helper()
	for began := time.Now(); time.Since(began) < 5*time.Second; time.Sleep(10 * time.Millisecond) {
		requests := s.received()
		if len(requests) == 1 && !requests[0].Cancelled.IsZero() {
			return requests[0].Cancelled
		}
	}
	t.Fatalf("Azure was still at work 5s later: %d requests", len(s.received()))
	return time.Time{}
}

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
		cause  string
		says   []string
	}{
		{
			"no role", "azure-chat", func(f *azure.Faults) { f.Resource.Roles = []string{"Owner"} },
			"AuthenticationError", http.StatusUnauthorized, "missing-role", []string{"lacks the required data action"},
		}, {
			"the wrong audience", "azure-chat", func(f *azure.Faults) { f.Resource.Audiences = []string{"https://ai.azure.com"} },
			"AuthenticationError", http.StatusUnauthorized, "wrong-audience", []string{"audience is incorrect (https://ai.azure.com)"},
		}, {
			"the wrong tenant", "azure-chat", fault("wrong-tenant"),
			"BadRequestError", http.StatusBadRequest, "wrong-tenant", []string{"does not match resource tenant"},
		}, {
			"a firewall", "azure-chat", fault("firewall"),
			"PermissionDeniedError", http.StatusForbidden, "firewall", []string{"Virtual Network/Firewall rules"},
		}, {
			"no such deployment", "missing", nil,
			"NotFoundError", http.StatusNotFound, "deployment-not-found", []string{"The API deployment for this resource does not exist"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.forget()
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
