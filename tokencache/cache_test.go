package tokencache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

const testScope = "https://cognitiveservices.azure.com/.default"

// A source is a credential under a test's control. Its zero value issues
// distinct tokens that live for an hour, at once.
type source struct {
	life    time.Duration
	latency time.Duration
	get     func(ctx context.Context, n int, o policy.TokenRequestOptions) (azcore.AccessToken, error) // instead of all that

	down  atomic.Bool // fail
	same  atomic.Bool // return the previous token again
	calls atomic.Int64

	mu     sync.Mutex
	last   azcore.AccessToken
	claims []string
}

var errDown = errors.New("the source is down")

func (s *source) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	n := int(s.calls.Add(1))
	s.mu.Lock()
	s.claims = append(s.claims, o.Claims)
	s.mu.Unlock()
	if len(o.Scopes) != 1 || o.Scopes[0] != testScope || !o.EnableCAE {
		return azcore.AccessToken{}, fmt.Errorf("unexpected options %+v", o)
	}
	if s.get != nil {
		return s.get(ctx, n, o)
	}
	select {
	case <-time.After(s.latency):
	case <-ctx.Done():
		return azcore.AccessToken{}, ctx.Err()
	}
	if s.down.Load() {
		return azcore.AccessToken{}, errDown
	}
	return s.issue(n), nil
}

func (s *source) issue(n int) azcore.AccessToken {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.same.Load() || n == 1 {
		s.last = tokenFor(n, s.life)
	}
	return s.last
}

func tokenFor(n int, life time.Duration) azcore.AccessToken {
	if life == 0 {
		life = time.Hour
	}
	return azcore.AccessToken{Token: fmt.Sprintf("token-%d", n), ExpiresOn: time.Now().Add(life).UTC()}
}

// start runs a cache until the test ends.
func start(t *testing.T, cred azcore.TokenCredential, o Options) *Cache {
	t.Helper()
	o.Scope = testScope
	c := New(cred, o)
	runUntilCleanup(t, c)
	return c
}

func runUntilCleanup(t *testing.T, c *Cache) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return stop
}

func mustToken(t *testing.T, c *Cache) *Token {
	t.Helper()
	token, err := c.Token(t.Context())
	if err != nil {
		t.Fatalf("Token: %v", err)
	}
	return token
}

