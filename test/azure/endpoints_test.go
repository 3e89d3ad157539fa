package azure

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"mime/multipart"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// caller makes authenticated requests in one test.
type caller struct {
	t *testing.T
	e *Emulator
	c *http.Client
	// audience of the token; classic paths and v1 share one.
	audience string
}

func newCaller(t *testing.T, o Options) caller {
	e := start(t, o)
	return caller{t, e, client(t, e), cognitive}
}

// call returns the decoded answer, whose status must be as expected.
func (c caller) call(method, path, body string, status int) object {
	c.t.Helper()
	a := do(c.t, c.c, request(c.t, method, c.e.URL+path, token(c.t, c.e, c.audience), body))
	if a.StatusCode != status {
		c.t.Fatalf("%s %s: %d %s", method, path, a.StatusCode, a.body)
	}
	var o object
	_ = json.Unmarshal([]byte(a.body), &o) // what is no object is not looked at
	return o
}

// dig follows names and indexes into a decoded answer.
func dig(v any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			o, _ := v.(object)
			v = o[step]
		case int:
			list, _ := v.([]any)
			if step >= len(list) {
				return nil
			}
			v = list[step]
		}
	}
	return v
}

func TestEveryOperationAnswersOnItsPaths(t *testing.T) {
	t.Parallel()
	c := newCaller(t, Options{})
	const version = "?api-version=2024-10-21"
	user := `"messages":[{"role":"user","content":"hi"}]`
	for name, tc := range map[string]struct {
		method, path, body string
		want               string // at
		at                 []any
	}{
		"chat":                  {"POST", "/openai/deployments/gpt-4o/chat/completions" + version, `{` + user + `}`, "gpt-4o heard: hi", []any{"choices", 0, "message", "content"}},
		"chat, v1":              {"POST", "/openai/v1/chat/completions", `{"model":"gpt-4o-mini",` + user + `}`, "gpt-4o-mini heard: hi", []any{"choices", 0, "message", "content"}},
		"chat, v1 preview":      {"POST", "/openai/v1/chat/completions?api-version=preview", `{"model":"gpt-4o",` + user + `}`, "gpt-4o heard: hi", []any{"choices", 0, "message", "content"}},
		"chat, Foundry":         {"POST", "/models/chat/completions?api-version=2024-05-01-preview", `{"model":"Mistral-Large-3",` + user + `}`, "Mistral-Large-3 heard: hi", []any{"choices", 0, "message", "content"}},
		"completions":           {"POST", "/openai/deployments/gpt-35-turbo-instruct/completions" + version, `{"prompt":["a","b"]}`, "gpt-35-turbo-instruct heard: a b", []any{"choices", 0, "text"}},
		"completions, v1":       {"POST", "/openai/v1/completions", `{"model":"gpt-35-turbo-instruct","prompt":"a"}`, "gpt-35-turbo-instruct heard: a", []any{"choices", 0, "text"}},
		"embeddings":            {"POST", "/openai/deployments/text-embedding-3-small/embeddings" + version, `{"input":["a","b"]}`, "text-embedding-3-small", []any{"model"}},
		"embeddings of tokens":  {"POST", "/openai/v1/embeddings", `{"model":"text-embedding-3-small","input":[[1,2],[3]]}`, "embedding", []any{"data", 1, "object"}},
		"embeddings, Foundry":   {"POST", "/models/embeddings", `{"model":"Cohere-embed-v3-english","input":["a"]}`, "embedding", []any{"data", 0, "object"}},
		"embeddings of images":  {"POST", "/models/images/embeddings", `{"model":"Cohere-embed-v3-english","input":[{"image":"data:image/png;base64,"}]}`, "embedding", []any{"data", 0, "object"}},
		"embeddings, Cohere":    {"POST", "/providers/cohere/v2/embed", `{"model":"Cohere-embed-v3-english","texts":["a"]}`, "embeddings_by_type", []any{"response_type"}},
		"a model's description": {"GET", "/models/info", "", "chat-completion", []any{"model_type"}},
		"rerank":                {"POST", "/v1/rerank", `{"model":"cohere-rerank-v3.5","query":"q","documents":["a","b"],"return_documents":true}`, "b", []any{"results", 1, "document", "text"}},
		"rerank, Cohere":        {"POST", "/providers/cohere/v2/rerank", `{"model":"cohere-rerank-v3.5","query":"q","documents":[{"text":"a"}],"top_n":5,"return_documents":true}`, "a", []any{"results", 0, "document", "text"}},
		"Claude":                {"POST", "/anthropic/v1/messages", `{"model":"claude-sonnet-4-5",` + user + `}`, "claude-sonnet-4-5 heard: hi", []any{"content", 0, "text"}},
		"an image by address":   {"POST", "/openai/deployments/dall-e-3/images/generations" + version, `{"prompt":"a cat"}`, "dall-e-3 heard: a cat", []any{"data", 0, "revised_prompt"}},
		"an image as data":      {"POST", "/openai/v1/images/generations", `{"model":"gpt-image-1","prompt":"a cat","n":2}`, pixel(), []any{"data", 1, "b64_json"}},
		"an image from Foundry": {"POST", "/models/images/generations", `{"model":"gpt-image-1","prompt":"a cat"}`, pixel(), []any{"data", 0, "b64_json"}},
		"models":                {"GET", "/openai/models" + version, "", "gpt-4o", []any{"data", 0, "id"}},
		"models, v1":            {"GET", "/openai/v1/models", "", "list", []any{"object"}},
		"one model":             {"GET", "/openai/models/gpt-4o" + version, "", "succeeded", []any{"status"}},
		"one model, v1":         {"GET", "/openai/v1/models/gpt-4o", "", "succeeded", []any{"status"}},
		"deployments":           {"GET", "/openai/deployments" + version, "", "gpt-4o", []any{"data", 0, "id"}},
		"fine tuning":           {"GET", "/openai/fine_tuning/jobs" + version, "", "list", []any{"object"}},
		"an ephemeral key":      {"POST", "/openai/v1/realtime/client_secrets", `{"session":{"model":"gpt-realtime"}}`, "gpt-realtime", []any{"session", "model"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := caller{t, c.e, c.c, cognitive}
			if got := dig(c.call(tc.method, tc.path, tc.body, 200), tc.at...); got != tc.want {
				t.Errorf("%v: %v, want %v", tc.at, got, tc.want)
			}
		})
	}
	if got := dig(c.call("POST", "/anthropic/v1/messages/count_tokens", `{`+user+`}`, 200), "input_tokens"); got != 1.0 {
		t.Errorf("tokens %v", got)
	}
	c.call("GET", "/openai/models/missing"+version, "", 404)
	c.call("POST", "/anthropic/v1/messages", `{"model":"missing"}`, 404)
}

