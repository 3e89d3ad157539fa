package tokencache

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestRenewalStartsAtHalfLifeAndNeverAfterFiftyTwoHundredths(t *testing.T) {
	for _, life := range []time.Duration{2 * time.Second, 10 * time.Second, time.Minute, 5 * time.Minute, time.Hour, 90 * time.Minute, 24 * time.Hour} {
		if got, want := renewDelay(life, 0), life/2; got != want {
			t.Errorf("%v: without jitter %v, want %v", life, got, want)
		}
		for range 1000 {
			if d := renewDelay(life, rand.Float64()); d < life/2 || d > life*52/100 {
				t.Fatalf("%v: renewal after %v", life, d)
			}
		}
	}
}

func TestRenewalOfAnAllButExpiredTokenDoesNotSpin(t *testing.T) {
	for _, life := range []time.Duration{time.Second, time.Millisecond, 0, -time.Hour} {
		if d := renewDelay(life, 0.5); d < time.Second {
			t.Errorf("%v: renewal after %v", life, d)
		}
	}
}

func TestRetryDelay(t *testing.T) {
	const s = time.Second
	tests := []struct {
		name             string
		n                int
		remaining        time.Duration
		least, atMost    time.Duration
		underEveryJitter bool
	}{
		{name: "the first retry comes after a second", n: 1, least: s, atMost: s + s/4},
		{name: "then it doubles", n: 2, least: 2 * s, atMost: 2*s + s/2},
		{name: "and again", n: 3, least: 4 * s, atMost: 5 * s},
		{name: "the fifth", n: 5, least: 16 * s, atMost: 20 * s},
		{name: "the sixth is the last step", n: 6, least: 24 * s, atMost: 30 * s},
		{name: "the hundredth is no longer than that", n: 100, least: 24 * s, atMost: 30 * s},
		{name: "with half an hour left, nothing changes", n: 6, remaining: 30 * time.Minute, least: 24 * s, atMost: 30 * s},
		{name: "with a minute left, a quarter of it at most", n: 9, remaining: time.Minute, least: 15 * s, atMost: 15 * s},
		{name: "with four seconds left, every second", n: 9, remaining: 4 * s, least: s, atMost: s},
		{name: "with a millisecond left, not more often than that", n: 9, remaining: time.Millisecond, least: s, atMost: s},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for range 200 {
				if d := retryDelay(tt.n, tt.remaining, rand.Float64()); d < tt.least || d > tt.atMost {
					t.Fatalf("retry after %v, want %v to %v", d, tt.least, tt.atMost)
				}
			}
		})
	}
}

// With the backoff alone, a token of 10 s would see two attempts.
func TestShortTokensGetSeveralAttemptsBeforeTheyExpire(t *testing.T) {
	for life, least := range map[time.Duration]int{10 * time.Second: 3, time.Minute: 6, 5 * time.Minute: 10, time.Hour: 60} {
		attempts, failures := 0, 0
		for at := renewDelay(life, 1); at < life; at += retryDelay(failures, life-at, 1) {
			attempts++
			failures++
		}
		if attempts < least {
			t.Errorf("a token of %v: %d attempts before it expires, want %d", life, attempts, least)
		}
	}
}

func TestAttemptTimeout(t *testing.T) {
	for remaining, want := range map[time.Duration]time.Duration{
		-time.Second:     30 * time.Second,
		0:                30 * time.Second,
		time.Second:      5 * time.Second,
		13 * time.Second: 5 * time.Second,
		30 * time.Second: 10 * time.Second,
		time.Hour:        30 * time.Second,
	} {
		if got := attemptTimeout(remaining); got != want {
			t.Errorf("with %v left: %v, want %v", remaining, got, want)
		}
	}
}

func TestLimiterAllowsABurstAndOneAMinuteInTheLongRun(t *testing.T) {
	var l limiter
	var allowed []time.Time
	start := time.Now()
	for now := start; now.Before(start.Add(time.Hour)); now = now.Add(100 * time.Millisecond) {
		if l.allow(now) {
			allowed = append(allowed, now)
		}
	}
	if n := len(allowed); n < limitBurst+58 || n > limitBurst+60 {
		t.Errorf("%d in an hour of asking", n)
	}
	for i := limitBurst; i < len(allowed); i++ {
		if d := allowed[i].Sub(allowed[i-limitBurst]); d < time.Minute {
			t.Fatalf("%d within %v", limitBurst+1, d)
		}
	}
	for i := range limitBurst {
		if !l.allow(start.Add(2*time.Hour + time.Duration(i))) {
			t.Errorf("after a rest, replacement %d was refused", i+1)
		}
	}
}

func TestDeadlineInIsTheNearerClock(t *testing.T) {
	now := time.Now()
	d := deadline{wall: now.Round(0).Add(time.Minute), mono: now.Add(time.Hour)}
	if got := d.in(now); got != time.Minute {
		t.Errorf("in = %v", got)
	}
	d = deadline{wall: now.Round(0).Add(time.Hour), mono: now.Add(time.Minute)}
	if got := d.in(now); got != time.Minute {
		t.Errorf("in = %v", got)
	}
	if !(deadline{}).reached(now) || (deadline{}).in(now) > 0 {
		t.Error("the zero deadline is in the future")
	}
}