// bubble runs a test with simulated time.
func bubble(t *testing.T, name string, f func(*testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func took(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func TestFirstToken(t *testing.T) {
	bubble(t, "a thousand cold callers make one fetch", func(t *testing.T) {
		s := &source{latency: 300 * time.Millisecond}
		c := start(t, s, Options{})
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() { mustToken(t, c) })
		}
		wg.Wait()
		if n := s.calls.Load(); n != 1 {
			t.Errorf("%d fetches", n)
		}
		if w := c.Status().Waits; w != 1000 {
			t.Errorf("%d waits counted", w)
		}
	})
	bubble(t, "callers may come before Run", func(t *testing.T) {
		c := New(&source{}, Options{Scope: testScope})
		var wg sync.WaitGroup
		wg.Go(func() { mustToken(t, c) })
		time.Sleep(5 * time.Second)
		runUntilCleanup(t, c)
		wg.Wait()
	})
	bubble(t, "they wait through failures and retries", func(t *testing.T) {
		s := &source{}
		s.down.Store(true)
		c := start(t, s, Options{})
		time.AfterFunc(5*time.Second, func() { s.down.Store(false) })
		if d := took(func() { mustToken(t, c) }); d < 5*time.Second || d > 10*time.Second {
			t.Errorf("waited %v", d)
		}
	})
	bubble(t, "but no longer than FirstTokenTimeout after Run began, and then not at all", func(t *testing.T) {
		s := &source{}
		s.down.Store(true)
		c := start(t, s, Options{FirstTokenTimeout: 4 * time.Second})
		time.Sleep(time.Second)
		for i, want := range []time.Duration{3 * time.Second, 0, 0} {
			var err error
			if d := took(func() { _, err = c.Token(t.Context()) }); d != want {
				t.Errorf("caller %d waited %v, want %v", i, d, want)
			}
			assertUnavailable(t, err, errDown.Error())
		}
	})
	bubble(t, "a slow source keeps each caller for FirstTokenTimeout at most", func(t *testing.T) {
		s := &source{latency: 25 * time.Second}
		c := start(t, s, Options{})
		for _, want := range []time.Duration{10 * time.Second, 10 * time.Second, 5 * time.Second} {
			if d := took(func() { _, _ = c.Token(t.Context()) }); d != want {
				t.Errorf("waited %v, want %v", d, want)
			}
		}
		mustToken(t, c)
	})
	bubble(t, "while nothing failed yet the error says so", func(t *testing.T) {
		c := start(t, &source{latency: 20 * time.Second}, Options{})
		_, err := c.Token(t.Context())
		assertUnavailable(t, err, errNoAnswer.Error())
	})
	bubble(t, "a caller's context is honoured", func(t *testing.T) {
		c := start(t, &source{latency: 20 * time.Second}, Options{})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		d := took(func() {
			if _, err := c.Token(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
		})
		if d != 3*time.Second {
			t.Errorf("waited %v", d)
		}
	})
}

func assertUnavailable(t *testing.T, err error, reason string) {
	t.Helper()
	u, ok := errors.AsType[*UnavailableError](err)
	if !ok {
		t.Fatalf("error %T %v is no UnavailableError", err, err)
	}
	if u.Err.Error() != reason {
		t.Errorf("reason %q, want %q", u.Err, reason)
	}
	if u.RetryAfter < time.Second || u.RetryAfter > 30*time.Second {
		t.Errorf("RetryAfter %v", u.RetryAfter)
	}
}

func TestWithoutRunNobodyHangs(t *testing.T) {
	bubble(t, "never started", func(t *testing.T) {
		c := New(&source{}, Options{Scope: testScope})
		d := took(func() {
			if _, err := c.Token(t.Context()); !errors.Is(err, ErrNotRunning) {
				t.Errorf("Token: %v", err)
			}
			if _, err := c.Refused(t.Context(), NewToken("x", time.Now()), ""); err != ErrNotReplaced {
				t.Errorf("Refused: %v", err)
			}
		})
		if d != 20*time.Second {
			t.Errorf("two calls took %v", d)
		}
	})
	bubble(t, "ended before there was a token", func(t *testing.T) {
		c := New(&source{latency: time.Minute}, Options{Scope: testScope})
		stop := runUntilCleanup(t, c)
		time.AfterFunc(2*time.Second, stop)
		d := took(func() {
			if _, err := c.Token(t.Context()); !errors.Is(err, ErrNotRunning) {
				t.Errorf("Token: %v", err)
			}
		})
		if d != 2*time.Second {
			t.Errorf("waited %v", d)
		}
	})
	bubble(t, "ended: the last token serves until it expires", func(t *testing.T) {
		c := New(&source{}, Options{Scope: testScope})
		stop := runUntilCleanup(t, c)
		token := mustToken(t, c)
		stop()
		time.Sleep(time.Hour - time.Second)
		if mustToken(t, c) != token {
			t.Error("another token")
		}
		d := took(func() {
			if _, err := c.Refused(t.Context(), token, ""); err != ErrNotReplaced {
				t.Errorf("Refused: %v", err)
			}
		})
		time.Sleep(time.Second)
		d += took(func() {
			if _, err := c.Token(t.Context()); !errors.Is(err, ErrNotRunning) {
				t.Errorf("Token: %v", err)
			}
		})
		if d != 0 {
			t.Errorf("waited %v", d)
		}
	})
	bubble(t, "Run is for once", func(t *testing.T) {
		c := start(t, &source{}, Options{})
		synctest.Wait()
		if err := c.Run(t.Context()); err == nil {
			t.Error("Run ran twice")
		}
		mustToken(t, c)
	})
}

func TestRenewalIsForcedPastTheSourcesCache(t *testing.T) {
	bubble(t, "the first fetch is not forced, each renewal is", func(t *testing.T) {
		s := &source{}
		start(t, s, Options{})
		time.Sleep(80 * time.Minute)
		synctest.Wait()
		assertClaims(t, s, "", forced, forced)
	})
	bubble(t, "a source that refuses claims is asked without them", func(t *testing.T) {
		s := &source{get: func(_ context.Context, n int, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
			if o.Claims != "" {
				return azcore.AccessToken{}, errors.New("no claims, please")
			}
			return tokenFor(n, time.Hour), nil
		}}
		c := start(t, s, Options{})
		time.Sleep(40 * time.Minute)
		synctest.Wait()
		assertClaims(t, s, "", forced, "")
		if st := c.Status(); st.Renewals != 2 || st.Failures != 0 {
			t.Errorf("status %+v", st)
		}
	})
	bubble(t, "an attempt out of time is not repeated without claims", func(t *testing.T) {
		s := &source{get: func(ctx context.Context, n int, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
			if o.Claims != "" {
				<-ctx.Done()
				return azcore.AccessToken{}, ctx.Err()
			}
			return tokenFor(n, time.Hour), nil
		}}
		c := start(t, s, Options{})
		time.Sleep(36*time.Minute + 30*time.Second)
		synctest.Wait()
		if st := c.Status(); st.Renewals != 1 || st.Failures == 0 {
			t.Errorf("status %+v", st)
		}
	})
}

func assertClaims(t *testing.T, s *source, want ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if fmt.Sprint(s.claims) != fmt.Sprint(want) {
		t.Errorf("claims %q, want %q", s.claims, want)
	}
}

func TestAnswersThatAreNoTokensAreFailures(t *testing.T) {
	hour := time.Hour
	for name, tt := range map[string]struct {
		token  string
		expiry func() time.Time
		want   string
	}{
		"an empty token":       {"", func() time.Time { return time.Now().Add(hour) }, "without a token"},
		"no expiry":            {"t", func() time.Time { return time.Time{} }, "no expiry"},
		"an expiry in 1970":    {"t", func() time.Time { return time.Unix(0, 0) }, "clock"},
		"an expired token":     {"t", func() time.Time { return time.Now().Add(-hour) }, "clock"},
		"a token expiring now": {"t", time.Now, "clock"},
	} {
		bubble(t, name, func(t *testing.T) {
			s := &source{get: func(_ context.Context, n int, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
				if n == 1 {
					return tokenFor(n, hour), nil
				}
				return azcore.AccessToken{Token: tt.token, ExpiresOn: tt.expiry()}, nil
			}}
			c := start(t, s, Options{})
			token := mustToken(t, c)
			time.Sleep(50 * time.Minute)
			if mustToken(t, c) != token {
				t.Error("the good token was given up")
			}
			time.Sleep(20 * time.Minute)
			_, err := c.Token(t.Context())
			if u, ok := errors.AsType[*UnavailableError](err); !ok || !strings.Contains(u.Error(), tt.want) {
				t.Errorf("error %v, want one about %q", err, tt.want)
			}
			if n := s.calls.Load(); n < 60 || n > 120 {
				t.Errorf("%d fetches in 70 minutes", n)
			}
		})
	}
}

func TestUnchangedToken(t *testing.T) {
	bubble(t, "it is accepted, and asked for again at half of what remains", func(t *testing.T) {
		s := &source{life: 24 * time.Hour}
		s.same.Store(true)
		c := start(t, s, Options{})
		time.Sleep(23 * time.Hour)
		st := c.Status()
		if st.Unchanged < 3 || st.Unchanged > 5 || st.Failures != 0 || st.Renewals != 1 || st.Err != nil {
			t.Errorf("after 23 h: %+v", st)
		}
		s.same.Store(false)
		time.Sleep(time.Hour - time.Second)
		mustToken(t, c)
		if st := c.Status(); st.Renewals != 2 || st.Waits > 1 {
			t.Errorf("after 24 h: %+v", st)
		}
	})
	bubble(t, "it is never asked for in a tight loop", func(t *testing.T) {
		s := &source{}
		s.same.Store(true)
		start(t, s, Options{})
		time.Sleep(time.Hour)
		if n := s.calls.Load(); n > 25 {
			t.Errorf("%d fetches", n)
		}
	})
	bubble(t, "with a later expiry, that expiry counts", func(t *testing.T) {
		s := &source{get: func(context.Context, int, policy.TokenRequestOptions) (azcore.AccessToken, error) {
			return azcore.AccessToken{Token: "same", ExpiresOn: time.Now().Add(time.Hour)}, nil
		}}
		c := start(t, s, Options{})
		time.Sleep(24 * time.Hour)
		if st := c.Status(); !st.Usable() || st.Renewals != 1 || st.Unchanged < 39 || st.Unchanged > 48 {
			t.Errorf("%+v", st)
		}
	})
}

func TestStuckSource(t *testing.T) {
	bubble(t, "a call that ignores its context stops neither the token in hand nor renewal", func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		s := &source{get: func(_ context.Context, n int, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
			if n == 2 {
				<-release
			}
			return tokenFor(n, time.Hour), nil
		}}
		c := start(t, s, Options{})
		first := mustToken(t, c)
		for c.Status().Failures == 0 {
			time.Sleep(time.Second)
		}
		if st := c.Status(); !st.Usable() || !strings.Contains(fmt.Sprint(st.Err), "did not answer within 30s") {
			t.Errorf("%+v", st)
		}
		time.Sleep(3 * time.Second)
		if st := c.Status(); st.Err != nil || st.Token == first || st.Waits != 1 {
			t.Errorf("after the next attempt: %+v", st)
		}
	})
	bubble(t, "no more than three calls hang at once", func(t *testing.T) {
		release := make(chan struct{})
		s := &source{get: func(_ context.Context, n int, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
			<-release
			return tokenFor(n, time.Hour), nil
		}}
		c := start(t, s, Options{})
		time.Sleep(time.Hour)
		if n := s.calls.Load(); n != maxStuck {
			t.Errorf("%d calls", n)
		}
		_, err := c.Token(t.Context())
		assertUnavailable(t, err, "the credential has not returned from 3 calls")
		close(release)
		synctest.Wait()
		mustToken(t, c) // from one of the calls that were given up
		if st := c.Status(); st.Err != nil {
			t.Errorf("%+v", st)
		}
		time.Sleep(40 * time.Minute)
		if n := s.calls.Load(); n != maxStuck+1 {
			t.Errorf("%d calls after it recovered", n)
		}
	})
	bubble(t, "a failure that comes after all is old news", func(t *testing.T) {
		release := make(chan struct{})
		s := &source{get: func(_ context.Context, n int, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
			if n == 2 {
				<-release
				return azcore.AccessToken{}, errDown
			}
			return tokenFor(n, time.Hour), nil
		}}
		c := start(t, s, Options{})
		time.Sleep(40 * time.Minute)
		close(release)
		synctest.Wait()
		if st := c.Status(); st.Err != nil || st.Failures != 1 || st.Renewals != 2 {
			t.Errorf("%+v", st)
		}
	})
}

func TestCancellation(t *testing.T) {
	bubble(t, "Run returns nil, and what it started is over", func(t *testing.T) {
		var returned atomic.Bool
		s := &source{get: func(ctx context.Context, _ int, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
			<-ctx.Done()
			time.Sleep(100 * time.Millisecond)
			returned.Store(true)
			return azcore.AccessToken{}, ctx.Err()
		}}
		c := New(s, Options{Scope: testScope})
		stop := runUntilCleanup(t, c)
		time.Sleep(time.Second)
		if d := took(stop); d != 100*time.Millisecond || !returned.Load() {
			t.Errorf("stopping took %v; source returned: %v", d, returned.Load())
		}
		if st := c.Status(); st.Failures != 0 || st.Err != nil {
			t.Errorf("a cancelled attempt counts as a failure: %+v", st)
		}
	})
	bubble(t, "a source that ignores its context delays Run by a second at most", func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		s := &source{get: func(context.Context, int, policy.TokenRequestOptions) (azcore.AccessToken, error) {
			<-release
			return azcore.AccessToken{}, errDown
		}}
		stop := runUntilCleanup(t, New(s, Options{Scope: testScope}))
		time.Sleep(time.Second)
		if d := took(stop); d != grace {
			t.Errorf("stopping took %v", d)
		}
	})
}

func TestOneSlowIdentityDoesNotDelayAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start(t, &source{latency: time.Hour}, Options{Identity: "slow"})
		quick := start(t, &source{}, Options{Identity: "quick"})
		if d := took(func() { mustToken(t, quick) }); d != 0 {
			t.Errorf("waited %v", d)
		}
	})
}
