package diagnose

import (
	"bytes"
	"encoding/json"
)

// errorText is what an error body says, and where.
type errorText struct {
	code, message string
	// end is the offset of the quotation mark that closes the message, 0 if
	// there is no message (an object has its brace there).
	end int
}

// locate finds the message in both shapes that Azure sends: {"error":{"code",
// "message"}} and the gateway's flat {"statusCode","message"}. It reports false
// if there is none. A body that is cut off is read as far as it goes, and of a
// repeated key the last one counts, as it does in the clients' decoders.
func locate(body []byte) (errorText, bool) {
	dec := json.NewDecoder(bytes.NewReader(body))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return errorText{}, false
	}
	var flat, outer errorText
	// An error ends the reading; what was found before it stands.
	_ = members(dec, func(key string) (err error) {
		if key == "error" {
			outer, err = nested(dec)
			return err
		}
		return flat.read(dec, key)
	})
	if outer.end > 0 {
		return outer, true
	}
	return flat, flat.end > 0
}

// nested reads the value of "error", whatever it is.
func nested(dec *json.Decoder) (errorText, error) {
	var text errorText
	start, err := dec.Token()
	switch start {
	case json.Delim('{'):
		err = members(dec, func(key string) error { return text.read(dec, key) })
	case json.Delim('['):
		err = elements(dec)
	}
	return text, err
}

// members hands each key of an object that has been entered to value, which
// must consume what belongs to it, and leaves the object.
func members(dec *json.Decoder, value func(key string) error) error {
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		if err := value(key.(string)); err != nil { // the decoder admits no other keys
			return err
		}
	}
	_, err := dec.Token()
	return err
}

// elements skips the rest of an array that has been entered.
func elements(dec *json.Decoder) error {
	var skipped json.RawMessage
	for dec.More() {
		if err := dec.Decode(&skipped); err != nil {
			return err
		}
	}
	_, err := dec.Token()
	return err
}

// read consumes the value of one member and keeps it if it is a text wanted.
func (t *errorText) read(dec *json.Decoder, key string) error {
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return err
	}
	var text string
	isText := raw[0] == '"' && json.Unmarshal(raw, &text) == nil
	switch key {
	case "code":
		t.code = text
	case "message":
		t.message, t.end = text, 0
		if isText {
			t.end = int(dec.InputOffset()) - 1
		}
	}
	return nil
}

// Note is what is appended to an error's message.
func Note(d Diagnosis) string { return " [entra-sidecar: " + d.Cause + ": " + d.Sentence + "]" }

// Annotate appends the cause and its sentence to the message of an error body.
// It inserts bytes and changes none, so that everything else, white space and
// unknown members included, stays as Azure sent it; body may therefore be the
// beginning of a longer one. It returns the body itself and false if the cause
// is not worth annotating or the shape of the body is not understood.
func Annotate(body []byte, d Diagnosis) ([]byte, bool) {
	if !d.Auth {
		return body, false
	}
	text, ok := locate(body)
	if !ok {
		return body, false
	}
	note, err := json.Marshal(Note(d))
	if err != nil {
		return body, false
	}
	note = note[1 : len(note)-1] // within the quotation marks
	return bytes.Join([][]byte{body[:text.end], note, body[text.end:]}, nil), true
}
