package azure

import (
	"net/http"
	"strings"
	"time"
)

type chatRequest struct {
	Model         string    `json:"model"`
	Messages      []message `json:"messages"`
	Stream        bool      `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

// chatHead are the fields that a completion and all its chunks share.
type chatHead struct {
	Created int64  `json:"created"`
	ID      string `json:"id"`
	Model   string `json:"model"`
	Object  string `json:"object"`
}

type chatCompletion struct {
	Choices []chatChoice `json:"choices"`
	chatHead
	PromptFilterResults []promptFilter `json:"prompt_filter_results,omitempty"`
	SystemFingerprint   *string        `json:"system_fingerprint,omitempty"`
	Usage               *usage         `json:"usage,omitempty"`
}

type chatChoice struct {
	ContentFilterResults filterResults `json:"content_filter_results"`
	Delta                *chatMessage  `json:"delta,omitempty"`
	FinishReason         *string       `json:"finish_reason"`
	Index                int           `json:"index"`
	LogProbs             *struct{}     `json:"logprobs"`
	Message              *chatMessage  `json:"message,omitempty"`
}

type chatMessage struct {
	Content *string `json:"content,omitempty"`
	Role    string  `json:"role,omitempty"`
}

type usage struct {
	Completion int `json:"completion_tokens"`
	Prompt     int `json:"prompt_tokens"`
	Total      int `json:"total_tokens"`
}

type promptFilter struct {
	PromptIndex          int           `json:"prompt_index"`
	ContentFilterResults filterResults `json:"content_filter_results"`
}

// filterResults is Azure's own addition to OpenAI's shape: the verdict of its
// content filter.
type filterResults map[string]filterResult

type filterResult struct {
	Filtered bool   `json:"filtered"`
	Severity string `json:"severity"`
}

func safe() filterResults {
	verdict := filterResult{Severity: "safe"}
	return filterResults{"hate": verdict, "self_harm": verdict, "sexual": verdict, "violence": verdict}
}

func chatCompletions(x *exchange) {
	var q chatRequest
	if !x.decode(&q) || !x.findDeployment(q.Model) {
		return
	}
	pieces := x.pace.pieces(Reply(x.model, lastUser(q.Messages)))
	used := usage{Completion: len(pieces)}
	for _, m := range q.Messages {
		used.Prompt += tokens(string(m.Content))
	}
	used.Total = used.Prompt + used.Completion
	if q.Stream {
		streamChat(x, pieces, used, q.StreamOptions.IncludeUsage)
		return
	}
	text := strings.Join(pieces, "")
	answer := newChat(x.model, "chat.completion", chatChoice{
		ContentFilterResults: safe(), FinishReason: new("stop"), Message: &chatMessage{Content: &text, Role: "assistant"},
	})
	answer.PromptFilterResults = []promptFilter{{ContentFilterResults: safe()}}
	answer.Usage = &used
	x.json(http.StatusOK, answer)
}

func newChat(model, object string, choices ...chatChoice) chatCompletion {
	return chatCompletion{
		Choices:           choices,
		chatHead:          chatHead{Created: time.Now().Unix(), ID: newID("chatcmpl-"), Model: model, Object: object},
		SystemFingerprint: new("fp_emulated"),
	}
}

// streamChat sends the events of a chat completion the way Azure does: first
// the verdict on the prompt, in an event without choices that trips clients.
func streamChat(x *exchange, pieces []string, used usage, withUsage bool) {
	s := x.events()
	s.send("", chatCompletion{Choices: []chatChoice{}, PromptFilterResults: []promptFilter{{ContentFilterResults: safe()}}})
	chunk := newChat(x.model, "chat.completion.chunk", chatChoice{
		ContentFilterResults: filterResults{}, Delta: &chatMessage{Content: new(""), Role: "assistant"},
	})
	s.send("", chunk)
	choice := &chunk.Choices[0]
	choice.ContentFilterResults = safe()
	for _, piece := range pieces {
		choice.Delta = &chatMessage{Content: &piece}
		s.send("", chunk)
	}
	choice.ContentFilterResults, choice.Delta, choice.FinishReason = filterResults{}, &chatMessage{}, new("stop")
	s.send("", chunk)
	if withUsage {
		chunk.Choices, chunk.Usage = []chatChoice{}, &used
		s.send("", chunk)
	}
	s.done()
}
