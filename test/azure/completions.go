package azure

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

type completionRequest struct {
	Model  string  `json:"model"`
	Prompt prompts `json:"prompt"`
	Stream bool    `json:"stream"`
}

// prompts is a text, or a list of texts or of tokens; only text is echoed.
type prompts []string

func (p *prompts) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*p = prompts{one}
		return nil
	}
	var many []any
	if err := json.Unmarshal(data, &many); err != nil {
		return err
	}
	for _, item := range many {
		switch item := item.(type) {
		case string:
			*p = append(*p, item)
		case []any:
			*p = append(*p, "tokens")
		default:
			*p = prompts{"tokens"} // the list itself is one prompt of token numbers
			return nil
		}
	}
	return nil
}

func completions(x *exchange) {
	var q completionRequest
	if !x.decode(&q) || !x.findDeployment(q.Model) {
		return
	}
	prompt := strings.Join(q.Prompt, " ")
	pieces := x.pace.pieces(Reply(x.model, prompt))
	answer := object{
		"id": newID("cmpl-"), "object": "text_completion", "created": time.Now().Unix(), "model": x.model,
	}
	choice := func(text string, finish any) []object {
		return []object{{"text": text, "index": 0, "finish_reason": finish, "logprobs": nil, "content_filter_results": safe()}}
	}
	if !q.Stream {
		answer["choices"] = choice(strings.Join(pieces, ""), "stop")
		answer["usage"] = usage{Prompt: tokens(prompt), Completion: len(pieces), Total: tokens(prompt) + len(pieces)}
		x.json(http.StatusOK, answer)
		return
	}
	s := x.events()
	for _, piece := range pieces {
		answer["choices"] = choice(piece, nil)
		s.send("", answer)
	}
	answer["choices"] = choice("", "stop")
	s.send("", answer)
	s.done()
}