func TestStreamsOfOtherShapes(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	c := client(t, e)
	for name, tc := range map[string]struct {
		path, body string
		names      []string
		last       string
		text       []any // where a delta's text is
		want       string
	}{
		"completions": {
			"/openai/v1/completions", `{"stream":true,"model":"gpt-35-turbo-instruct","prompt":"hi"}`,
			[]string{"", "", "", "", ""}, "[DONE]", []any{"choices", 0, "text"}, "gpt-35-turbo-instruct heard: hi",
		},
		"responses": {
			"/openai/v1/responses?api-version=preview", `{"stream":true,"model":"gpt-4o","input":"hi"}`,
			[]string{
				"response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
				"response.output_text.delta", "response.output_text.delta", "response.output_text.delta",
				"response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed",
			}, "", []any{"delta"}, "gpt-4o heard: hi",
		},
		"Claude": {
			"/anthropic/v1/messages", `{"stream":true,"model":"claude-sonnet-4-5","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]}`,
			[]string{
				"message_start", "content_block_start", "ping", "content_block_delta", "content_block_delta", "content_block_delta",
				"content_block_stop", "message_delta", "message_stop",
			}, "", []any{"delta", "text"}, "claude-sonnet-4-5 heard: hi",
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := do(t, c, request(t, "POST", e.URL+tc.path, token(t, e, cognitive), tc.body))
			events, err := readEvents(strings.NewReader(a.body))
			if err != nil || a.StatusCode != 200 {
				t.Fatal(err, a.body)
			}
			var names []string
			text := ""
			for _, event := range events {
				var data object
				_ = json.Unmarshal([]byte(event.data), &data) // [DONE] is none
				names = append(names, event.name)
				if event.name != "" && data["type"] != event.name {
					t.Errorf("event %s says it is %v", event.name, data["type"])
				}
				delta, _ := dig(data, tc.text...).(string)
				text += delta
			}
			if diff := cmp.Diff(tc.names, names); diff != "" {
				t.Error(diff)
			}
			if text != tc.want || tc.last != "" && events[len(events)-1].data != tc.last {
				t.Errorf("text %q, last %v", text, events[len(events)-1])
			}
		})
	}
}

