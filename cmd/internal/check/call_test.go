package check

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"entra-sidecar/config"
)

func TestWhatAnAnswerMeans(t *testing.T) {
	const permission = `{"error":{"code":"PermissionDenied","message":"The principal ` + "`x`" + ` lacks the required data action ` +
		"`Microsoft.CognitiveServices/accounts/OpenAI/models/read` to perform `GET /openai/models`" + ` operation."}}`
	for _, tt := range []struct {
		name   string
		status int
		body   string
		want   Status
		exit   int
		cause  string
	}{
		{"well", 200, `{}`, Passed, 0, ""},
		{"a missing role", 401, permission, Failed, 5, "missing-role"},
		{"a missing role, told with 403", 403, permission, Failed, 5, "missing-role"},
		{"another 401 told with 403 stays unknown", 403, `{ "statusCode": 401, "message": "Unauthorized. Access token is missing, invalid, audience is incorrect (https://cognitiveservices.azure.com), or have expired." }`, Failed, 5, ""},
		{"no such deployment", 404, `{"error":{"code":"DeploymentNotFound","message":"x"}}`, Failed, 6, "deployment-not-found"},
		{"the firewall", 403, `{"error":{"code":"403","message": "Access denied due to Virtual Network/Firewall rules."}}`, Failed, 4, "firewall"},
		{"a spent quota", 429, `{"error":{"code":"429","message": "Rate limit is exceeded. Try again in 4 seconds."}}`, Advice, 0, "rate-limited-requests"},
		{"a 429 in other words", 429, `slow down`, Advice, 0, ""},
		{"a filtered prompt", 400, `{"error":{"code":"content_filter","message":"x"}}`, Advice, 0, "content-filter"},
		{"the model's objection", 400, `{"error":{"code":"unsupported_parameter","type":"invalid_request_error","message":"Use 'max_completion_tokens' instead."}}`, Advice, 0, ""},
		{"an unknown 400", 400, `{"error":{"code":"BadRequest","message":"no"}}`, Failed, 6, ""},
		{"an unknown 401", 401, ``, Failed, 5, ""},
		{"an unknown 403", 403, `<html>`, Failed, 5, ""},
		{"a redirect, which the proxy would not follow", 302, ``, Failed, 6, ""},
		{"out of order", 500, `{ "statusCode": 500, "message": "Internal server error", "activityId": "x" }`, Failed, 6, ""},
		{"codes that are no texts", 400, `{"error":{"code":7,"message":["a"],"type":null}}`, Failed, 6, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := healthy()
			o.Transport = always(tt.status, tt.body)
			report, _, _ := run(t, o)
			step := report.step(t, "call")
			if step.Status != tt.want || report.ExitCode != tt.exit || step.cause() != tt.cause {
				t.Errorf("exit code %d, %+v", report.ExitCode, step)
			}
		})
	}
}

