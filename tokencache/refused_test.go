package tokencache

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

func TestRefused(t *testing.T) {
	bubble(t, "500 requests that report one token make one fetch and get its successor", func(t *testing.T) {
		s := &source{latency: 200 * time.Millisecond}
		c := start(t, s, Options{})
		refused := mustToken(t, c)
		var successor sync.Map
		var wg sync.WaitGroup
		for i := range 500 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond) // half of them come after the replacement
				got, err := c.Refused(t.Context(), refused, "")
				if err != nil || got == refused {
					t.Errorf("successor %v, error %v", got, err)
				}
				successor.Store(got, true)
			})
		}
		wg.Wait()
		n := 0
		successor.Range(func(any, any) bool { n++; return true })
		if n != 1 || s.calls.Load() != 2 {
			t.Errorf("%d successors from %d fetches", n, s.calls.Load())
		}
		assertClaims(t, s, "", forced)
	})
	bubble(t, "a caller who does not wait reports it all the same", func(t *testing.T) {
		done, cancel := context.WithCancel(t.Context())
		cancel()
		for range 20 { // in a select between two that are ready, chance decides
			s := &source{latency: time.Second}
			c := start(t, s, Options{})
			refused := mustToken(t, c)
			if d := took(func() { _, _ = c.Refused(done, refused, "") }); d != 0 {
				t.Errorf("waited %v", d)
			}
			time.Sleep(2 * time.Second)
			if mustToken(t, c) == refused {
				t.Fatal("the refused token was not replaced")
			}
		}
	})
	bubble(t, "meanwhile others use the token in hand, and nobody's wait is counted", func(t *testing.T) {
		s := &source{latency: 5 * time.Second}
		c := start(t, s, Options{})
		refused := mustToken(t, c)
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = c.Refused(t.Context(), refused, "") })
		synctest.Wait()
		if d := took(func() { mustToken(t, c) }); d != 0 {
			t.Errorf("another request waited %v", d)
		}
		wg.Wait()
		if st := c.Status(); st.Waits != 1 || st.Renewals != 2 {
			t.Errorf("%+v", st)
		}
	})
	bubble(t, "a token that was replaced long ago costs nothing", func(t *testing.T) {
		s := &source{}
		c := start(t, s, Options{})
		old := mustToken(t, c)
		time.Sleep(40 * time.Minute)
		before := s.calls.Load()
		if got, err := c.Refused(t.Context(), old, ""); err != nil || got != mustToken(t, c) {
			t.Errorf("%v, %v", got, err)
		}
		if s.calls.Load() != before {
			t.Error("it was fetched for")
		}
	})
	bubble(t, "the same token again is no successor", func(t *testing.T) {
		s := &source{}
		s.same.Store(true)
		c := start(t, s, Options{})
		refused := mustToken(t, c)
		if got, err := c.Refused(t.Context(), refused, ""); err != ErrNotReplaced {
			t.Errorf("%v, %v", got, err)
		}
		if st := c.Status(); st.Unchanged != 1 || !st.Usable() {
			t.Errorf("%+v", st)
		}
	})
	bubble(t, "a source that fails has none, and the token in hand serves on", func(t *testing.T) {
		s := &source{}
		c := start(t, s, Options{})
		refused := mustToken(t, c)
		s.down.Store(true)
		if got, err := c.Refused(t.Context(), refused, ""); err != ErrNotReplaced {
			t.Errorf("%v, %v", got, err)
		}
		if mustToken(t, c) != refused {
			t.Error("the token in hand was dropped")
		}
		s.down.Store(false)
		time.Sleep(2 * time.Second)
		if mustToken(t, c) == refused {
			t.Error("the failed replacement was not tried again")
		}
	})
	bubble(t, "a caller's context is honoured", func(t *testing.T) {
		s := &source{latency: 5 * time.Second}
		c := start(t, s, Options{})
		refused := mustToken(t, c)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		d := took(func() {
			if _, err := c.Refused(ctx, refused, ""); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
		})
		if d != time.Second {
			t.Errorf("waited %v", d)
		}
	})
	bubble(t, "a slow source keeps no caller longer than FirstTokenTimeout", func(t *testing.T) {
		s := &source{latency: 9 * time.Second}
		c := start(t, s, Options{FirstTokenTimeout: 10 * time.Second})
		refused := mustToken(t, c)
		s.latency = 20 * time.Second
		d := took(func() {
			if _, err := c.Refused(t.Context(), refused, ""); err != ErrNotReplaced {
				t.Errorf("error %v", err)
			}
		})
		if d != 10*time.Second {
			t.Errorf("waited %v", d)
		}
	})
	bubble(t, "of an expired token: the renewal under way is waited for", func(t *testing.T) {
		s := &source{life: time.Minute}
		c := start(t, s, Options{})
		refused := mustToken(t, c)
		s.down.Store(true)
		time.Sleep(70 * time.Second)
		s.down.Store(false)
		if got, err := c.Refused(t.Context(), refused, ""); err != nil || got == refused {
			t.Errorf("%v, %v", got, err)
		}
	})
}

func TestReplacementIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{latency: 100 * time.Millisecond, life: 24 * time.Hour}
		c := start(t, s, Options{})
		mustToken(t, c)
		replaced := 0
		for range 600 { // ten minutes of 401s that no token mends
			if _, err := c.Refused(t.Context(), mustToken(t, c), ""); err == nil {
				replaced++
			} else if err != ErrNotReplaced {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if n := int(s.calls.Load()) - 1; n != replaced || n < limitBurst+9 || n > limitBurst+11 {
			t.Errorf("%d fetches, %d replacements", n, replaced)
		}
		limited := took(func() { _, _ = c.Refused(t.Context(), mustToken(t, c), "") })
		if limited != 0 {
			t.Errorf("a limited report waited %v", limited)
		}
	})
}

func TestClaimsChallenge(t *testing.T) {
	const challenge = `{"access_token":{"nbf":{"essential":true,"value":"1700000000"}}}`
	bubble(t, "it is passed on, once, and renewals do not repeat it", func(t *testing.T) {
		s := &source{}
		c := start(t, s, Options{})
		if _, err := c.Refused(t.Context(), mustToken(t, c), challenge); err != nil {
			t.Error(err)
		}
		time.Sleep(40 * time.Minute)
		assertClaims(t, s, "", challenge, forced)
	})
	bubble(t, "during a renewal it gets a fetch of its own", func(t *testing.T) {
		s := &source{latency: time.Second}
		c := start(t, s, Options{})
		token := mustToken(t, c)
		var wg sync.WaitGroup
		for _, claims := range []string{"", challenge, challenge, ""} {
			wg.Go(func() {
				if got, err := c.Refused(t.Context(), token, claims); err != nil || got == token {
					t.Errorf("%v, %v", got, err)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		assertClaims(t, s, "", forced, challenge)
	})
	bubble(t, "a source that refuses it is not asked without it", func(t *testing.T) {
		var challenged atomic.Int64
		s := &source{get: func(_ context.Context, n int, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
			if o.Claims == challenge {
				challenged.Add(1)
				return azcore.AccessToken{}, errors.New("run az login --claims-challenge")
			}
			return tokenFor(n, time.Hour), nil
		}}
		c := start(t, s, Options{})
		if _, err := c.Refused(t.Context(), mustToken(t, c), challenge); err != ErrNotReplaced {
			t.Error(err)
		}
		if challenged.Load() != 1 || s.calls.Load() != 2 {
			t.Errorf("%d calls, %d with the challenge", s.calls.Load(), challenged.Load())
		}
	})
}