func TestEmbeddingsAreUnitVectorsInEitherEncoding(t *testing.T) {
	t.Parallel()
	c := newCaller(t, Options{})
	ask := func(extra string) any {
		o := c.call("POST", "/openai/v1/embeddings", `{"model":"text-embedding-3-small","input":"a"`+extra+`}`, 200)
		return dig(o, "data", 0, "embedding")
	}
	floats, _ := ask(`,"dimensions":8`).([]any)
	encoded, err := base64.StdEncoding.DecodeString(ask(`,"dimensions":8,"encoding_format":"base64"`).(string))
	if err != nil || len(floats) != 8 || len(encoded) != 32 {
		t.Fatal(err, floats, encoded)
	}
	square := 0.0
	for i, v := range floats {
		square += v.(float64) * v.(float64)
		if got := math.Float32frombits(binary.LittleEndian.Uint32(encoded[4*i:])); math.Abs(float64(got)-v.(float64)) > 1e-6 {
			t.Errorf("%d: %v in base64, %v as a number", i, got, v)
		}
	}
	if math.Abs(square-1) > 1e-5 {
		t.Errorf("length² %v", square)
	}
	if got := len(ask("").([]any)); got != defaultDimensions {
		t.Errorf("%d dimensions", got)
	}
}

func TestResponsesAreKept(t *testing.T) {
	t.Parallel()
	c := newCaller(t, Options{})
	for _, base := range []string{"/openai/v1/responses", "/openai/responses"} {
		query := ""
		if base == "/openai/responses" {
			query = "?api-version=2025-04-01-preview"
		}
		made := c.call("POST", base+query, `{"model":"gpt-4o","input":[{"role":"user","content":[{"type":"input_text","text":"hi"}]}]}`, 200)
		id := made["id"].(string)
		if got := dig(made, "output", 0, "content", 0, "text"); got != "gpt-4o heard: hi" {
			t.Errorf("text %v", got)
		}
		if diff := cmp.Diff(made, c.call("GET", base+"/"+id+query, "", 200)); diff != "" {
			t.Error(diff)
		}
		if got := dig(c.call("GET", base+"/"+id+"/input_items"+query, "", 200), "data", 0, "content", 0, "text"); got != "hi" {
			t.Errorf("input %v", got)
		}
		if got := c.call("POST", base+"/"+id+"/cancel"+query, "", 200)["status"]; got != "cancelled" {
			t.Errorf("status %v", got)
		}
		c.call("DELETE", base+"/"+id+query, "", 200)
		c.call("DELETE", base+"/"+id+query, "", 404)
		c.call("GET", base+"/"+id+query, "", 404)
		c.call("GET", base+"/"+id+"/input_items"+query, "", 404)
	}
}

// upload makes a multipart request; size bytes of file content are generated
// while they are sent.
func (c caller) upload(path string, fields map[string]string, name string, size int64) answer {
	c.t.Helper()
	body, writer := io.Pipe()
	form := multipart.NewWriter(writer)
	go func() {
		for name, value := range fields {
			_ = form.WriteField(name, value)
		}
		part, _ := form.CreateFormFile("file", name)
		_, _ = io.CopyN(part, pattern{}, size)
		_ = form.Close()
		_ = writer.Close()
	}()
	r := request(c.t, "POST", c.e.URL+path, token(c.t, c.e, c.audience), "")
	r.Body, r.ContentLength = body, -1
	r.Header.Set("Content-Type", form.FormDataContentType())
	return do(c.t, c.c, r)
}

type pattern struct{}

