package azure

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

// object is a JSON object whose fields need no type of their own.
type object = map[string]any

// exchange is one request to the Azure side on its way to an answer.
type exchange struct {
	emulator *Emulator
	w        http.ResponseWriter
	r        *http.Request
	rec      *record

	resource Resource // with the rule's condition applied
	rule     Rule
	pace     Pace

	op     *operation
	values []string // of the template's variables
	model  string   // the deployment that answers
}

// serveAzure is the handler of the Azure side.
func (e *Emulator) serveAzure(w http.ResponseWriter, r *http.Request) {
	rec := newRecord(r)
	e.requests.append(func(id int) *record { rec.view.ID = id; return rec })
	defer rec.watch(r.Context())()
	faults := e.switches.get()
	x := &exchange{
		emulator: e, w: &recordedWriter{w, rec}, r: rec.watchBody(r), rec: rec,
		resource: faults.Resource, rule: e.switches.azure(r),
	}
	x.resource.TenantID = orElse(x.resource.TenantID, e.principals[0].TenantID)
	x.pace = x.rule.Pace.over(faults.Pace)
	if condition := namedFaults[x.rule.Fault].condition; condition != nil {
		condition(&x.resource)
	}
	if x.rule.Early {
		// Otherwise net/http itself reads the body before it answers.
		_ = http.NewResponseController(w).EnableFullDuplex()
	}
	x.serve()
	if c := e.logger.Check(zap.DebugLevel, "azure answered"); c != nil {
		c.Write(zap.String("method", r.Method), zap.String("path", rawPath(r)), zap.Int("status", rec.snapshot().Status))
	}
}

func (x *exchange) serve() {
	x.op, x.values = x.emulator.routes.find(x.r.Method, rawPath(x.r))
	shown := x.emulator.signer.credentialsOf(x.r, &x.resource)
	x.rec.update(func(v *Request) { v.Token = shown.token })
	if answer := x.admit(shown); answer != nil {
		x.give(answer)
		return
	}
	x.op.handle(x)
}

// admit goes through the checks in the order of Azure; nil means that the
// operation may run.
func (x *exchange) admit(shown credentials) *Answer {
	if answer := x.canned(true); answer != nil {
		return answer
	}
	if answer := x.resource.admitNetwork(x.r); answer != nil {
		return answer
	}
	if x.op == nil && x.resource.UnknownPath == "before-auth" {
		return refuse(http.StatusNotFound, bodyNotFound)
	}
	holder, answer := x.resource.authenticate(x.r, shown)
	if answer != nil && !x.calledIn() {
		return answer
	}
	if x.rule.Answer != nil {
		return x.rule.Answer
	}
	if x.op == nil {
		return refuse(http.StatusNotFound, bodyNotFound)
	}
	if answer := x.resource.authorize(holder, x.op); answer != nil {
		return answer
	}
	if answer := x.checkVersion(); answer != nil {
		return answer
	}
	return x.canned(false)
}

// calledIn reports whether an ephemeral key opens this operation.
func (x *exchange) calledIn() bool {
	return x.op != nil && x.op.ephemeral && x.emulator.ephemeral.valid(bearerOf(x.r))
}

// canned is the rule's fixed answer, if it has one for this stage: before or
// after the credentials were looked at.
func (x *exchange) canned(anonymous bool) *Answer {
	fault := namedFaults[x.rule.Fault]
	if fault.azure == nil || fault.anonymous != anonymous {
		return nil
	}
	return fault.azure(faultInput{
		rule:      x.rule,
		audiences: x.resource.audiences(x.r.Host, x.r.URL.Path),
		version:   x.r.URL.Query().Get("api-version"),
	})
}

var datedVersion = regexp.MustCompile(`^20(2[3-9]|[3-9]\d)-\d\d-\d\d(-preview)?$|^2022-12-01$`)

func (x *exchange) checkVersion() *Answer {
	version := x.r.URL.Query().Get("api-version")
	isDated := datedVersion.MatchString(version)
	switch {
	case x.op.version == dated && !isDated, x.op.version == named && version == "":
		return refuse(http.StatusNotFound, bodyNotFound)
	case x.op.version == v1 && isDated && x.resource.DatedVersionOnV1 != "accepted":
		return refuse(http.StatusBadRequest, bodyAPIVersion)
	}
	return nil
}

