package azure

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// event is one server-sent event.
type event struct{ name, data string }

func readEvents(r io.Reader) (events []event, err error) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 1<<20)
	var e event
	for scanner.Scan() {
		switch line := scanner.Text(); {
		case line == "":
			events, e = append(events, e), event{}
		case strings.HasPrefix(line, "event: "):
			e.name = strings.TrimPrefix(line, "event: ")
		case strings.HasPrefix(line, "data: "):
			e.data = strings.TrimPrefix(line, "data: ")
		}
	}
	if e != (event{}) {
		events = append(events, e) // without its end
	}
	return events, scanner.Err()
}

const streamHello = `{"stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"system","content":"be brief"},{"role":"user","content":"hello"}]}`

func TestAStreamHasAzuresShape(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	a := do(t, client(t, e), request(t, "POST", e.URL+chatPath, token(t, e, cognitive), streamHello))
	if got := a.Header.Get("Content-Type"); got != "text/event-stream; charset=utf-8" || !cmp.Equal(a.TransferEncoding, []string{"chunked"}) {
		t.Errorf("content type %q, encoding %v", got, a.TransferEncoding)
	}
	events, err := readEvents(strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for i, event := range events[:len(events)-1] {
		var chunk struct {
			Choices []struct {
				Delta struct {
					Content *string
					Role    string
				}
				FinishReason *string `json:"finish_reason"`
			}
			PromptFilterResults []any `json:"prompt_filter_results"`
			Usage               *usage
		}
		if err := json.Unmarshal([]byte(event.data), &chunk); err != nil {
			t.Fatal(err)
		}
		var ok bool
		switch i {
		case 0: // Azure's verdict on the prompt
			ok = len(chunk.Choices) == 0 && len(chunk.PromptFilterResults) == 1
		case 1:
			ok = chunk.Choices[0].Delta.Role == "assistant"
		case len(events) - 3:
			ok = chunk.Choices[0].FinishReason != nil && *chunk.Choices[0].FinishReason == "stop"
		case len(events) - 2:
			ok = len(chunk.Choices) == 0 && cmp.Equal(chunk.Usage, &usage{Prompt: 3, Completion: 3, Total: 6})
		default:
			ok = chunk.Choices[0].Delta.Content != nil
			text += *chunk.Choices[0].Delta.Content
		}
		if !ok {
			t.Errorf("event %d: %s", i, event.data)
		}
	}
	if text != Reply("gpt-4o", "hello") || events[len(events)-1].data != "[DONE]" {
		t.Errorf("text %q, events %v", text, events)
	}
}

func TestTheHeadersOfASuccess(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	a := do(t, client(t, e), request(t, "POST", e.URL+chatPath, token(t, e, cognitive), hello))
	for _, name := range []string{
		"apim-request-id", "x-request-id", "x-ms-region", "x-ms-deployment-name", "azureml-model-session",
		"x-ratelimit-limit-requests", "x-ratelimit-limit-tokens", "x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens",
	} {
		if a.Header.Get(name) == "" {
			t.Errorf("%s is missing", name)
		}
	}
	if a.Header.Get("x-accel-buffering") != "no" || a.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("headers %v", a.Header)
	}
}

func TestTheResourceSpeaksHTTP2(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	c := client(t, e)
	c.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	for _, body := range []string{hello, streamHello} {
		if a := do(t, c, request(t, "POST", e.URL+chatPath, token(t, e, cognitive), body)); a.ProtoMajor != 2 || !strings.Contains(a.body, "heard") {
			t.Errorf("%s: %d %s", a.Proto, a.StatusCode, a.body)
		}
	}
}

func TestThePaceSetsSizeAndSpeed(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		pace   Pace
		chunks int
		text   string
		least  time.Duration
	}{
		"as it comes":      {Pace{}, 3, "gpt-4o heard: hello", 0},
		"fewer chunks":     {Pace{Chunks: 2}, 2, "gpt-4o heard: hello", 0},
		"more chunks":      {Pace{Chunks: 5}, 5, "gpt-4o heard: hello and more and more", 0},
		"larger chunks":    {Pace{Chunks: 1, ChunkBytes: 25}, 1, "gpt-4o heard: hello......", 0},
		"with pauses":      {Pace{ChunkDelay: 0.02}, 3, "gpt-4o heard: hello", 120 * time.Millisecond},
		"a late beginning": {Pace{HeadDelay: 0.1}, 3, "gpt-4o heard: hello", 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := start(t, Options{Faults: Faults{Pace: tc.pace}})
			c, begin := client(t, e), time.Now()
			a := do(t, c, request(t, "POST", e.URL+chatPath, token(t, e, cognitive), strings.Replace(hello, "{", `{"stream":true,`, 1)))
			took := time.Since(begin)
			if got := strings.Count(a.body, "data: ") - 4; got != tc.chunks || took < tc.least {
				t.Errorf("%d chunks after %v", got, took)
			}
			a = do(t, c, request(t, "POST", e.URL+chatPath, token(t, e, cognitive), hello))
			if !strings.Contains(a.body, `"`+tc.text+`"`) {
				t.Errorf("text %s", a.body)
			}
		})
	}
}