func (pattern) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func TestLargeFilesGoThroughWithoutBeingHeld(t *testing.T) {
	const size = 50 << 20
	c := newCaller(t, Options{})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	a := c.upload("/openai/files?api-version=2024-10-21", map[string]string{"purpose": "batch"}, "big.jsonl", size)
	runtime.ReadMemStats(&after)
	var file object
	if err := json.Unmarshal([]byte(a.body), &file); err != nil || file["bytes"] != float64(size) || file["filename"] != "big.jsonl" || file["purpose"] != "batch" {
		t.Fatalf("%v %s", err, a.body)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > size/2 {
		t.Errorf("allocated %d bytes in all", grown)
	}
	r := request(t, "GET", c.e.URL+"/openai/v1/files/"+file["id"].(string)+"/content", token(t, c.e, cognitive), "")
	res, err := c.c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, res.Body); n != size || res.ContentLength != size || err != nil {
		t.Errorf("%d of %d bytes came back: %v", n, res.ContentLength, err)
	}
}

func TestFilesLiveUntilTheyAreDeleted(t *testing.T) {
	t.Parallel()
	c := newCaller(t, Options{})
	const version = "?api-version=2024-10-21"
	var file object
	a := c.upload("/openai/files"+version, nil, "a.txt", 100)
	if err := json.Unmarshal([]byte(a.body), &file); err != nil {
		t.Fatal(a.body)
	}
	one := "/openai/files/" + file["id"].(string)
	if got := dig(c.call("GET", "/openai/files"+version, "", 200), "data", 0, "id"); got != file["id"] {
		t.Errorf("listed %v", got)
	}
	c.e.Set(func(f *Faults) { f.Azure = []Rule{{Path: "/content", Cut: &Cut{After: 10}}} })
	res, err := c.c.Do(request(t, "GET", c.e.URL+one+"/content"+version, token(t, c.e, cognitive), ""))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err == nil || string(body) != "xxxxxxxxxx" {
		t.Errorf("a cut download: %q, %v", body, err)
	}
	c.e.Reset()
	c.call("GET", one+version, "", 200)
	c.call("DELETE", one+version, "", 200)
	c.call("GET", one+version, "", 404)
	c.call("GET", one+"/content"+version, "", 404)
	c.call("DELETE", one+version, "", 404)
	if a := c.upload("/openai/models"+version, nil, "a.txt", 1); a.StatusCode != 404 {
		t.Errorf("upload to nowhere: %d", a.StatusCode)
	}
	r := request(t, "POST", c.e.URL+"/openai/files"+version, token(t, c.e, cognitive), "no form")
	r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	if a := do(t, c.c, r); a.StatusCode != 400 {
		t.Errorf("a broken form: %d %s", a.StatusCode, a.body)
	}
	c.call("POST", "/openai/files"+version, "{}", 400)
}

func TestUploadsSayWhatArrived(t *testing.T) {
	t.Parallel()
	c := newCaller(t, Options{})
	const version, size = "?api-version=2024-10-21", 2 << 20
	for path, want := range map[string]string{
		"/openai/deployments/whisper/audio/transcriptions" + version: fmt.Sprintf(`{"text":"whisper heard: a.wav, %d bytes, sha256 `, size),
		"/openai/deployments/whisper/audio/translations" + version:   `{"text":"whisper heard: `,
		"/openai/v1/audio/transcriptions":                            `{"text":"gpt-4o-transcribe heard: a.wav`,
		"/openai/deployments/gpt-image-1/images/edits" + version:     fmt.Sprintf(`"revised_prompt":"gpt-image-1 heard: a hat, 1 images, %d bytes"`, size),
	} {
		a := c.upload(path, map[string]string{"model": "gpt-4o-transcribe", "prompt": "a hat"}, "a.wav", size)
		if a.StatusCode != 200 || !strings.Contains(a.body, want) {
			t.Errorf("%s: %d %.200s", path, a.StatusCode, a.body)
		}
	}
	for format, want := range map[string]string{
		"text": "whisper heard:", "srt": "1\n00:00:00,000 --> ", "vtt": "WEBVTT\n\n", "verbose_json": `"duration":1`,
	} {
		a := c.upload("/openai/deployments/whisper/audio/transcriptions"+version, map[string]string{"response_format": format}, "a.wav", 10)
		if !strings.HasPrefix(a.body, want) && !strings.Contains(a.body, want) {
			t.Errorf("%s: %s", format, a.body)
		}
	}
}

