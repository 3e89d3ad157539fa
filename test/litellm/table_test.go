package litellm_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"entra-sidecar/test/azure"
)

// testCalls makes every call through LiteLLM, and with the OpenAI client alone,
// and holds what it sees against TABLE.md.
func (s *stack) testCalls(t *testing.T) {
	table := []string{
		"| call | path at Azure | LiteLLM's dummy key, removed from | through LiteLLM " + litellmVersion() + " | OpenAI client alone |",
		"| --- | --- | --- | --- | --- |",
	}
	for _, c := range calls() {
		t.Run(strings.ReplaceAll(c.name, "/", " "), func(t *testing.T) {
			key := s.throughLiteLLM(t, c)
			alone := s.withClientAlone(t, c)
			table = append(table, c.row(key, alone))
		})
	}
	t.Run("health", s.testHealth)
	table = append(table, "| LiteLLM's `/health` | one call for each model of the samples | as above | yes | – |")
	if t.Failed() || len(table) < len(calls()) {
		return // it would not be the truth
	}
	compareTable(t, strings.Join(table, "\n")+"\n")
}

func compareTable(t *testing.T, got string) {
	t.Helper()
	if *update {
		write(t, "TABLE.md", got)
	}
	want, err := os.ReadFile("TABLE.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("TABLE.md is not what was seen; go test ./test/litellm -update writes it (-file +seen):\n%s", diff)
	}
}

// row is c in the table.
func (c call) row(key, alone string) string {
	paths := c.azure
	if len(paths) == 0 {
		paths = c.direct.azure
	}
	var shown []string
	for _, p := range paths {
		shown = append(shown, "`"+p+"`")
	}
	litellm := "yes"
	if c.refusal != "" {
		litellm = "no: `" + c.refusal + "`"
	}
	if c.around != "" {
		litellm += "; yes as `" + c.around + "`"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s |", c.name, strings.Join(shown, "<br>"), key, litellm, alone)
}

// throughLiteLLM makes the call and returns the headers in which LiteLLM sent
// its dummy key.
func (s *stack) throughLiteLLM(t *testing.T, c call) (key string) {
	t.Helper()
	s.forget(t)
	if c.refusal != "" {
		s.refusedByLiteLLM(t, c)
		return s.aroundRefusal(t, c)
	}
	o := s.client.call(t, s.litellm, c.function, c.arguments(c.model, c.hint))
	c.judge(t, "LiteLLM", o)
	s.checkReceived(t, c.azure)
	return s.dummyKeyHeaders(t, c)
}

// withClientAlone makes the same call with the OpenAI client, where it has it.
func (s *stack) withClientAlone(t *testing.T, c call) (result string) {
	t.Helper()
	if c.direct.kind == "" {
		return "–"
	}
	s.forget(t)
	base := "http://" + s.sidecars[c.sample].address()
	if tls := s.sidecars[c.sample].tls; tls != "" {
		base = "https://" + tls
	}
	to := endpoint{Kind: c.direct.kind, BaseURL: base + c.direct.path, APIKey: dummyKey, APIVersion: c.direct.version}
	c.judge(t, "the OpenAI client", s.client.call(t, to, c.function, c.arguments(c.direct.model, nil)))
	want := c.direct.azure
	if want == nil {
		want = c.azure
	}
	s.checkReceived(t, want)
	return "yes"
}

// arguments are those of the function, with the model where the call names one.
func (c call) arguments(model string, hint arguments) arguments {
	args := arguments{}
	maps.Copy(args, c.args)
	maps.Copy(args, hint)
	if model != "" {
		args["model"] = model
	}
	return args
}

func (c call) judge(t *testing.T, by string, o outcome) {
	t.Helper()
	switch {
	case o.Error != nil:
		t.Errorf("with %s: %s %d: %s", by, o.Error.Type, o.Error.Status, o.Error.Message)
	case c.check != nil:
		c.check(t, o.OK)
	}
}

// refusedByLiteLLM holds LiteLLM to its refusal, which it tells the user or, for
// some endpoints, nobody but its log.
func (s *stack) refusedByLiteLLM(t *testing.T, c call) {
	t.Helper()
	before := s.proxy.output()
	e := s.client.fail(t, s.litellm, c.function, c.arguments(c.model, c.hint))
	logged := strings.TrimPrefix(s.proxy.output(), before)
	if !strings.Contains(e.Message, c.refusal) && !strings.Contains(logged, c.refusal) {
		t.Errorf("LiteLLM's error is no longer %q but %q; it logged:\n%s", c.refusal, e.Message, logged)
	}
	if got := s.received(); len(got) > 0 {
		t.Errorf("LiteLLM refused, and still %d requests reached Azure", len(got))
	}
}

// aroundRefusal makes the call that LiteLLM refused with its pass-through, if
// that can do it, and returns the headers in which the dummy key came.
func (s *stack) aroundRefusal(t *testing.T, c call) (key string) {
	t.Helper()
	if c.around == "" {
		return "–"
	}
	s.forget(t)
	o := s.client.call(t, s.litellm, "passthrough", arguments{"method": "GET", "path": c.around + "?api-version=2024-10-21"})
	call{}.judge(t, "LiteLLM's pass-through", o)
	s.checkReceived(t, c.azure)
	return s.dummyKeyHeaders(t, c)
}

// checkReceived compares what Azure received with want, in which {id} stands
// for any one segment. A repeated request, as polling makes them, counts once.
// LiteLLM does some of its work after it has answered, hence the patience.
func (s *stack) checkReceived(t *testing.T, want []string) {
	t.Helper()
	diff := "nothing yet"
	for began := time.Now(); diff != "" && time.Since(began) < 3*time.Second; time.Sleep(10 * time.Millisecond) {
		var got []string
		for _, r := range s.received() {
			got = append(got, generalize(r, want))
		}
		diff = cmp.Diff(want, slices.Compact(got))
	}
	if diff != "" {
		t.Errorf("Azure received (-want +got):\n%s", diff)
	}
	for _, r := range s.received() {
		checkKeyless(t, r)
	}
}

// generalize returns the one of templates that fits r, or r itself.
func generalize(r azure.Request, templates []string) string {
	path, _, _ := strings.Cut(r.Target, "?")
	got := r.Method + " " + path
	for _, template := range templates {
		pattern := strings.ReplaceAll(regexp.QuoteMeta(template), `\{id\}`, "[^/]+")
		if regexp.MustCompile("^" + pattern + "$").MatchString(got) {
			return template
		}
	}
	return got
}

// dummyKeyHeaders names the headers in which the dummy key reached the sidecar.
// It must have been there: a test of removing what was never sent proves nothing.
func (s *stack) dummyKeyHeaders(t *testing.T, c call) string {
	t.Helper()
	sidecar := s.sidecars[c.sample]
	if sidecar.tls != "" {
		return "(inside TLS)"
	}
	var headers []string
	for _, r := range sidecar.requests() {
		if r.credentials() == "" {
			t.Errorf("LiteLLM sent %s %s without its key", r.method, r.target)
		}
		headers = append(headers, r.credentials())
	}
	if len(headers) == 0 {
		t.Error("nothing came through the sidecar")
	}
	return strings.Join(slices.Compact(headers), "; ")
}
