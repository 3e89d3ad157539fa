package azure

import (
	"encoding/json"
	"strings"
)

// Reply is what the emulated model called deployment says to prompt, the text
// of the last user message: tests assert on it.
func Reply(deployment, prompt string) string { return deployment + " heard: " + prompt }

// pieces cuts a reply into the deltas of a stream, as many and as large as the
// pace asks. Their concatenation is the text of an unstreamed answer.
func (p Pace) pieces(reply string) []string {
	pieces := strings.SplitAfter(reply, " ")
	if p.Chunks > 0 && len(pieces) > p.Chunks {
		pieces = append(pieces[:p.Chunks-1], strings.Join(pieces[p.Chunks-1:], ""))
	}
	for len(pieces) < p.Chunks {
		pieces = append(pieces, " and more")
	}
	for i, piece := range pieces {
		if missing := p.ChunkBytes - len(piece); missing > 0 {
			pieces[i] = piece + strings.Repeat(".", missing)
		}
	}
	return pieces
}

// content is a message's text, which clients send as a string or as parts.
type content string

// UnmarshalJSON joins the text of all parts; those that are no text, such as
// images, count for nothing.
func (c *content) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		*c = content(text)
		return nil
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal(data, &parts); err != nil {
		return err
	}
	for _, part := range parts {
		*c += content(part.Text)
	}
	return nil
}

type message struct {
	Role    string  `json:"role"`
	Content content `json:"content"`
}

// lastUser is the prompt that the model echoes.
func lastUser(messages []message) string {
	prompt := ""
	for _, m := range messages {
		if m.Role == "user" {
			prompt = string(m.Content)
		}
	}
	return prompt
}

// tokens counts as a tokenizer would that knew only words.
func tokens(text string) int { return len(strings.Fields(text)) }
