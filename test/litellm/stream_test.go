package litellm_test

import (
	"fmt"
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
			s.forget(t)
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

// testCutStreams breaks Azure's answer off, and compares what the user is left
// with through the sidecar and without it.
func (s *stack) testCutStreams(t *testing.T) {
	chat, responses := "cut_stream", "cut_responses"
	for _, c := range []struct {
		name     string
		function string
		cut      azure.Cut
		frame    bool // the error is the sidecar's own
		silent   bool // without the sidecar, the torso passes for the whole answer
		unseen   bool // and with it as well: an answer that ends in order is a whole one to HTTP
	}{
		{"a chat, the connection breaks", chat, azure.Cut{After: 5}, true, false, false},
		{"a chat, the connection breaks inside an event", chat, azure.Cut{After: 5, InsideEvent: true}, false, false, false},
		{"a chat, it ends in order but without [DONE]", chat, azure.Cut{After: 5, Clean: true}, false, true, true},
		{"responses, the connection breaks", responses, azure.Cut{After: 6}, false, false, false},
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
				sentence := ""
				if c.frame {
					sentence = "What has arrived is incomplete"
				}
				got := s.cut(t, user.through, c.function, user.model, c.cut, sentence)
				t.Logf("through the sidecar, the user has %s", got)
				if got.silent() != c.unseen {
					t.Errorf("through the sidecar, silent: %t, want %t", got.silent(), c.unseen)
				}
				bare := s.cut(t, user.without, c.function, user.bare, c.cut, "")
				t.Logf("without the sidecar, the user has %s", bare)
				if silent := bare.silent(); silent != c.silent {
					t.Errorf("without the sidecar, silent: %t, want %t", silent, c.silent)
				}
			})
		}
	}
}

// silent reports that nothing tells the user of the end that it came too early.
func (s streamed) silent() bool {
	return s.Error == nil && s.FinishReason != "response.failed" && s.FinishReason != "response.incomplete"
}

// String is what the user of a broken stream can see.
func (s streamed) String() string {
	if s.Error != nil {
		return fmt.Sprintf("%q and %s: %.300s", s.Text, s.Error.Type, s.Error.Message)
	}
	return fmt.Sprintf("%q, no error, and %q as the reason for the end", s.Text, s.FinishReason)
}

// cut makes a streamed call that Azure breaks off after some of the text, and
// expects its error to say sentence. LiteLLM's HTTP client forgets what it has
// received and not yet handed on when a connection breaks, which a busy machine
// makes it do; so there are three attempts.
func (s *stack) cut(t *testing.T, to endpoint, function, model string, cut azure.Cut, sentence string) (got streamed) {
	t.Helper()
	for range 3 {
		s.forget(t)
		s.azure.Set(func(f *azure.Faults) {
			f.Resource.KeyAuth = true // for the calls without the sidecar
			f.Azure = []azure.Rule{{Method: "POST", Cut: &cut, Pace: azure.Pace{Chunks: 20, ChunkDelay: 0.05}}}
		})
		got = streamed{}
		s.client.must(t, to, function, arguments{"model": model}, &got)
		if got.Text != "" && strings.Contains(got.String(), sentence) {
			return got
		}
	}
	t.Errorf("the user has %s; want some text and %q", got, sentence)
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
			s.forget(t)
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
