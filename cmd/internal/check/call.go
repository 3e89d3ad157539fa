package check

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"entra-sidecar/proxy/diagnose"
)

// A call is a request to make of the upstream.
type call struct {
	method, path, query string // escaped
	body                any
}

func (c call) target() string { return strings.TrimSuffix(c.path+"?"+c.query, "?") }
func (c call) String() string { return c.method + " " + c.target() }

// An answer is what came back, or why nothing did.
type answer struct {
	call
	status int
	header http.Header
	body   []byte // the first 16 KiB
	at     time.Time
	err    error
}

// The last dated version that is generally available, and those of surfaces
// that have their own.
const (
	openAIVersion  = "api-version=2024-10-21"
	modelsVersion  = "api-version=2024-05-01-preview"
	projectVersion = "api-version=2025-05-01"
)

func (x *examination) project() bool {
	return strings.HasPrefix(x.route.Upstream.Path, "/api/projects/")
}

func (x *examination) foundry() bool {
	return strings.Contains(x.route.Upstream.Hostname(), ".services.ai.azure.")
}

// modelsCall reads what every role for inference may read. Foundry's v1 path
// takes tokens of both its audiences.
func (x *examination) modelsCall() call {
	base := x.route.Upstream.EscapedPath()
	switch {
	case x.project():
		return call{method: http.MethodGet, path: base + "/assistants", query: projectVersion}
	case x.foundry():
		return call{method: http.MethodGet, path: base + "/openai/v1/models"}
	}
	return call{method: http.MethodGet, path: base + "/openai/models", query: openAIVersion}
}

// deploymentCall asks next to nothing of a deployment: operation is
// chat/completions or embeddings.
func (x *examination) deploymentCall(operation string) call {
	body := map[string]any{"model": x.Deployment, "input": "ping"}
	if operation != "embeddings" {
		body = map[string]any{"model": x.Deployment, "max_tokens": 1, "messages": []any{map[string]string{"role": "user", "content": "ping"}}}
	}
	base := x.route.Upstream.EscapedPath()
	switch {
	case x.project(): // whose deployments are the resource's
		return call{http.MethodPost, "/openai/v1/" + operation, "", body}
	case x.route.Path == "/models":
		return call{http.MethodPost, base + "/models/" + operation, modelsVersion, body}
	case x.foundry():
		return call{http.MethodPost, base + "/openai/v1/" + operation, "", body}
	}
	return call{http.MethodPost, base + "/openai/deployments/" + url.PathEscape(x.Deployment) + "/" + operation, openAIVersion, body}
}

// send makes the call with the token and the headers of the route, as the proxy
// would.
func (x *examination) send(ctx context.Context, c call) answer {
	a := answer{call: c}
	var body bytes.Buffer
	if c.body != nil {
		_ = json.NewEncoder(&body).Encode(c.body) // it always can
	}
	var req *http.Request
	if req, a.err = http.NewRequestWithContext(ctx, c.method, x.route.Upstream.Scheme+"://"+x.route.Upstream.Host+c.target(), &body); a.err != nil {
		return a
	}
	for name, value := range x.route.Headers {
		req.Header.Set(name, value.Reveal())
	}
	req.Header.Set("Authorization", x.login.Token.Authorization())
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "entra-sidecar-check")
	res, err := x.Transport.RoundTrip(req)
	if err != nil {
		a.err = err
		return a
	}
	defer res.Body.Close()
	a.status, a.header, a.at = res.StatusCode, res.Header, time.Now()
	a.body, _ = io.ReadAll(io.LimitReader(res.Body, 16<<10)) // cut short, it may still tell
	return a
}

// call judges the answer to what the connection step sent. Where a deployment
// is to be called too, it is no failure to be kept from the list of models: a
// role may grant the one without the other. Nor is it that a front of API
// Management lacks the operation.
func (x *examination) call(context.Context) Step {
	step := x.judge(x.reply)
	lacksRole := step.Findings != nil && slices.Contains(roleCauses, step.Findings[0].Cause)
	switch {
	case lacksRole && x.Deployment != "":
		step.Status = Advice
	case x.reply.status == http.StatusNotFound && x.fronted():
		step.Status, step.Findings = Advice, nil
		step.Summary += ", which proves little behind API Management: name a --deployment"
	}
	return step
}

