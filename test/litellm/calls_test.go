package litellm_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// A call is one row of the table: something that LiteLLM's users do, what Azure
// must receive for it, and what LiteLLM says if it cannot do it.
type call struct {
	name     string // as in the table
	sample   string // the recipe whose sidecar it goes through
	function string // of clients/calls.py
	model    string // LiteLLM's model name; empty where a call names none
	args     arguments
	hint     arguments // what LiteLLM needs to be told besides

	azure []string // method and path of each request that Azure receives
	check func(t *testing.T, got json.RawMessage)

	// refusal is LiteLLM's own error where LiteLLM cannot do the call, and
	// around a path of its pass-through that does the same.
	refusal, around string
	// direct is the same call with the OpenAI client alone; zero: it has none.
	direct direct
}

// direct says how the OpenAI client makes a call without LiteLLM.
type direct struct {
	kind    string // "azure" for the dated surface, "openai" for v1
	path    string // from the sidecar's root
	version string // api-version
	model   string // deployment
	azure   []string
}

// calls are the rows of the table.
func calls() []call {
	return slices.Concat(chatCalls(), responsesCalls(), mediaCalls(), storedCalls(), foundryCalls())
}

func chatCalls() []call {
	dated := []string{"POST /openai/deployments/gpt-4o/chat/completions"}
	v1 := []string{"POST /openai/v1/chat/completions"}
	return []call{
		{
			name: "chat", sample: "every-endpoint", function: "chat", model: "azure-chat", azure: dated, check: says("heard: Say hello"),
			direct: onDated("gpt-4o"),
		}, {
			name: "chat, streamed", sample: "every-endpoint", function: "chat_stream", model: "azure-chat", azure: dated, check: says("heard: Say hello"),
			direct: onDated("gpt-4o"),
		}, {
			name: "chat, api_version `v1`", sample: "every-endpoint", function: "chat", model: "azure-chat-v1", azure: v1, check: says("heard: Say hello"),
			direct: onV1("gpt-4o"),
		}, {
			name: "chat, api_version `preview`", sample: "every-endpoint", function: "chat", model: "azure-chat-preview", azure: v1, check: says("heard: Say hello"),
			direct: onV1("gpt-4o"),
		}, {
			name: "chat, `v1`, streamed", sample: "every-endpoint", function: "chat_stream", model: "azure-chat-v1", azure: v1, check: says("heard: Say hello"),
			direct: onV1("gpt-4o"),
		}, {
			name: "text completion", sample: "every-endpoint", function: "completion", model: "azure-text", check: says("heard"),
			azure:  []string{"POST /openai/deployments/gpt-35-turbo-instruct/completions"},
			direct: onDated("gpt-35-turbo-instruct"),
		}, {
			name: "embeddings", sample: "every-endpoint", function: "embeddings", model: "azure-embedding",
			azure:  []string{"POST /openai/deployments/text-embedding-3-small/embeddings"},
			direct: onDated("text-embedding-3-small"),
		},
	}
}

func responsesCalls() []call {
	const path = "/openai/v1/responses"
	return []call{
		{
			name: "responses, dated api_version", sample: "every-endpoint", function: "responses_create", model: "azure-responses-dated", check: says("heard: Say hello"),
			azure:  []string{"POST /openai/responses"},
			direct: direct{kind: "azure", path: "/azure", version: "2025-03-01-preview", model: "gpt-4o"},
		}, {
			name: "responses", sample: "every-endpoint", function: "responses_create", model: "azure-responses", check: says("heard: Say hello"),
			azure: []string{"POST " + path}, direct: onV1("gpt-4o"),
		}, {
			name: "responses, streamed", sample: "every-endpoint", function: "responses_stream", model: "azure-responses", check: says("heard: Say hello"),
			azure: []string{"POST " + path}, direct: onV1("gpt-4o"),
		}, {
			name: "responses, get", sample: "every-endpoint", function: "responses_get", model: "azure-responses",
			azure: []string{"POST " + path, "GET " + path + "/{id}"}, direct: onV1("gpt-4o"),
		}, {
			name: "responses, delete", sample: "every-endpoint", function: "responses_delete", model: "azure-responses",
			azure: []string{"POST " + path, "DELETE " + path + "/{id}"}, direct: onV1("gpt-4o"),
		},
	}
}

