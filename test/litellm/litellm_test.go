// Package litellm_test drives the real LiteLLM proxy and the real OpenAI client
// through the built sidecar, against the emulated Azure.
//
// LiteLLM takes some ten seconds to start, so one of it serves all tests here,
// which are therefore subtests of one.
package litellm_test

import (
	"flag"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"entra-sidecar/test/azure"
)

var update = flag.Bool("update", false, "write TABLE.md as the test run found it")

func TestLiteLLM(t *testing.T) {
	s := startStack(t)
	for _, group := range []struct {
		name string
		test func(*testing.T)
	}{
		{"without the sidecar it fails with the error that people search for", s.testContrast},
		{"every call type", s.testCalls},
		{"streams arrive piece by piece", s.testProgress},
		{"a cut stream is an error for the user", s.testCutStreams},
		{"a client that goes away stops the work at Azure", s.testCancellation},
		{"LiteLLM balances the load over two routes", s.testRegions},
		{"a user reads what is wrong", s.testExplanations},
		{"a revoked token is replaced behind LiteLLM's back", s.testRevocation},
	} {
		t.Run(group.name, group.test)
	}
}

// forget begins a new observation, with Azure in its best health.
func (s *stack) forget(t *testing.T) {
	t.Helper()
	s.checkTokenRequests(t)
	for _, e := range []*azure.Emulator{s.azure, s.apim} {
		e.Reset()
		e.Forget()
	}
	for _, sidecar := range s.sidecars {
		sidecar.forget()
	}
}

// checkTokenRequests fails the test if anybody but a sidecar asked for a token.
// The sidecars use the managed identity endpoint; LiteLLM was given a federated
// token, as the workload identity webhook gives it to every container of a pod,
// and would go to Entra's own.
func (s *stack) checkTokenRequests(t *testing.T) {
	t.Helper()
	for _, r := range s.azure.TokenRequests() {
		if strings.Contains(r.Target, "/oauth2/") {
			t.Errorf("LiteLLM asked for a token of its own: %s %s", r.Method, r.Target)
		}
	}
}

// received are the requests that reached Azure since forget.
func (s *stack) received() []azure.Request {
	return append(s.azure.Requests(), s.apim.Requests()...)
}

// checkKeyless fails the test if a request reached Azure with anything but one
// bearer token of Entra's, or with a key of LiteLLM's or the user's anywhere.
func checkKeyless(t *testing.T, r azure.Request) {
	t.Helper()
	if got := r.Header.Values("Authorization"); len(got) != 1 || r.Token == nil {
		t.Errorf("%s %s came with %d Authorization headers, its token one of Entra's: %t", r.Method, r.Target, len(got), r.Token != nil)
	}
	for _, name := range []string{"Api-Key", "X-Api-Key", "Cookie", "Proxy-Authorization"} {
		if r.Header.Get(name) != "" {
			t.Errorf("%s %s came with %s", r.Method, r.Target, name)
		}
	}
	if key := r.Header.Get("Ocp-Apim-Subscription-Key"); key != "" && key != apimKey {
		t.Errorf("%s %s came with the client's Ocp-Apim-Subscription-Key", r.Method, r.Target)
	}
	for _, key := range []string{dummyKey, masterKey, realKey} {
		if carries(r, key) {
			t.Errorf("%s carries the key %.7s…", r.Method, key)
		}
	}
	if r.Status >= http.StatusBadRequest {
		t.Errorf("%s %s was answered with %d", r.Method, r.Target, r.Status)
	}
}

// carries reports whether key is in a request's target or in a value of its headers.
func carries(r azure.Request, key string) bool {
	if strings.Contains(r.Target, key) {
		return true
	}
	for _, values := range r.Header {
		for _, v := range values {
			if strings.Contains(v, key) {
				return true
			}
		}
	}
	return false
}

// The README shows the table between these lines.
const tableBegins, tableEnds = "<!-- endpoints: test/litellm keeps this table true -->\n", "<!-- /endpoints -->"

func TestREADMEShowsTheTable(t *testing.T) {
	table, err := os.ReadFile("TABLE.md")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, begins := strings.Cut(string(readme), tableBegins)
	shown, _, ends := strings.Cut(rest, tableEnds)
	if !begins || !ends {
		t.Fatalf("README.md has no place for the table: %s… %s", tableBegins, tableEnds)
	}
	if diff := cmp.Diff(strings.TrimSpace(string(table)), strings.TrimSpace(shown)); diff != "" {
		t.Errorf("README.md does not show test/litellm/TABLE.md (-file +README):\n%s", diff)
	}
}
