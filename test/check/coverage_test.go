package check

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"entra-sidecar/proxy/diagnose"
)

// TestEveryCause produces each row of the table and holds what check and the
// proxy make of it against the row.
func TestEveryCause(t *testing.T) {
	var tally tally
	rows := diagnose.Causes()
	t.Run("row", func(t *testing.T) {
		for _, row := range rows {
			t.Run(key(row), func(t *testing.T) {
				t.Parallel()
				scene, ok := sceneOf(row)
				if !ok || scene.set == nil {
					tally.uncovered(row, scene.elsewhere)
					return
				}
				if !play(t, row, scene) {
					tally.uncovered(row, "needs user namespaces, which this machine does not permit")
				}
			})
		}
	})
	t.Logf("rows covered %d / rows in the table %d", len(rows)-len(tally.missing), len(rows))
	for _, missing := range tally.missing {
		t.Log("not covered: " + missing)
	}
	for _, name := range tally.unexplained {
		t.Errorf("%s is produced nowhere, and nothing says why", name)
	}
}

func TestEveryScenePlaysARow(t *testing.T) {
	rows := diagnose.Causes()
	for name := range scenes {
		if !slices.ContainsFunc(rows, func(r diagnose.Row) bool { return key(r) == name }) {
			t.Errorf("the table has no %s", name)
		}
	}
}

// A tally counts what is not covered, and why.
type tally struct {
	mu                   sync.Mutex
	missing, unexplained []string
}

func (y *tally) uncovered(r diagnose.Row, reason string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.missing = append(y.missing, key(r)+": "+reason)
	if reason == "" {
		y.unexplained = append(y.unexplained, key(r))
	}
}

// play reports false if the scene cannot be set on this machine.
func play(t *testing.T, row diagnose.Row, sc scene) bool {
	s := newStage(t)
	sc.set(s)
	if sc.namespace && !s.isolate(key(row)) {
		return false
	}
	if sc.refused != "" {
		assertRefused(s, sc.refused)
		return true
	}
	assertVerdict(s, row, sc)
	if sc.checkOnly == "" {
		path := sc.path
		if path == "" {
			path = chatPath
		}
		assertServed(t, row, s.serve(path))
	}
	s.assertNoSecrets()
	return true
}

func assertRefused(s *stage, setting string) {
	s.t.Helper()
	code, r := s.runCheck()
	if code != 2 || !strings.Contains(strings.Join(r.Problems, "\n"), setting) {
		s.t.Errorf("check exits with %d and says %q", code, r.Problems)
	}
	if code, text := s.text(); code != 2 || !strings.Contains(text, setting) {
		s.t.Errorf("check exits with %d and says %s", code, text)
	}
}

// assertVerdict runs check in both its forms.
func assertVerdict(s *stage, row diagnose.Row, sc scene) {
	s.t.Helper()
	want := int(row.Class)
	if sc.advice {
		want = 0
	}
	code, r := s.runCheck()
	if code != want {
		s.t.Errorf("check exits with %d, not %d\n%s", code, want, s.output.String())
	}
	found := r.all()
	i := slices.IndexFunc(found, func(f finding) bool { return named(row, f.Cause, f.Detail) })
	if i < 0 {
		s.t.Fatalf("check finds %v", found)
	}
	f := found[i]
	if f.Sentence != sentence(row, f.Cause) || strings.Contains(f.Remedy, "{{") {
		s.t.Errorf("%+v", f)
	}
	code, text := s.text()
	for _, part := range append(strings.Split(f.Remedy, "\n"), strings.Fields(f.Sentence)...) {
		if code != want || !strings.Contains(text, part) {
			s.t.Errorf("check exits with %d, its text lacks %q:\n%s", code, part, text)
			break
		}
	}
}

// named reports whether a cause is the row's; the last row of the sign-ins
// stands for every number.
func named(row diagnose.Row, cause, detail string) bool {
	prefix, open := strings.CutSuffix(row.Cause, "NNNN")
	return detail == row.Detail && (cause == row.Cause || open && strings.HasPrefix(cause, prefix))
}

func sentence(row diagnose.Row, cause string) string {
	return strings.ReplaceAll(row.Sentence, "NNNN", strings.TrimPrefix(cause, "aadsts-"))
}

// assertServed compares what a request through the proxy meets with the row.
// What is no fault of set-up passes as it is.
func assertServed(t *testing.T, row diagnose.Row, r *served) {
	t.Helper()
	cause := r.header.Get("X-Entra-Sidecar-Cause")
	counted := fmt.Sprintf(`entra_sidecar_upstream_auth_failures_total{cause=%q,route="/"} 1`, cause)
	if row.Class == diagnose.ClassNone {
		if cause != "" || strings.Contains(r.body, "[entra-sidecar") || strings.Contains(r.metrics, "upstream_auth_failures_total{") {
			t.Errorf("status %d, cause %q, body %s", r.status, cause, r.body)
		}
		return
	}
	if !named(row, cause, row.Detail) {
		t.Fatalf("status %d, cause %q, body %s", r.status, cause, r.body)
	}
	assertAnswer(t, row, r)
	if message := message(t, r.body); row.Auth && !strings.Contains(message, "[entra-sidecar: "+cause+": "+sentence(row, cause)+"]") {
		t.Errorf("message %q", message)
	}
	if row.Auth && !strings.Contains(r.metrics, counted) {
		t.Errorf("not counted: %s", counted)
	}
	i := slices.IndexFunc(r.log, func(l logLine) bool { return l.Remedy != "" && l.Cause == cause })
	if i < 0 || r.log[i].Level != "warn" || r.log[i].Explanation != sentence(row, cause) || strings.Contains(r.log[i].Remedy, "{{") {
		t.Errorf("log %+v", r.log)
	}
}

// assertAnswer: Azure's status stays, the sidecar's own failures have theirs.
func assertAnswer(t *testing.T, row diagnose.Row, r *served) {
	t.Helper()
	want := map[diagnose.Kind]int{
		diagnose.KindAnswer:     row.Status,
		diagnose.KindSignIn:     http.StatusServiceUnavailable,
		diagnose.KindCredential: http.StatusServiceUnavailable,
		diagnose.KindNetwork:    http.StatusBadGateway,
	}[row.Kind]
	if r.status != want {
		t.Errorf("status %d, not %d: %s", r.status, want, r.body)
	}
}

// message is the one that a client shows.
func message(t *testing.T, body string) string {
	t.Helper()
	var answer struct {
		Error   struct{ Message string }
		Message string
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Errorf("%v: %s", err, body)
	}
	return answer.Error.Message + answer.Message
}
