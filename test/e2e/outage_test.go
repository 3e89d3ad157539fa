package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"entra-sidecar/test/azure"
)

// The headline promise: tokens are replaced under traffic, with Entra failing
// half of the time, and no request fails or waits.
func TestRotationsUnderTrafficWhileEntraFailsHalfOfTheTime(t *testing.T) {
	t.Parallel()
	const life = 30 * time.Second // renewed after 15 to 18 s
	e := newAzure(t, azure.Faults{Tokens: azure.Tokens{Life: azure.Seconds(life.Seconds())}})
	s := startReady(t, e)
	waits := s.metric("entra_sidecar_token_waits_total")

	stop := make(chan struct{})
	var background sync.WaitGroup
	background.Go(func() { failHalfOfTheTime(e, stop) })
	samples := traffic(t, s.url, 80*time.Second)
	close(stop)
	background.Wait()

	used := map[uint64]int{}
	for _, r := range e.Requests() {
		if r.Token != nil {
			used[r.Token.Serial]++
		}
	}
	failed := 0
	for _, sample := range samples {
		if sample.failure != "" {
			failed++
			t.Log(sample.failure)
		}
	}
	t.Logf("%d requests over %d tokens, %d failed", len(samples), len(used), failed)
	if failed > 0 || len(used) < 5 {
		t.Errorf("want no failure and at least 4 rotations")
	}
	if now := s.metric("entra_sidecar_token_waits_total"); now != waits {
		t.Errorf("%v requests waited for a token", now-waits)
	}
	if s.metric("entra_sidecar_token_refreshes_total", `result="failure"`) == 0 {
		t.Error("Entra never failed: the test tests nothing")
	}
	compareLatencies(t, e, samples)
}

// failHalfOfTheTime makes Entra refuse for 7 s of every 14: long enough that the
// first renewal meets it, and with a status that azidentity does not retry.
func failHalfOfTheTime(e *azure.Emulator, stop <-chan struct{}) {
	for down := true; ; down = !down {
		e.Set(func(f *azure.Faults) {
			f.Entra = nil
			if down {
				f.Entra = []azure.Rule{{Answer: &azure.Answer{Status: http.StatusBadRequest, Body: "{}"}}}
			}
		})
		select {
		case <-stop:
			return
		case <-time.After(7 * time.Second):
		}
	}
}

type sample struct {
	start, end time.Time
	failure    string
}

// traffic sends about 100 requests a second.
func traffic(t *testing.T, url string, length time.Duration) []sample {
	var mu sync.Mutex
	var samples []sample
	var workers sync.WaitGroup
	end := time.Now().Add(length)
	for range 4 {
		workers.Go(func() {
			for time.Now().Before(end) {
				taken := measure(t, url)
				mu.Lock()
				samples = append(samples, taken)
				mu.Unlock()
				time.Sleep(40 * time.Millisecond)
			}
		})
	}
	workers.Wait()
	return samples
}

func measure(t *testing.T, url string) sample {
	taken := sample{start: time.Now()}
	res, err := post(t.Context(), url+embeddingsPath, object{"input": "x"})
	if err != nil {
		taken.failure = err.Error()
	} else {
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			taken.failure = res.Status + " " + string(body)
		}
	}
	taken.end = time.Now()
	return taken
}

// compareLatencies sets the requests that ran while the sidecar was asking
// Entra against the others. It reports, and fails only on a stall: the machine
// decides over milliseconds.
func compareLatencies(t *testing.T, e *azure.Emulator, samples []sample) {
	var renewals []azure.TokenRequest // not the first token's, beside which connections are opened
	for _, r := range e.TokenRequests() {
		if r.Time.After(samples[0].start.Add(time.Second)) {
			renewals = append(renewals, r)
		}
	}
	var during, outside []time.Duration
	for _, s := range samples {
		if duringRenewal(renewals, s) {
			during = append(during, s.end.Sub(s.start))
		} else {
			outside = append(outside, s.end.Sub(s.start))
		}
	}
	if len(during) == 0 {
		t.Fatal("no request ran during a renewal: the test tests nothing")
	}
	t.Logf("during renewals: %s; otherwise: %s; ratio of the medians %.2f",
		percentiles(during), percentiles(outside), float64(percentile(during, 50))/float64(percentile(outside, 50)))
	if worst := percentile(during, 100); worst > percentile(outside, 100)+2*time.Second {
		t.Errorf("a request took %v during a renewal", worst)
	}
}

// duringRenewal allows for the time before and after the request to Entra that
// the renewal takes inside of the sidecar.
func duringRenewal(renewals []azure.TokenRequest, s sample) bool {
	const margin = 100 * time.Millisecond
	return slices.ContainsFunc(renewals, func(r azure.TokenRequest) bool {
		return s.start.Before(r.Time.Add(margin)) && s.end.After(r.Time.Add(-margin))
	})
}

func percentiles(d []time.Duration) string {
	return fmt.Sprintf("n=%d p50=%v p99=%v max=%v", len(d), percentile(d, 50), percentile(d, 99), percentile(d, 100))
}

func percentile(d []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[(len(sorted)-1)*p/100]
}