func TestSoundIsBinary(t *testing.T) {
	t.Parallel()
	c := newCaller(t, Options{Faults: Faults{Pace: Pace{Chunks: 10, ChunkBytes: 1000}}})
	for path, body := range map[string]string{
		"/openai/deployments/tts/audio/speech?api-version=2024-10-21": `{"input":"hi","voice":"alloy"}`,
		"/openai/v1/audio/speech":                                     `{"model":"gpt-4o-mini-tts","input":"hi"}`,
		"/cognitiveservices/v1":                                       `<speak version="1.0">hi</speak>`,
	} {
		a := do(t, c.c, request(t, "POST", c.e.URL+path, token(t, c.e, cognitive), body))
		if a.StatusCode != 200 || a.Header.Get("Content-Type") != "audio/mpeg" || len(a.body) != 10000 || !strings.HasPrefix(a.body, "ID3") || !strings.Contains(a.body, "hi") {
			t.Errorf("%s: %d, %d bytes %.40q", path, a.StatusCode, len(a.body), a.body)
		}
	}
	if a := do(t, c.c, request(t, "GET", c.e.URL+"/cognitiveservices/voices/list", token(t, c.e, cognitive), "")); !strings.Contains(a.body, "AvaNeural") {
		t.Errorf("voices: %s", a.body)
	}
}

func TestLongOperationsAreFoundWhereTheAnswerSays(t *testing.T) {
	t.Parallel()
	c := newCaller(t, Options{})
	for name, tc := range map[string]struct {
		path, body string
		statuses   []string
		at         []any
		want       string
	}{
		"a document": {
			"/documentintelligence/documentModels/prebuilt-layout:analyze?api-version=2024-11-30", `{"urlSource":"https://x.example/a.pdf"}`,
			[]string{"running", "succeeded", "succeeded"}, []any{"analyzeResult", "pages", 0, "lines", 0, "content"}, "prebuilt-layout heard: a document of 39 bytes",
		},
		"an image": {
			"/openai/images/generations:submit?api-version=2023-06-01-preview", `{"prompt":"a cat"}`,
			[]string{"succeeded", "succeeded"}, []any{"result", "data", 0, "revised_prompt"}, "dall-e-2 heard: a cat",
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := do(t, c.c, request(t, "POST", c.e.URL+tc.path, token(t, c.e, cognitive), tc.body))
			where := a.Header.Get("Operation-Location")
			if a.StatusCode != 202 || !strings.HasPrefix(where, c.e.URL+"/") {
				t.Fatalf("%d %s %v", a.StatusCode, a.body, a.Header)
			}
			var last object
			for _, status := range tc.statuses {
				last = c.call("GET", strings.TrimPrefix(where, c.e.URL), "", 200)
				if last["status"] != status {
					t.Errorf("status %v, want %s", last["status"], status)
				}
			}
			if got := dig(last, tc.at...); got != tc.want {
				t.Errorf("result %v", got)
			}
		})
	}
	c.call("GET", "/documentintelligence/documentModels/m/analyzeResults/none?api-version=2024-11-30", "", 404)
	c.call("GET", "/openai/operations/images/none?api-version=2023-06-01-preview", "", 404)
}

func TestObjectsAreMadeListedReadChangedAndDeleted(t *testing.T) {
	t.Parallel()
	const version = "?api-version=2024-10-21"
	for _, c := range []*collection{&assistants, &threads, &vectorStores, &batches, &fineTuningJobs, &containers, &videos, &conversations} {
		for _, base := range []string{"/openai/", "/openai/v1/", "/api/projects/p/"} {
			t.Run(base+c.path, func(t *testing.T) {
				t.Parallel()
				call := newCaller(t, Options{})
				query := "?api-version=preview"
				switch base {
				case "/openai/":
					query = version
				case "/api/projects/p/":
					query = "?api-version=v1"
					call.audience = "https://ai.azure.com"
				}
				all := base + c.path
				if got := call.call("GET", all+query, "", 200)["data"]; len(got.([]any)) != 0 {
					t.Errorf("before: %v", got)
				}
				first := call.call("POST", all+query, `{"name":"one","model":"gpt-4o"}`, 200)
				second := call.call("POST", all+query, "", 200)
				id := second["id"].(string)
				if first["name"] != "one" || first["object"] != c.object || !strings.HasPrefix(id, c.prefix) {
					t.Errorf("made %v", first)
				}
				if got := dig(call.call("GET", all+query, "", 200), "data", 0, "id"); got != id {
					t.Errorf("the latest comes first: %v", got)
				}
				if got := dig(call.call("GET", all+query+"&order=asc", "", 200), "data", 0, "id"); got != first["id"] {
					t.Errorf("the oldest comes first: %v", got)
				}
				call.call("POST", all+"/"+id+query, `{"name":"two","id":"stolen"}`, 200)
				if got := call.call("GET", all+"/"+id+query, "", 200); got["name"] != "two" || got["id"] != id {
					t.Errorf("changed %v", got)
				}
				if got := call.call("DELETE", all+"/"+id+query, "", 200); got["deleted"] != true {
					t.Errorf("deleted %v", got)
				}
				call.call("GET", all+"/"+id+query, "", 404)
				call.call("DELETE", all+"/"+id+query, "", 404)
				call.call("POST", all+"/"+id+query, "{}", 404)
			})
		}
	}
}