func mediaCalls() []call {
	return []call{
		{
			name: "image generation", sample: "every-endpoint", function: "image", model: "azure-image",
			azure:  []string{"POST /openai/deployments/gpt-image-1/images/generations"},
			direct: onDated("gpt-image-1"),
		}, {
			name: "image edit", sample: "every-endpoint", function: "image_edit", model: "azure-image",
			azure:  []string{"POST /openai/deployments/gpt-image-1/images/edits"},
			direct: onDated("gpt-image-1"),
		}, {
			name: "speech", sample: "every-endpoint", function: "speech", model: "azure-speech", check: hasBytes(1),
			azure:  []string{"POST /openai/deployments/tts/audio/speech"},
			direct: onDated("tts"),
		}, {
			name: "speech, AVA voices", sample: "every-endpoint", function: "speech", model: "azure-speech-ava", check: hasBytes(1),
			azure: []string{"POST /cognitiveservices/v1"},
		}, {
			name: "transcription, 20 MB", sample: "every-endpoint", function: "transcription", model: "azure-transcription",
			args:   arguments{"size": 20 << 20},
			azure:  []string{"POST /openai/deployments/whisper/audio/transcriptions"},
			direct: onDated("whisper"),
		}, {
			name: "video", sample: "every-endpoint", function: "video", model: "azure-video", check: hasBytes(1),
			azure:  []string{"POST /openai/v1/videos", "GET /openai/v1/videos/{id}", "GET /openai/v1/videos/{id}/content"},
			direct: onV1("sora-2"),
		}, {
			name: "realtime, TLS listener, GA", sample: "realtime-tls", function: "realtime", model: "gpt-realtime",
			azure: []string{"GET /openai/v1/realtime"}, check: answersInRealtime,
			direct: direct{kind: "openai", path: "/openai/v1", model: "gpt-realtime"},
		}, {
			name: "realtime, TLS listener, preview", sample: "realtime-tls", function: "realtime", model: "gpt-4o-realtime-preview",
			azure: []string{"GET /openai/realtime"}, check: answersInRealtime,
			direct: direct{kind: "azure", version: "2024-10-01-preview", model: "gpt-4o-realtime-preview"},
		}, {
			name: "realtime, `openai/` over plain http", sample: "realtime-http", function: "realtime", model: "gpt-realtime-http",
			azure: []string{"GET /openai/v1/realtime"}, check: answersInRealtime,
			direct: direct{kind: "openai", path: "/v1", model: "gpt-realtime"},
		}, {
			name: "realtime, `azure/` over plain http", sample: "chat", function: "realtime", model: "realtime-without-tls",
			refusal: "isn't a valid URI: scheme isn't ws or wss",
		},
	}
}

func storedCalls() []call {
	provider := arguments{"custom_llm_provider": "azure"}
	return []call{
		{
			name: "files, upload of 50 MB", sample: "every-endpoint", function: "file_upload", model: "azure-chat",
			args:  arguments{"size": 50 << 20},
			azure: []string{"POST /openai/files"}, direct: onDated(""),
		}, {
			name: "files, download of content", sample: "every-endpoint", function: "file_content", model: "azure-chat",
			args: arguments{"size": 1 << 20}, check: isTrue("same"),
			azure: []string{"POST /openai/files", "GET /openai/files/{id}/content"}, direct: onDated(""),
		}, {
			name: "batches", sample: "every-endpoint", function: "batches", model: "azure-chat",
			azure: []string{
				"POST /openai/files", "POST /openai/batches", "GET /openai/batches", "GET /openai/batches/{id}",
				"GET /openai/files/{id}/content", // LiteLLM reckons the cost
			},
			direct: direct{kind: "azure", path: "/azure", version: "2024-10-21", azure: []string{
				"POST /openai/files", "POST /openai/batches", "GET /openai/batches", "GET /openai/batches/{id}",
			}},
		}, {
			name: "fine-tuning jobs", sample: "every-endpoint", function: "fine_tuning", hint: provider,
			refusal: "Only premium users can use this endpoint", around: "/azure/openai/fine_tuning/jobs",
			azure: []string{"GET /openai/fine_tuning/jobs"}, direct: onDated(""),
		}, {
			name: "assistants, threads, runs", sample: "every-endpoint", function: "assistants", args: arguments{"model": "gpt-4o"},
			azure: []string{
				"POST /openai/assistants", "POST /openai/threads", "POST /openai/threads/{id}/messages", "POST /openai/threads/{id}/runs",
				"GET /openai/threads/{id}/runs/{id}", "GET /openai/assistants",
			},
			direct: direct{kind: "azure", path: "/azure", version: "2024-05-01-preview", azure: []string{
				"POST /openai/assistants", "POST /openai/threads", "POST /openai/threads/{id}/messages", "POST /openai/threads/{id}/runs",
				"GET /openai/assistants",
			}},
		}, {
			name: "vector stores, create and search", sample: "every-endpoint", function: "vector_store", model: "azure-chat",
			azure:  []string{"POST /openai/vector_stores", "POST /openai/vector_stores/{id}/search"},
			direct: onDated(""),
		}, {
			name: "vector stores, list", sample: "every-endpoint", function: "vector_store_list", hint: provider,
			refusal: "OpenAIException - Cannot connect to host", // it asks OpenAI, whatever provider it is told
			around:  "/azure/openai/vector_stores",
			azure:   []string{"GET /openai/vector_stores"}, direct: onDated(""),
		}, {
			name: "containers", sample: "every-endpoint", function: "containers", hint: provider,
			azure:  []string{"POST /openai/v1/containers", "GET /openai/v1/containers"},
			direct: onV1(""),
		},
	}
}

