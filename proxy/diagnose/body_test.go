package diagnose

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var noted = Diagnosis{Cause: "missing-role", Sentence: `The "role" is missing; assign it.`, Auth: true}

const note = ` [entra-sidecar: missing-role: The \"role\" is missing; assign it.]`

func TestAnnotateInsertsTheSentenceAndNothingElse(t *testing.T) {
	for name, body := range map[string]string{
		"the outer shape":       `{"error":{"code":"PermissionDenied","message": "No.^"}}`,
		"the flat shape":        `{ "statusCode": 401, "message": "Unauthorized.^" }`,
		"without outer error":   `{"code":"403","message":"No.^"}`,
		"white space":           "\n{ \"error\" :\t{ \"message\"\r\n:  \"No.^\"  , \"code\" : 1e2 } }\n",
		"escapes":               `{"error":{"message":"a\"b\\^","code":null}}`,
		"an escaped slash":      `{"error":{"message":"\\\/^"}}`,
		"a lone surrogate":      `{"error":{"message":"\ud83d^"}}`,
		"no UTF-8":              "{\"error\":{\"message\":\"\xff\xe2\x82^\"}}",
		"an empty message":      `{"error":{"message":"^"}}`,
		"both shapes":           `{"message":"flat","error":{"message":"outer^"}}`,
		"both, flat last":       `{"error":{"message":"outer^"},"message":"flat"}`,
		"an error that is text": `{"error":"PermissionDenied","message":"No.^"}`,
		"an error that is null": `{"error":null,"message":"No.^"}`,
		"an error in an array":  `{"error":[{"message":"x"},[1]],"message":"No.^"}`,
		"an error without text": `{"error":{"message":null},"message":"No.^"}`,
		"deeper messages":       `{"error":{"inner":{"message":"x"},"details":[{"message":"y"}],"message":"No.^","innererror":{"message":"z"}}}`,
		"a repeated message":    `{"error":{"message":"first","message":"last^"}}`,
		"a repeated error":      `{"error":{"message":"first"},"error":{"message":"last^"}}`,
		"an error taken back":   `{"error":{"message":"first"},"error":1,"message":"flat^"}`,
		"large numbers":         `{"error":{"message":"No.^","n":12345678901234567890.10}}`,
		"another case":          `{"Message":"x","ERROR":{"message":"y"},"message":"No.^"}`,
		"a body cut off":        `{"error":{"message":"No.^","detail":"and so o`,
		"a body cut at the end": `{"error":{"message":"No.^"`,
	} {
		t.Run(name, func(t *testing.T) {
			in := []byte(strings.Replace(body, "^", "", 1))
			before := bytes.Clone(in)
			out, ok := Annotate(in, noted)
			if want := strings.Replace(body, "^", note, 1); !ok || string(out) != want {
				t.Errorf("got  %s\nwant %s", out, want)
			}
			if !bytes.Equal(in, before) {
				t.Errorf("the body itself was changed: %s", in)
			}
		})
	}
}

func TestAnnotateLeavesOtherBodiesAlone(t *testing.T) {
	for name, body := range map[string]string{
		"nothing":                  "",
		"a page":                   "<html>message</html>",
		"an array":                 `[{"message":"x"}]`,
		"a string":                 `"message"`,
		"no message":               `{"error":{"code":"x"}}`,
		"a message that is none":   `{"error":{"message":{"value":"x"}}}`,
		"a number":                 `{"message":1}`,
		"a message taken back":     `{"error":{"message":"x","message":null}}`,
		"a message that is cut":    `{"error":{"message":"No`,
		"a message only in detail": `{"error":{"details":[{"message":"x"}]}}`,
		"broken before":            `{"error":{"code":x,"message":"x"}}`,
	} {
		if out, ok := Annotate([]byte(body), noted); ok || string(out) != body {
			t.Errorf("%s: %v, %s", name, ok, out)
		}
	}
}

func TestAnnotateIsForFaultsOfSetUpOnly(t *testing.T) {
	for _, b := range bodies {
		d, _ := Diagnose(refusal(b.status, b.body))
		out, ok := Annotate([]byte(b.body), d)
		want := !strings.HasPrefix(b.cause, "rate-limited") && b.cause != "content-filter"
		if ok != want || ok != d.Auth || want == (string(out) == b.body) {
			t.Errorf("%s: annotated %v, want %v: %s", b.cause, ok, want, out)
		}
		if ok && !json.Valid(out) {
			t.Errorf("%s: not JSON: %s", b.cause, out)
		}
	}
}

func FuzzAnnotate(f *testing.F) {
	for _, b := range bodies {
		f.Add(b.body)
	}
	f.Add(`{"error":{"message":"a"},"error":5,"message":"b","message":"\ud83d"}`)
	f.Add("{\"error\":{\"message\":\"\xe2\"}}")
	f.Fuzz(func(t *testing.T, body string) {
		out, ok := Annotate([]byte(body), noted)
		if !ok {
			if string(out) != body {
				t.Fatalf("changed without saying so: %q", out)
			}
			return
		}
		if at := strings.Index(string(out), note); at < 0 || !inserted(string(out), body) {
			t.Fatalf("more was changed than the note:\n%q\n%q", body, out)
		}
		var before, after map[string]any
		if json.Unmarshal([]byte(body), &before) != nil {
			return // cut off or broken behind the message
		}
		if err := json.Unmarshal(out, &after); err != nil {
			t.Fatalf("no longer JSON: %v\n%q", err, out)
		}
		appendNote(before)
		if diff := cmp.Diff(before, after); diff != "" {
			t.Fatalf("-want +got\n%s", diff)
		}
	})
}

// inserted reports whether out is body with one note somewhere in it.
func inserted(out, body string) bool {
	for at := 0; at < len(out); at++ {
		next := strings.Index(out[at:], note)
		if next < 0 {
			return false
		}
		if at += next; out[:at]+out[at+len(note):] == body {
			return true
		}
	}
	return false
}

// appendNote does to a decoded body what Annotate does to its text.
func appendNote(body map[string]any) {
	var text string
	_ = json.Unmarshal([]byte(`"`+note+`"`), &text)
	if outer, ok := body["error"].(map[string]any); ok {
		if message, ok := outer["message"].(string); ok {
			outer["message"] = message + text
			return
		}
	}
	body["message"] = body["message"].(string) + text
}