func TestBatchesAnswerTheirInput(t *testing.T) {
	t.Parallel()
	c := newCaller(t, Options{})
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	part, _ := w.CreateFormFile("file", "in.jsonl")
	_, _ = io.WriteString(part, `{"custom_id":"one","body":{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}}`+"\n")
	_ = w.Close()
	r := request(t, "POST", c.e.URL+"/openai/v1/files", token(t, c.e, cognitive), form.String())
	r.Header.Set("Content-Type", w.FormDataContentType())
	var file object
	if err := json.Unmarshal([]byte(do(t, c.c, r).body), &file); err != nil {
		t.Fatal(err)
	}
	made := c.call("POST", "/openai/v1/batches", `{"input_file_id":"`+file["id"].(string)+`","endpoint":"/chat/completions"}`, 200)
	if made["status"] != "validating" {
		t.Errorf("made %v", made)
	}
	got := c.call("GET", "/openai/batches/"+made["id"].(string)+"?api-version=2024-10-21", "", 200)
	if got["status"] != "completed" || dig(got, "request_counts", "completed") != 1.0 {
		t.Errorf("later %v", got)
	}
	a := do(t, c.c, request(t, "GET", c.e.URL+"/openai/v1/files/"+got["output_file_id"].(string)+"/content", token(t, c.e, cognitive), ""))
	if !strings.Contains(a.body, `"custom_id":"one"`) || !strings.Contains(a.body, "gpt-4o heard: hi") {
		t.Errorf("output %s", a.body)
	}
	if got := c.call("POST", "/openai/v1/batches/"+made["id"].(string)+"/cancel", "", 200); got["status"] != "cancelled" {
		t.Errorf("cancelled %v", got)
	}
}

func TestAssistantsAnswerThreads(t *testing.T) {
	t.Parallel()
	for base, query := range map[string]string{"/openai/": "?api-version=2024-05-01-preview", "/openai/v1/": "", "/api/projects/p/": "?api-version=2025-05-01"} {
		t.Run(base, func(t *testing.T) {
			t.Parallel()
			c := newCaller(t, Options{})
			if strings.HasPrefix(base, "/api") {
				c.audience = "https://ai.azure.com"
			}
			assistant := c.call("POST", base+"assistants"+query, `{"model":"gpt-4o"}`, 200)["id"].(string)
			thread := base + "threads/" + c.call("POST", base+"threads"+query, `{"messages":[{"role":"user","content":"first"}]}`, 200)["id"].(string)
			c.call("POST", thread+"/messages"+query, `{"role":"user","content":"hi"}`, 200)
			run := c.call("POST", thread+"/runs"+query, `{"assistant_id":"`+assistant+`"}`, 200)
			if run["status"] != "queued" {
				t.Errorf("run %v", run)
			}
			if got := c.call("GET", thread+"/runs/"+run["id"].(string)+query, "", 200); got["status"] != "completed" {
				t.Errorf("later %v", got)
			}
			c.call("GET", thread+"/runs/"+run["id"].(string)+"/steps"+query, "", 200)
			messages := c.call("GET", thread+"/messages"+query, "", 200)
			if got := dig(messages, "data", 0, "content", 0, "text", "value"); got != "gpt-4o heard: hi" || len(messages["data"].([]any)) != 3 {
				t.Errorf("messages %v", messages)
			}
			a := do(t, c.c, request(t, "POST", c.e.URL+thread+"/runs"+query, token(t, c.e, c.audience), `{"assistant_id":"`+assistant+`","stream":true}`))
			for _, want := range []string{"event: thread.run.created\n", "event: thread.message.delta\n", "event: thread.run.completed\n", "event: done\ndata: [DONE]\n\n"} {
				if !strings.Contains(a.body, want) {
					t.Errorf("no %q in %s", want, a.body)
				}
			}
			both := c.call("POST", base+"threads/runs"+query, `{"model":"gpt-4o-mini","thread":{"messages":[{"role":"user","content":"at once"}]}}`, 200)
			messages = c.call("GET", base+"threads/"+both["thread_id"].(string)+"/messages"+query, "", 200)
			if got := dig(messages, "data", 0, "content", 0, "text", "value"); got != "gpt-4o-mini heard: at once" {
				t.Errorf("messages %v", messages)
			}
			c.call("GET", base+"threads/none/messages"+query, "", 404)
			c.call("POST", base+"threads/none/runs"+query, "{}", 404)
		})
	}
}