func TestAnAnswerBreaksOffWhereAsked(t *testing.T) {
	t.Parallel()
	stream := strings.Replace(hello, "{", `{"stream":true,`, 1)
	for name, tc := range map[string]struct {
		cut   Cut
		body  string
		clean bool
		check func(body string) bool
	}{
		"a stream before its first event": {Cut{}, stream, false, func(b string) bool { return b == "" }},
		"a stream between two events":     {Cut{After: 3}, stream, false, func(b string) bool { return strings.Count(b, "\n\n") == 3 && strings.HasSuffix(b, "\n\n") }},
		"a stream inside an event":        {Cut{After: 3, InsideEvent: true}, stream, false, func(b string) bool { return strings.Count(b, "data: ") == 4 && !strings.HasSuffix(b, "\n\n") }},
		"a stream before its mark of end": {Cut{After: 6}, stream, false, func(b string) bool { return strings.Contains(b, `"stop"`) && !strings.Contains(b, "DONE") }},
		"a stream that looks complete":    {Cut{After: 3, Clean: true}, stream, true, func(b string) bool { return strings.Count(b, "\n\n") == 3 }},
		"a body in the middle":            {Cut{}, hello, false, func(b string) bool { return strings.HasPrefix(b, `{"choices":`) && !json.Valid([]byte(b)) }},
		"a body after some bytes":         {Cut{After: 10}, hello, false, func(b string) bool { return b == `{"choices"` }},
		"a body that looks complete":      {Cut{After: 10, Clean: true}, hello, true, func(b string) bool { return b == `{"choices"` }},
	} {
		for protocol, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
			t.Run(name+" over "+protocol, func(t *testing.T) {
				t.Parallel()
				e := start(t, Options{Faults: Faults{Azure: []Rule{{Cut: &tc.cut}}}})
				c := client(t, e)
				c.Transport.(*http.Transport).ForceAttemptHTTP2 = h2
				res, err := c.Do(request(t, "POST", e.URL+chatPath, token(t, e, cognitive), tc.body))
				if err != nil {
					if tc.cut.After == 0 && tc.body == stream {
						return // the header may go down with the rest
					}
					t.Fatal(err)
				}
				defer res.Body.Close()
				body, err := io.ReadAll(res.Body)
				if (err == nil) != tc.clean || !tc.check(string(body)) {
					t.Errorf("%v after %q", err, body)
				}
				if !h2 && !tc.clean && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%v", err)
				}
				if !e.Requests()[0].Cut {
					t.Error("the cut is not recorded")
				}
			})
		}
	}
}

func TestTheLastUserMessageIsEchoed(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	c := client(t, e)
	for name, tc := range map[string]struct{ messages, want string }{
		"a text":                 {`[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]`, "gpt-4o heard: a"},
		"the last of several":    {`[{"role":"user","content":"a"},{"role":"user","content":"b"}]`, "gpt-4o heard: b"},
		"the text of parts":      {`[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:"}}]}]`, "gpt-4o heard: a"},
		"no user at all":         {`[{"role":"system","content":"a"}]`, "gpt-4o heard: "},
		"a message without text": {`[{"role":"user","content":null}]`, "gpt-4o heard: "},
	} {
		t.Run(name, func(t *testing.T) {
			a := do(t, c, request(t, "POST", e.URL+chatPath, token(t, e, cognitive), `{"messages":`+tc.messages+`}`))
			if !strings.Contains(a.body, `"content":"`+tc.want+`"`) {
				t.Error(a.body)
			}
		})
	}
	if a := do(t, c, request(t, "POST", e.URL+chatPath, token(t, e, cognitive), "{")); a.StatusCode != http.StatusBadRequest {
		t.Errorf("a body that is no JSON: %d", a.StatusCode)
	}
}
