package azure

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// responseInput is a text or a list of items, of which messages matter.
type responseInput []message

func (in *responseInput) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		*in = responseInput{{Role: "user", Content: content(text)}}
		return nil
	}
	return json.Unmarshal(data, (*[]message)(in))
}

// createResponse is the Responses API: the answer is kept and can be fetched,
// unlike a chat completion.
func createResponse(x *exchange) {
	var q struct {
		Model  string        `json:"model"`
		Input  responseInput `json:"input"`
		Stream bool          `json:"stream"`
	}
	if !x.decode(&q) || !x.findDeployment(q.Model) {
		return
	}
	pieces := x.pace.pieces(Reply(x.model, lastUser(q.Input)))
	finished := newResponse(x.model, strings.Join(pieces, ""), q.Input)
	id := finished["id"].(string)
	x.emulator.objects.put("responses", finished)
	for _, m := range q.Input {
		x.emulator.objects.put("responses/"+id+"/input_items", object{
			"id": newID("msg_"), "type": "message", "role": m.Role, "status": "completed",
			"content": []object{{"type": "input_text", "text": m.Content}},
		})
	}
	if q.Stream {
		streamResponse(x, finished, pieces)
		return
	}
	x.json(http.StatusOK, finished)
}

func newResponse(model, text string, input responseInput) object {
	in := 0
	for _, m := range input {
		in += tokens(string(m.Content))
	}
	return object{
		"id": newID("resp_"), "object": "response", "created_at": time.Now().Unix(), "model": model,
		"status": "completed", "error": nil, "incomplete_details": nil, "instructions": nil, "metadata": object{},
		"parallel_tool_calls": true, "temperature": 1.0, "top_p": 1.0, "tool_choice": "auto", "tools": []object{},
		"output": []object{outputMessage(newID("msg_"), "completed", outputText(text))},
		"usage": object{
			"input_tokens": in, "output_tokens": tokens(text), "total_tokens": in + tokens(text),
			"input_tokens_details": object{"cached_tokens": 0}, "output_tokens_details": object{"reasoning_tokens": 0},
		},
	}
}

func outputMessage(id, status string, content ...object) object {
	if content == nil {
		content = []object{}
	}
	return object{"id": id, "type": "message", "role": "assistant", "status": status, "content": content}
}

func outputText(text string) object {
	return object{"type": "output_text", "text": text, "annotations": []object{}, "logprobs": []object{}}
}

// streamResponse tells how the response comes to be. Every event repeats its
// name as type and carries a number; there is no [DONE].
func streamResponse(x *exchange, finished object, pieces []string) {
	s, number := x.events(), 0
	send := func(name string, fields object) {
		s.send(name, with(fields, object{"type": name, "sequence_number": number}))
		number++
	}
	item := finished["output"].([]object)[0]
	id := item["id"].(string)
	begun := with(finished, object{"status": "in_progress", "output": []object{}, "usage": nil})
	part := object{"item_id": id, "output_index": 0, "content_index": 0}
	text := strings.Join(pieces, "")

	send("response.created", object{"response": begun})
	send("response.in_progress", object{"response": begun})
	send("response.output_item.added", object{"output_index": 0, "item": outputMessage(id, "in_progress")})
	send("response.content_part.added", with(part, object{"part": outputText("")}))
	for _, piece := range pieces {
		send("response.output_text.delta", with(part, object{"delta": piece, "logprobs": []object{}}))
	}
	send("response.output_text.done", with(part, object{"text": text, "logprobs": []object{}}))
	send("response.content_part.done", with(part, object{"part": outputText(text)}))
	send("response.output_item.done", object{"output_index": 0, "item": item})
	send("response.completed", object{"response": finished})
}

func deleteResponse(x *exchange) {
	_, id := x.item()
	if !x.emulator.objects.remove("responses", id) {
		x.missing(id)
		return
	}
	x.json(http.StatusOK, object{"id": id, "object": "response", "deleted": true})
}

var conversations = collection{path: "conversations", action: "OpenAI/responses", object: "conversation", prefix: "conv_"}