var roleCauses = []string{"missing-role", "role-not-effective"}

// fronted reports whether the settings are those of an API Management front.
func (x *examination) fronted() bool {
	_, subscribed := x.route.Headers["Ocp-Apim-Subscription-Key"]
	return subscribed || x.route.Upstream.Path != "" && !x.project()
}

// deployment asks for a completion, or for an embedding if the model is none
// for chat. Even a model that is for neither has proven the way to it.
func (x *examination) deployment(ctx context.Context) Step {
	var step Step
	for _, operation := range []string{"chat/completions", "embeddings"} {
		a := x.send(ctx, x.deploymentCall(operation))
		step = x.judge(a)
		if a.status != http.StatusBadRequest || a.text().Code != "OperationNotSupported" {
			return step
		}
	}
	step.Status, step.Summary = Advice, "the deployment is there, but for neither chat nor embeddings"
	return step
}

// judge says what an answer means for the route.
func (x *examination) judge(a answer) Step {
	if a.err != nil {
		return x.unreachable(a.err)
	}
	step, text := Step{Status: Passed}, a.text()
	d, known := x.diagnose(a)
	switch {
	case a.status < 300:
	case known && d.Class != diagnose.ClassNone:
		step = failed("", d)
	case known: // a spent quota, a filtered prompt: the identity was admitted
		step.Status, step.Findings = Advice, []Finding{found(d)}
	case a.status == http.StatusTooManyRequests, a.status == http.StatusBadRequest && text.Type == "invalid_request_error":
		step.Status = Advice // it is the model itself that objects
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden:
		step.Status, step.class = Failed, diagnose.ClassAuthorization
	default:
		step.Status, step.class = Failed, diagnose.ClassEndpoint
	}
	step.Summary = fmt.Sprintf("%s: %d", a.call, a.status)
	step.set("request", a.call.String())
	step.set("status", fmt.Sprint(a.status))
	step.set("message", x.clean(text.Message))
	step.set("azure_request_id", x.clean(a.header.Get("Apim-Request-Id")))
	return step
}

// diagnose looks the answer up. A missing role may be told with 403, where the
// table has the 401 of Azure OpenAI.
func (x *examination) diagnose(a answer) (diagnose.Diagnosis, bool) {
	in := diagnose.Input{
		Status: a.status, Header: a.header, Body: a.body,
		Claims: diagnose.Claims(x.login.Token.Claims()),
		Method: a.method, Path: a.path, Query: a.query,
		Host: x.route.Upstream.Host, Now: a.at,
	}
	d, ok := diagnose.Diagnose(in)
	if !ok && a.status == http.StatusForbidden {
		in.Status = http.StatusUnauthorized
		d, ok = diagnose.Diagnose(in)
		ok = ok && slices.Contains(roleCauses, d.Cause)
	}
	return d, ok
}

type errorText struct{ Code, Message, Type string }

// text is what an error says, in either of the shapes that Azure sends.
func (a answer) text() errorText {
	var body struct {
		Error   errorText
		Message string
	}
	if a.status >= 300 {
		_ = json.Unmarshal(a.body, &body) // what is no JSON has no text
	}
	body.Error.Message = cmp.Or(body.Error.Message, body.Message)
	return body.Error
}

var jwt = regexp.MustCompile(`eyJ[\w-]{4,}(\.[\w-]*)*`)

// clean makes a text from outside fit to be shown: whoever answers may send the
// request's own credentials back, or what a terminal would obey.
func (x *examination) clean(text string) string {
	secrets := []string{strings.TrimPrefix(x.login.Token.Authorization(), "Bearer ")}
	for _, value := range x.route.Headers {
		secrets = append(secrets, value.Reveal())
	}
	for _, secret := range secrets {
		text = strings.ReplaceAll(text, secret, "[redacted]")
	}
	text = printable(jwt.ReplaceAllString(text, "[redacted]"))
	if long := []rune(text); len(long) > 300 {
		return string(long[:300]) + "…"
	}
	return text
}

// printable leaves one line that moves no cursor.
func printable(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }), " ")
}