func TestAColdStartWithoutEntra(t *testing.T) {
	t.Parallel()
	e := newAzure(t, azure.Faults{EntraDown: true})
	s := start(t, e, "--first-token-timeout", "1s")
	s.eventually(10*time.Second, "alive", func() bool { return s.status(s.admin+"/livez") == http.StatusOK })
	if got := s.status(s.admin + "/readyz"); got != http.StatusServiceUnavailable {
		t.Errorf("readyz is %d without a token", got)
	}
	status, header, body := answer(t, s.url+chatPath, chat("hello", false))
	if status != http.StatusServiceUnavailable || !strings.Contains(body, `"code":"token_unavailable"`) {
		t.Errorf("got %d %s", status, body)
	}
	if seconds, err := strconv.Atoi(header.Get("Retry-After")); err != nil || seconds < 1 {
		t.Errorf("Retry-After is %q", header.Get("Retry-After"))
	}

	e.Set(func(f *azure.Faults) { f.EntraDown = false })
	s.eventually(35*time.Second, "ready", func() bool { return s.status(s.admin+"/readyz") == http.StatusOK })
	if status, _, body := answer(t, s.url+chatPath, chat("hello", false)); status != http.StatusOK {
		t.Errorf("got %d %s after Entra came back", status, body)
	}
}

func TestAnExpiredTokenIsNeverSent(t *testing.T) {
	t.Parallel()
	const life = 6 * time.Second
	e := newAzure(t, azure.Faults{Tokens: azure.Tokens{Life: azure.Seconds(life.Seconds())}})
	s := startReady(t, e)
	e.Set(func(f *azure.Faults) { f.EntraDown = true })

	refused := 0
	for end := time.Now().Add(2 * life); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		status, _, body := answer(t, s.url+embeddingsPath, object{"input": "x"})
		switch {
		case status == http.StatusOK && refused == 0:
		case status == http.StatusServiceUnavailable && strings.Contains(body, "token_unavailable"):
			refused++
		default:
			t.Fatalf("got %d %s", status, body)
		}
	}
	if refused == 0 {
		t.Error("the token never expired: the test tests nothing")
	}
	for _, r := range e.Requests() {
		if r.Token != nil && r.Time.After(r.Token.ExpiresAt) {
			t.Errorf("a token that expired at %v was sent at %v", r.Token.ExpiresAt, r.Time)
		}
	}
	if !strings.Contains(s.log.String(), "expired") {
		t.Error("the log does not say that the token has expired")
	}
	e.Set(func(f *azure.Faults) { f.EntraDown = false })
	s.eventually(35*time.Second, "serving again", func() bool {
		status, _, _ := answer(t, s.url+embeddingsPath, object{"input": "x"})
		return status == http.StatusOK
	})
}

// A revoked token costs one replay, however many requests find out at once.
func TestARevokedTokenIsReplacedOnce(t *testing.T) {
	t.Parallel()
	e := newAzure(t, azure.Faults{})
	s := startReady(t, e)
	issued := len(e.TokenRequests())
	e.Revoke()

	var workers sync.WaitGroup
	for range 50 {
		workers.Go(func() {
			if taken := measure(t, s.url); taken.failure != "" {
				t.Error(taken.failure)
			}
		})
	}
	workers.Wait()
	if fetched := len(e.TokenRequests()) - issued; fetched != 1 {
		t.Errorf("%d fetches for one revoked token", fetched)
	}
	if s.metric("entra_sidecar_token_replays_total") == 0 {
		t.Error("no replay was counted")
	}
}

// Tokens pass through every part of the program; none may show one.
func TestNoTokenIsEverPrinted(t *testing.T) {
	t.Parallel()
	e := newAzure(t, azure.Faults{})
	s := startReady(t, e, "--log-level", "debug")
	e.Revoke()
	answer(t, s.url+chatPath, chat("hello", false))
	e.Set(func(f *azure.Faults) { _ = f.Add("missing-role") })
	_, header, body := answer(t, s.url+chatPath, chat("hello", false))

	shown := s.log.String() + fmt.Sprint(header) + body
	for _, page := range []string{"/", "/status.json", "/metrics", "/readyz"} {
		res, err := http.Get(s.admin + page)
		if err != nil {
			t.Fatal(err)
		}
		content, _ := io.ReadAll(res.Body)
		res.Body.Close()
		shown += string(content)
	}
	for _, r := range e.Requests() {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		signature := token[strings.LastIndex(token, ".")+1:]
		if strings.Contains(shown, signature) || strings.Contains(shown, token[:40]) {
			t.Fatal("a token was printed")
		}
	}
	if strings.Contains(shown, "eyJ") {
		t.Error("something that looks like a JWT was printed")
	}
	_, ours, found := strings.Cut(body, "[entra-sidecar: missing-role: ") // Azure's own text names the principal
	if !found || strings.Contains(ours, e.Requests()[0].Token.ObjectID) {
		t.Errorf("the sentence is missing, or names the identity: %s", body)
	}
}

func TestAKeyFromAFileIsAskedFor(t *testing.T) {
	t.Parallel()
	e := newAzure(t, azure.Faults{})
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte("first-inbound-key-000\nsidecar\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startReady(t, e, "--inbound-keys-file", keys)
	if status, _, body := answer(t, s.url+chatPath, chat("hello", false)); status != http.StatusOK {
		t.Errorf("got %d %s with a key that is listed", status, body)
	}
	res, err := http.Post(s.url+chatPath, "application/json", strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized || res.Header.Get("X-Entra-Sidecar-Error") != "invalid_inbound_key" {
		t.Errorf("got %s without a key", res.Status)
	}
}