// give sends a fixed answer, after the request's body has arrived.
func (x *exchange) give(answer *Answer) {
	if answer == closed {
		x.rec.update(func(v *Request) { v.Cut = true })
		panic(http.ErrAbortHandler) // net/http's way to hang up
	}
	x.drain()
	for name, value := range answer.Header {
		x.w.Header()[name] = []string{value} // in the case that Azure uses
	}
	x.send(answer.Status, answer.Header["Content-Type"], []byte(answer.Body))
}

// drain reads what is left of the body, so that a refused upload is refused
// after it was sent, unless the rule says early.
func (x *exchange) drain() {
	if !x.rule.Early {
		io.Copy(io.Discard, x.r.Body)
	}
}

// decode reads a JSON body into v. A body that is no JSON is answered here.
func (x *exchange) decode(v any) bool {
	if x.rule.Early {
		return true
	}
	body, err := io.ReadAll(x.r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the client is gone
	}
	if err := json.Unmarshal(body, v); err != nil {
		x.fail(http.StatusBadRequest, "invalid_request_error", "We could not parse the JSON body of your request.")
		return false
	}
	return true
}

// findDeployment takes the model from the path, or from the body's field, and
// answers if there is no such deployment.
func (x *exchange) findDeployment(fromBody string) bool {
	x.model = fromBody
	if strings.HasPrefix(x.op.template, "/openai/deployments/") {
		x.model = x.values[0]
	}
	if (x.rule.Early && x.model == "") || x.resource.hasDeployment(x.model) {
		return true
	}
	x.give(refuse(http.StatusNotFound, bodyNoDeployment))
	return false
}

// fail sends an error in OpenAI's shape.
func (x *exchange) fail(status int, kind, message string) {
	x.drain()
	x.json(status, object{"error": object{"message": message, "type": kind, "param": nil, "code": nil}})
}

// json sends v as the whole answer.
func (x *exchange) json(status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // only our own types are sent
	}
	x.send(status, "application/json; charset=utf-8", body)
}

// send sends a whole body of known length, or breaks off where the rule says.
func (x *exchange) send(status int, contentType string, body []byte) {
	x.begin(status, contentType)
	if x.rule.Gzip {
		x.w.Header().Set("Content-Encoding", "gzip")
		body = gzipped(body)
	}
	if status == http.StatusNoContent || status == http.StatusNotModified {
		x.w.WriteHeader(status)
		return
	}
	x.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if x.rule.Cut == nil {
		x.w.WriteHeader(status)
		x.w.Write(body)
		return
	}
	after := min(orElse(x.rule.Cut.After, len(body)/2), len(body))
	if x.rule.Cut.Clean {
		x.w.Header().Set("Content-Length", strconv.Itoa(after))
	}
	x.w.WriteHeader(status)
	x.w.Write(body[:after])
	x.cut()
}

func gzipped(body []byte) []byte {
	var compressed bytes.Buffer
	z := gzip.NewWriter(&compressed)
	_, _ = z.Write(body)
	_ = z.Close() // a buffer takes everything
	return compressed.Bytes()
}

// begin waits as the pace says and sets the headers that Azure adds.
func (x *exchange) begin(status int, contentType string) {
	x.sleep(x.pace.HeadDelay)
	h := x.w.Header()
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	if x.rule.Close {
		h.Set("Connection", "close")
	}
	h["apim-request-id"] = []string{newGUID()}
	h["x-ms-region"] = []string{"Sweden Central"}
	if status >= 400 {
		return
	}
	h["x-request-id"] = []string{newGUID()}
	h["azureml-model-session"] = []string{"emulated-session"}
	h["x-accel-buffering"] = []string{"no"}
	h["x-ratelimit-limit-requests"] = []string{"10000"}
	h["x-ratelimit-limit-tokens"] = []string{"1000000"}
	h["x-ratelimit-remaining-requests"] = []string{"9999"}
	h["x-ratelimit-remaining-tokens"] = []string{"999900"}
	if x.model != "" {
		h["x-ms-deployment-name"] = []string{x.model}
	}
}

// cut ends the answer: cleanly, or by tearing the connection down with what
// was written so far on its way.
func (x *exchange) cut() {
	x.rec.update(func(v *Request) { v.Cut = true })
	if x.rule.Cut.Clean {
		return
	}
	x.flush()
	panic(http.ErrAbortHandler)
}

func (x *exchange) flush() { http.NewResponseController(x.w).Flush() }

// sleep waits for s, or until the client is gone.
func (x *exchange) sleep(s Seconds) {
	if s <= 0 {
		return
	}
	select {
	case <-time.After(s.Duration()):
	case <-x.r.Context().Done():
	}
}