func foundryCalls() []call {
	return []call{
		{
			name: "Foundry chat", sample: "foundry", function: "chat", model: "mistral-large", check: says("heard: Say hello"),
			azure: []string{"POST /models/chat/completions"}, direct: onFoundry("Mistral-Large-3"),
		}, {
			name: "Foundry chat, streamed", sample: "foundry", function: "chat_stream", model: "mistral-large", check: says("heard: Say hello"),
			azure: []string{"POST /models/chat/completions"}, direct: onFoundry("Mistral-Large-3"),
		}, {
			name: "Foundry chat, `/models` added by the route", sample: "foundry", function: "chat", model: "mistral-large-short", check: says("heard: Say hello"),
			azure: []string{"POST /models/chat/completions"},
		}, {
			name: "Foundry embeddings", sample: "foundry", function: "embeddings", model: "cohere-embed",
			azure: []string{"POST /models/embeddings"}, direct: onFoundry("Cohere-embed-v3-english"),
		}, {
			name: "Foundry rerank", sample: "foundry", function: "rerank", model: "cohere-rerank",
			azure: []string{"POST /v1/rerank"},
		}, {
			name: "Foundry agents", sample: "foundry", function: "chat", model: "agent",
			azure: []string{
				"POST /api/projects/my-project/threads", "POST /api/projects/my-project/threads/{id}/messages",
				"POST /api/projects/my-project/threads/{id}/runs", "GET /api/projects/my-project/threads/{id}/runs/{id}",
				"GET /api/projects/my-project/threads/{id}/messages",
			},
		}, {
			name: "Claude on Foundry, chat", sample: "claude", function: "chat", model: "claude-sonnet-4-5", check: says("heard: Say hello"),
			azure: []string{"POST /anthropic/v1/messages"},
		}, {
			name: "Claude on Foundry, chat, streamed", sample: "claude", function: "chat_stream", model: "claude-sonnet-4-5", check: says("heard: Say hello"),
			azure: []string{"POST /anthropic/v1/messages"},
		}, {
			name: "Claude on Foundry, `/v1/messages`", sample: "claude", function: "messages", model: "claude-sonnet-4-5", check: says("heard: Say hello"),
			azure: []string{"POST /anthropic/v1/messages"},
		}, {
			name: "Document Intelligence OCR, with polling", sample: "ocr", function: "ocr", model: "doc-intelligence",
			azure: []string{"POST /documentintelligence/documentModels/prebuilt-layout:analyze", "GET /documentintelligence/documentModels/prebuilt-layout/analyzeResults/{id}"},
		}, {
			name: "API Management front", sample: "apim", function: "chat", model: "gpt-4o-mini", check: says("heard: Say hello"),
			azure:  []string{"POST /openai/deployments/gpt-4o-mini/chat/completions"},
			direct: direct{kind: "azure", path: "/gateway", version: "2024-10-21", model: "gpt-4o-mini"},
		}, {
			name: "`/azure/*` pass-through", sample: "every-endpoint", function: "passthrough",
			args:  arguments{"method": "GET", "path": "/azure/openai/models?api-version=2024-10-21"},
			azure: []string{"GET /openai/models"},
		},
	}
}

// onDated is the dated surface behind the sample "every-endpoint", onV1 the other.
func onDated(model string) direct {
	return direct{kind: "azure", path: "/azure", version: "2024-10-21", model: model}
}

func onV1(model string) direct {
	return direct{kind: "openai", path: "/azure/openai/v1", model: model}
}

// onFoundry is the models of others, in the sample "foundry".
func onFoundry(model string) direct {
	return direct{kind: "openai", path: "/foundry/models", model: model}
}

// says checks for text in any answer that has some.
func says(text string) func(*testing.T, json.RawMessage) {
	return func(t *testing.T, got json.RawMessage) {
		t.Helper()
		var answer struct{ Text string }
		if err := json.Unmarshal(got, &answer); err != nil || !strings.Contains(answer.Text, text) {
			t.Errorf("the answer is %s", got)
		}
	}
}

// isTrue checks for a field that the client has judged itself.
func isTrue(field string) func(*testing.T, json.RawMessage) {
	return func(t *testing.T, got json.RawMessage) {
		t.Helper()
		var answer map[string]any
		if err := json.Unmarshal(got, &answer); err != nil || answer[field] != true {
			t.Errorf("%s is not true in %s", field, got)
		}
	}
}

func hasBytes(least int) func(*testing.T, json.RawMessage) {
	return func(t *testing.T, got json.RawMessage) {
		t.Helper()
		var answer struct{ Bytes int }
		if err := json.Unmarshal(got, &answer); err != nil || answer.Bytes < least {
			t.Errorf("the answer is %s, want at least %d bytes", got, least)
		}
	}
}

func answersInRealtime(t *testing.T, got json.RawMessage) {
	t.Helper()
	var answer struct{ Events []string }
	err := json.Unmarshal(got, &answer)
	if err != nil || len(answer.Events) < 3 || answer.Events[0] != "session.created" || !slices.Contains(answer.Events, "response.done") {
		t.Errorf("the session went %s", got)
	}
}