func TestTheRemedyNamesTheRealThings(t *testing.T) {
	o := healthy()
	o.Transport = always(401, `{"error":{"code":"PermissionDenied","message": "Principal does not have access to API/Operation."}}`)
	_, text, _ := run(t, o)
	for _, want := range []string{"[?name=='my-eastus']", "--assignee-object-id " + objectID, `--role "Cognitive Services OpenAI User"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

// requests are the lines of those that a route is asked with.
func requests(t *testing.T, o Options) []string {
	t.Helper()
	var seen []string
	o.Transport = azureAnswers(func(r *http.Request) *http.Response {
		if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") {
			t.Errorf("%s without a token", r.URL)
		}
		seen = append(seen, r.Method+" "+r.URL.RequestURI())
		return reply(200, "{}")
	})
	run(t, o)
	return seen
}

func TestTheCallFitsTheUpstream(t *testing.T) {
	const everyone = "my-eastus.openai.azure.com my.services.ai.azure.com front.example"
	known := zone{}
	for host := range strings.FieldsSeq(everyone) {
		known[host] = "10.0.0.1"
	}
	for upstream, want := range map[string]string{
		"https://my-eastus.openai.azure.com": "GET /openai/models?api-version=2024-10-21 " +
			"POST /openai/deployments/a%2Fb/chat/completions?api-version=2024-10-21",
		"https://front.example/base": "GET /base/openai/models?api-version=2024-10-21 " +
			"POST /base/openai/deployments/a%2Fb/chat/completions?api-version=2024-10-21",
		"https://my.services.ai.azure.com":                "GET /openai/v1/models POST /openai/v1/chat/completions",
		"https://my.services.ai.azure.com/api/projects/p": "GET /api/projects/p/assistants?api-version=2025-05-01 POST /openai/v1/chat/completions",
	} {
		o := healthy(route("/", upstream))
		o.Resolver, o.Deployment = known, "a/b"
		if got := strings.Join(requests(t, o), " "); got != want {
			t.Errorf("%s: %s", upstream, got)
		}
	}
	o := healthy(route("/", "https://my.services.ai.azure.com"))
	o.Resolver, o.Deployment, o.Config.Routes[0].Path = known, "Mistral", "/models"
	if got := strings.Join(requests(t, o), " "); !strings.HasSuffix(got, "POST /models/chat/completions?api-version=2024-05-01-preview") {
		t.Error(got)
	}
}

// withDeployment answers the calls to a deployment by their operation.
func withDeployment(t *testing.T, models, chat, embeddings *http.Response) Options {
	t.Helper()
	o := healthy()
	o.Deployment = "gpt-4o"
	o.Transport = azureAnswers(func(r *http.Request) *http.Response {
		switch {
		case strings.HasSuffix(r.URL.Path, "/models"):
			return models
		case strings.HasSuffix(r.URL.Path, "/chat/completions"):
			var body struct {
				Model     string
				MaxTokens int `json:"max_tokens"`
				Messages  []any
			}
			if content, _ := io.ReadAll(r.Body); json.Unmarshal(content, &body) != nil || body.Model != "gpt-4o" || body.MaxTokens != 1 || len(body.Messages) != 1 {
				t.Errorf("%s", content)
			}
			return chat
		}
		return embeddings
	})
	return o
}

func TestADeploymentIsAskedForOneToken(t *testing.T) {
	const notForChat = `{"error":{"code":"OperationNotSupported","message":"The chatCompletion operation does not work with the specified model."}}`
	const noRole = `{"error":{"code":"PermissionDenied","message": "Principal does not have access to API/Operation."}}`
	for _, tt := range []struct {
		name                     string
		models, chat, embeddings *http.Response
		outline                  string
		exit                     int
	}{
		{"a chat model", reply(200, "{}"), reply(200, "{}"), nil, "call:passed deployment:passed", 0},
		{"a model for embeddings", reply(200, "{}"), reply(400, notForChat), reply(200, "{}"), "call:passed deployment:passed", 0},
		{"a model for neither", reply(200, "{}"), reply(400, notForChat), reply(400, notForChat), "call:passed deployment:advice", 0},
		{"no such deployment", reply(200, "{}"), reply(404, `{"error":{"code":"DeploymentNotFound","message":"x"}}`), nil, "call:passed deployment:failed", 6},
		{"a role for inference alone", reply(401, noRole), reply(200, "{}"), nil, "call:advice deployment:passed", 0},
		{"no role at all", reply(401, noRole), reply(401, noRole), nil, "call:advice deployment:failed", 5},
		{"refused for other reasons", reply(404, `{"error":{"code":"404","message": "Resource not found"}}`), reply(200, "{}"), nil, "call:failed deployment:not_reached", 6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			report, _, _ := run(t, withDeployment(t, tt.models, tt.chat, tt.embeddings))
			if got := report.Routes[0].outline(); !strings.HasSuffix(got, tt.outline) || report.ExitCode != tt.exit {
				t.Errorf("%s, exit code %d", got, report.ExitCode)
			}
		})
	}
}

func TestAFrontNeedNotListModels(t *testing.T) {
	front := route("/", "https://front.example")
	front.Headers = map[string]config.Secret{"Ocp-Apim-Subscription-Key": "canary-key"}
	for name, r := range map[string]config.Route{"by its key": front, "by its path": route("/", "https://front.example/base")} {
		t.Run(name, func(t *testing.T) {
			o := healthy(r)
			o.Resolver = zone{"front.example": "10.0.0.1"}
			o.Transport = always(404, `{ "statusCode": 404, "message": "Resource not found" }`)
			report, _, _ := run(t, o)
			if step := report.step(t, "call"); step.Status != Advice || !strings.Contains(step.Summary, "--deployment") {
				t.Errorf("%+v", step)
			}
		})
	}
}