func TestWhatBelongsToOtherObjects(t *testing.T) {
	t.Parallel()
	c := newCaller(t, Options{})
	store := "/openai/v1/vector_stores/" + c.call("POST", "/openai/v1/vector_stores", `{"file_ids":["a","b"]}`, 200)["id"].(string)
	if got := c.call("POST", store+"/files", `{"file_id":"file-x"}`, 200); got["id"] != "file-x" || got["status"] != "completed" {
		t.Errorf("file %v", got)
	}
	c.call("POST", store+"/file_batches", `{}`, 200)
	if got := dig(c.call("POST", store+"/search", `{"query":"hi"}`, 200), "data", 0, "content", 0, "text"); got != "vector store heard: hi" {
		t.Errorf("found %v", got)
	}
	container := "/openai/v1/containers/" + c.call("POST", "/openai/v1/containers", `{"name":"c"}`, 200)["id"].(string)
	var file object
	if err := json.Unmarshal([]byte(c.upload(container+"/files", nil, "a.csv", 10).body), &file); err != nil || file["bytes"] != 10.0 {
		t.Errorf("%v %v", file, err)
	}
	c.call("GET", container+"/files/"+file["id"].(string)+"/content", "", 200)
	video := "/openai/v1/videos/" + c.call("POST", "/openai/v1/videos", `{"model":"sora-2","prompt":"a cat"}`, 200)["id"].(string)
	if got := c.call("GET", video, "", 200); got["status"] != "completed" {
		t.Errorf("video %v", got)
	}
	if a := do(t, c.c, request(t, "GET", c.e.URL+video+"/content", token(t, c.e, cognitive), "")); a.Header.Get("Content-Type") != "video/mp4" || !strings.Contains(a.body, "a cat") {
		t.Errorf("content %q", a.body)
	}
	if got := c.call("POST", video+"/remix", `{"prompt":"a dog"}`, 200); got["prompt"] != "a dog" || got["remixed_from_video_id"] == nil {
		t.Errorf("remix %v", got)
	}
	job := "/openai/v1/fine_tuning/jobs/" + c.call("POST", "/openai/v1/fine_tuning/jobs", `{"model":"gpt-4o"}`, 200)["id"].(string)
	c.call("GET", job+"/events", "", 200)
	c.call("POST", job+"/cancel", "", 200)
	c.call("POST", "/openai/v1/fine_tuning/jobs/none/cancel", "", 404)
}

func TestEphemeralKeysOpenOnlyCalls(t *testing.T) {
	t.Parallel()
	c := newCaller(t, Options{})
	key := c.call("POST", "/openai/v1/realtime/client_secrets", "", 200)["value"].(string)
	a := do(t, c.c, request(t, "POST", c.e.URL+"/openai/v1/realtime/calls", key, "v=0\r\n"))
	if a.StatusCode != 201 || !strings.HasPrefix(a.Header.Get("Location"), c.e.URL+"/openai/v1/realtime/calls/rtc_") {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	for path, bearer := range map[string]string{"/openai/v1/realtime/calls": "ek_guessed", "/openai/v1/chat/completions": key} {
		if a := do(t, c.c, request(t, "POST", c.e.URL+path, bearer, "{}")); a.StatusCode != 401 {
			t.Errorf("%s: %d", path, a.StatusCode)
		}
	}
}
