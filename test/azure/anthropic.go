package azure

import (
	"net/http"
	"strings"
)

type messagesRequest struct {
	Model    string    `json:"model"`
	Messages []message `json:"messages"`
	Stream   bool      `json:"stream"`
}

func (q messagesRequest) inputTokens() (n int) {
	for _, m := range q.Messages {
		n += tokens(string(m.Content))
	}
	return n
}

// anthropicMessages is Claude on Foundry, in Anthropic's shape.
func anthropicMessages(x *exchange) {
	var q messagesRequest
	if !x.decode(&q) || !x.findDeployment(q.Model) {
		return
	}
	pieces := x.pace.pieces(Reply(x.model, lastUser(q.Messages)))
	answer := object{
		"id": newID("msg_"), "type": "message", "role": "assistant", "model": x.model,
		"content":     []object{{"type": "text", "text": strings.Join(pieces, "")}},
		"stop_reason": "end_turn", "stop_sequence": nil,
		"usage": object{"input_tokens": q.inputTokens(), "output_tokens": len(pieces)},
	}
	if q.Stream {
		streamMessages(x, answer, pieces)
		return
	}
	x.json(http.StatusOK, answer)
}

// streamMessages sends named events that repeat their name as type. The stream
// ends with message_stop; there is no [DONE].
func streamMessages(x *exchange, finished object, pieces []string) {
	s := x.events()
	send := func(name string, fields object) { s.send(name, with(fields, object{"type": name})) }
	begun := with(finished, object{"content": []object{}, "stop_reason": nil, "usage": object{
		"input_tokens": finished["usage"].(object)["input_tokens"], "output_tokens": 0,
	}})
	send("message_start", object{"message": begun})
	send("content_block_start", object{"index": 0, "content_block": object{"type": "text", "text": ""}})
	send("ping", object{})
	for _, piece := range pieces {
		send("content_block_delta", object{"index": 0, "delta": object{"type": "text_delta", "text": piece}})
	}
	send("content_block_stop", object{"index": 0})
	send("message_delta", object{
		"delta": object{"stop_reason": "end_turn", "stop_sequence": nil},
		"usage": object{"output_tokens": len(pieces)},
	})
	send("message_stop", object{})
}

func countTokens(x *exchange) {
	var q messagesRequest
	if x.decode(&q) {
		x.json(http.StatusOK, object{"input_tokens": q.inputTokens()})
	}
}
