package tokencache

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func observed() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zapcore.DebugLevel)
	return zap.New(core), logs
}

// aboveDebug returns the lines that an operator sees, as "level message".
func aboveDebug(logs *observer.ObservedLogs) (lines []string) {
	for _, e := range logs.All() {
		if e.Level > zapcore.DebugLevel {
			lines = append(lines, e.Level.String()+" "+e.Message)
		}
	}
	return lines
}

func assertLines(t *testing.T, logs *observer.ObservedLogs, want ...string) {
	t.Helper()
	if got := aboveDebug(logs); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("logged\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func TestEachChangeOfStateIsOneLine(t *testing.T) {
	bubble(t, "a quiet day", func(t *testing.T) {
		log, logs := observed()
		start(t, &source{}, Options{Logger: log, Identity: "team-a"})
		time.Sleep(24 * time.Hour)
		assertLines(t, logs, "info token obtained")
		fields := logs.All()[0].ContextMap()
		if fields["identity"] != "team-a" || fields["scope"] != testScope || fields["expires"] == nil || fields["renew_at"] == nil || fields["source"] == nil {
			t.Errorf("%v", fields)
		}
	})
	bubble(t, "an outage within the token's life", func(t *testing.T) {
		log, logs := observed()
		s := &source{}
		start(t, s, Options{Logger: log})
		time.Sleep(time.Minute)
		s.down.Store(true)
		time.Sleep(49 * time.Minute)
		s.down.Store(false)
		time.Sleep(10 * time.Minute)
		assertLines(t, logs, "info token obtained", "warn token renewal failing", "info token renewal recovered")
		failing := logs.FilterMessage("token renewal failing").All()[0].ContextMap()
		if failing["error"] != "the source is down" || failing["serving_until"] == nil || failing["retry_in"] == nil {
			t.Errorf("%v", failing)
		}
		recovered := logs.FilterMessage("token renewal recovered").All()[0].ContextMap()
		if outage := recovered["outage"].(time.Duration); outage < 18*time.Minute || outage > 21*time.Minute {
			t.Errorf("%v", recovered)
		}
	})
	bubble(t, "an outage beyond it", func(t *testing.T) {
		log, logs := observed()
		s := &source{}
		start(t, s, Options{Logger: log})
		time.Sleep(time.Minute)
		s.down.Store(true)
		time.Sleep(3 * time.Hour)
		s.down.Store(false)
		time.Sleep(time.Minute)
		assertLines(t, logs, "info token obtained", "warn token renewal failing",
			"error token expired: requests fail until there is a new one", "info token renewal recovered")
		at := logs.FilterMessageSnippet("expired").All()[0]
		if late := at.Time.Sub(at.ContextMap()["expired"].(time.Time)); late < 0 || late > time.Second {
			t.Errorf("logged %v after the expiry", late)
		}
	})
	bubble(t, "a source that fails from the start", func(t *testing.T) {
		log, logs := observed()
		s := &source{}
		s.down.Store(true)
		start(t, s, Options{Logger: log})
		time.Sleep(time.Hour)
		s.down.Store(false)
		time.Sleep(time.Minute)
		assertLines(t, logs, "error no token", "info token obtained")
	})
	bubble(t, "a suspended machine", func(t *testing.T) {
		log, logs := observed()
		c := start(t, &source{}, Options{Logger: log})
		time.Sleep(time.Minute)
		pretendSuspended(c, 8*time.Hour)
		time.Sleep(time.Minute)
		assertLines(t, logs, "info token obtained", "warn token expired: the machine was suspended or its clock was set", "info token renewal recovered")
	})
	bubble(t, "refused tokens", func(t *testing.T) {
		log, logs := observed()
		s := &source{latency: time.Second, life: 24 * time.Hour}
		c := start(t, s, Options{Logger: log})
		for range limitBurst + 5 {
			var wg sync.WaitGroup
			token := mustToken(t, c)
			for range 50 {
				wg.Go(func() { _, _ = c.Refused(t.Context(), token, "") })
			}
			wg.Wait()
		}
		const replacing = "info Azure refused the token: replacing it"
		want := append([]string{"info token obtained"}, slices.Repeat([]string{replacing}, limitBurst)...)
		want = append(want, "warn Azure refuses fresh tokens too: replacing at most one a minute from now on")
		assertLines(t, logs, want...)
	})
	bubble(t, "a stopped cache says nothing about what it cancelled", func(t *testing.T) {
		log, logs := observed()
		c := New(&source{latency: time.Minute}, Options{Logger: log, Scope: testScope})
		stop := runUntilCleanup(t, c)
		time.Sleep(time.Second)
		stop()
		assertLines(t, logs)
	})
}

func TestNoLogLineHoldsASecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cleanEnvironment(t, nil)
		log, logs := observed()
		f := newInProcess(t)
		id := entraIdentity("client-secret")
		c := New(newCredential(t, id, CredentialOptions{Transport: f, Log: listen(t, log)}), Options{Scope: testScope, Logger: log})
		runUntilCleanup(t, c)
		first := mustToken(t, c)
		f.respond(200, `{"access_token":"`+canary+`","expires_in":"36`)
		_, _ = c.Refused(t.Context(), first, "")
		f.respond(401, entraError(7000215, "Invalid client secret "+id.ClientSecret+" provided, client_secret=canary&client_assertion="+canary+"."))
		time.Sleep(3 * time.Hour)
		if _, err := c.Token(t.Context()); err != nil {
			assertNoCanary(t, strings.ReplaceAll(fmt.Sprintf("%v %+v %#v", err, err, err), id.ClientSecret, ""))
		}
		for _, e := range logs.All() {
			line := strings.ReplaceAll(fmt.Sprint(e.Message, e.ContextMap()), id.ClientSecret, "")
			assertNoCanary(t, line)
			if strings.Contains(line, first.Authorization()[len("Bearer "):]) {
				t.Errorf("a token was logged: %s", line)
			}
		}
	})
}
