package tokencache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// The headline promise: after the first token, no request waits.
func TestAWeekWithoutOneWait(t *testing.T) {
	for _, life := range []time.Duration{time.Hour, 24 * time.Hour} {
		bubble(t, fmt.Sprintf("tokens of %v", life), func(t *testing.T) {
			s := &source{life: life, latency: 900 * time.Millisecond}
			c := start(t, s, Options{})
			mustToken(t, c)
			const week = 7 * 24 * time.Hour
			readFor(t, c, week, time.Second, 7*time.Second)
			st := c.Status()
			if st.Waits != 1 || st.Failures != 0 {
				t.Errorf("%d waits, %d failures", st.Waits, st.Failures)
			}
			if n, least, most := time.Duration(st.Renewals), week/(life*52/100), week/(life/2)+1; n < least || n > most {
				t.Errorf("%d renewals, want %d to %d", n, least, most)
			}
		})
	}
}

// readFor takes a token at each of the intervals and fails the test if one
// took any time, failed or had expired.
func readFor(t *testing.T, c *Cache, d time.Duration, every ...time.Duration) {
	var wg sync.WaitGroup
	for _, interval := range every {
		wg.Go(func() {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(interval) {
				now := time.Now()
				token, err := c.Token(t.Context())
				if err != nil || time.Now() != now || !now.Before(token.ExpiresOn()) {
					t.Errorf("at %v: token %v, error %v, after %v", now, token, err, time.Since(now))
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestShortTokensAreRenewedInTime(t *testing.T) {
	for _, life := range []time.Duration{10 * time.Second, time.Minute} {
		bubble(t, fmt.Sprintf("tokens of %v, each second fetch failing", life), func(t *testing.T) {
			s := &source{get: func(_ context.Context, n int, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
				time.Sleep(500 * time.Millisecond)
				if n%2 == 0 {
					return azcore.AccessToken{}, errDown
				}
				return tokenFor(n, life), nil
			}}
			c := start(t, s, Options{})
			mustToken(t, c)
			readFor(t, c, time.Hour, 50*time.Millisecond)
			if st := c.Status(); st.Waits != 1 {
				t.Errorf("%d waits", st.Waits)
			}
		})
	}
}

func TestShortTokensSurviveASourceThatHangsEveryOtherTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{get: func(ctx context.Context, n int, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
			if n%2 == 0 {
				<-ctx.Done()
				return azcore.AccessToken{}, ctx.Err()
			}
			return tokenFor(n, 30*time.Second), nil
		}}
		c := start(t, s, Options{})
		mustToken(t, c)
		readFor(t, c, time.Hour, 100*time.Millisecond)
	})
}

// A token of one hour is renewed in the 31st or 32nd minute, so that any outage
// of 28 minutes and a half goes unnoticed.
func TestOutages(t *testing.T) {
	const life = time.Hour
	for _, begin := range []time.Duration{time.Second, 20 * time.Minute, 29*time.Minute + 59*time.Second, 33 * time.Minute, 50 * time.Minute, 58 * time.Minute} {
		for _, length := range []time.Duration{time.Second, time.Minute, 9 * time.Minute, 23 * time.Minute, 28*time.Minute + 30*time.Second, 35 * time.Minute, time.Hour, 3 * time.Hour} {
			for _, hanging := range []bool{false, true} {
				name := fmt.Sprintf("from %v for %v, hanging: %v", begin, length, hanging)
				bubble(t, name, func(t *testing.T) { simulateOutage(t, life, begin, length, hanging) })
			}
		}
	}
}

func simulateOutage(t *testing.T, life, begin, length time.Duration, hanging bool) {
	zero := time.Now()
	down := func() bool { since := time.Since(zero); return since >= begin && since < begin+length }
	s := &source{get: func(ctx context.Context, n int, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
		if down() && hanging {
			<-ctx.Done()
		}
		if down() || ctx.Err() != nil {
			return azcore.AccessToken{}, errDown
		}
		return tokenFor(n, life), nil
	}}
	c := start(t, s, Options{})
	mustToken(t, c)
	var lastGood time.Time // expiry of the latest token seen
	failed := 0
	for time.Since(zero) < begin+length+2*life {
		now := time.Now()
		token, err := c.Token(t.Context())
		switch {
		case err != nil:
			failed++
			if now.Before(lastGood) {
				t.Fatalf("%v: failed though the token lives until %v: %v", now.Sub(zero), lastGood.Sub(zero), err)
			}
			// The longest backoff, after the longest attempt if it hangs.
			if recovery := begin + length + maxDelay*5/4 + fetchTimeout; now.Sub(zero) > recovery {
				t.Fatalf("%v: still failing: %v", now.Sub(zero), err)
			}
		case !now.Before(token.ExpiresOn()):
			t.Fatalf("%v: an expired token", now.Sub(zero))
		default:
			lastGood = token.ExpiresOn()
		}
		if waited := time.Since(now); waited != 0 {
			t.Fatalf("%v: a request waited %v", now.Sub(zero), waited)
		}
		time.Sleep(2 * time.Second)
	}
	if bridged := 28*time.Minute + 30*time.Second; length <= bridged && failed > 0 {
		t.Errorf("%d requests failed in an outage of %v", failed, length)
	}
}

// Whatever the source does, no expired token is ever returned, and every
// failure is one of ours.
func TestARandomSourceNeverMakesTheCacheServeAnExpiredToken(t *testing.T) {
	for seed := range uint64(20) {
		bubble(t, fmt.Sprint("seed ", seed), func(t *testing.T) {
			var mu sync.Mutex
			random := rand.New(rand.NewPCG(seed, 1))
			pick := func(n int) int { mu.Lock(); defer mu.Unlock(); return random.IntN(n) }
			s := &source{get: func(ctx context.Context, n int, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
				time.Sleep(time.Duration(pick(3000)) * time.Millisecond)
				switch pick(6) {
				case 0:
					return azcore.AccessToken{}, errDown
				case 1:
					<-ctx.Done()
					return azcore.AccessToken{}, ctx.Err()
				case 2:
					time.Sleep(time.Duration(pick(90)) * time.Second) // ignores its context
				case 3:
					return azcore.AccessToken{}, nil
				}
				return tokenFor(n, time.Duration(1+pick(300))*time.Second), nil
			}}
			t.Cleanup(func() { time.Sleep(2 * time.Minute) }) // until the last stuck call has returned
			c := start(t, s, Options{FirstTokenTimeout: 5 * time.Second})
			for i := range 10_000 {
				before := time.Now()
				token, err := c.Token(t.Context())
				if _, ours := errors.AsType[*UnavailableError](err); err != nil && !ours {
					t.Fatal(err)
				}
				if err == nil && !time.Now().Before(token.ExpiresOn()) {
					t.Fatal("an expired token")
				}
				if d := time.Since(before); d > 5*time.Second {
					t.Fatalf("waited %v", d)
				}
				if i%50 == 0 && err == nil {
					_, _ = c.Refused(t.Context(), token, "")
				}
				time.Sleep(time.Duration(pick(1000)) * time.Millisecond)
			}
		})
	}
}

// pretendSuspended changes the cache's state as a suspension of d would have
// left it: the wall clock went on while the monotonic clock stood still.
func pretendSuspended(c *Cache, d time.Duration) {
	s := *c.state.Load()
	token := *s.token
	token.expires.wall = token.expires.wall.Add(-d)
	s.token = &token
	s.next.wall = s.next.wall.Add(-d)
	c.state.Store(&s)
}

func TestASuspendedMachineRecovers(t *testing.T) {
	bubble(t, "the first caller wakes the writer and waits for one fetch only", func(t *testing.T) {
		s := &source{latency: 200 * time.Millisecond}
		c := start(t, s, Options{})
		mustToken(t, c)
		time.Sleep(time.Minute + time.Second)
		pretendSuspended(c, 8*time.Hour)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if d := took(func() { mustToken(t, c) }); d != 200*time.Millisecond {
					t.Errorf("waited %v", d)
				}
			})
		}
		wg.Wait()
		if n := s.calls.Load(); n != 2 {
			t.Errorf("%d fetches", n)
		}
	})
	bubble(t, "with no caller the writer notices within half a minute", func(t *testing.T) {
		c := start(t, &source{}, Options{})
		mustToken(t, c)
		time.Sleep(time.Minute + time.Second)
		pretendSuspended(c, 8*time.Hour)
		time.Sleep(heartbeat)
		if st := c.Status(); !st.Usable() || st.Renewals != 2 {
			t.Errorf("%+v", st)
		}
	})
}
