package tokencache

import "time"

const (
	// heartbeat bounds the writer's sleep. Timers run on the monotonic clock,
	// which a suspended machine stops and a stepped wall clock ignores.
	heartbeat = 30 * time.Second

	// fetchTimeout bounds one attempt. azidentity on its own would try a black
	// hole for five minutes.
	fetchTimeout = 30 * time.Second

	// minFetchTimeout is what an attempt gets even when the token is about to expire.
	minFetchTimeout = 5 * time.Second

	// grace is how long after its deadline an attempt may return before it is
	// given up as stuck.
	grace = time.Second

	// maxStuck bounds the attempts that were given up and still have not
	// returned. A source with so many is not called again before one of them
	// returns: most likely it holds a lock, and each call would add a goroutine.
	maxStuck = 3

	minDelay = time.Second      // the first backoff, and the least time between two fetches
	maxDelay = 24 * time.Second // the last backoff; with its jitter, 30 s
)

// renewDelay returns when to renew a token that lives for life: at its half,
// plus a fiftieth of the life at most. random is in [0,1). The jitter spreads
// the replicas of a deployment, for which a minute in an hour is plenty; more
// of it would only be taken from the outage that the token can bridge.
func renewDelay(life time.Duration, random float64) time.Duration {
	return max(life/2+fraction(life/50, random), minDelay)
}

// retryDelay returns how long to wait after the nth failure in a row (from 1):
// 1 s, 2 s, 4 s … 24 s, plus at most a quarter, so never beyond 30 s. While a
// token is still usable, for remaining, no delay eats more than a quarter of
// that: a source that comes back is noticed before the token expires.
func retryDelay(n int, remaining time.Duration, random float64) time.Duration {
	d := maxDelay
	if n < 6 {
		d = min(minDelay<<(n-1), maxDelay)
	}
	d += fraction(d/4, random)
	if remaining > 0 {
		d = min(d, max(remaining/4, minDelay))
	}
	return d
}

// attemptTimeout returns the deadline of an attempt when the current token is
// usable for remaining (not positive: it is not). A source that hangs must not
// use up the rest of a short token's life with one attempt.
func attemptTimeout(remaining time.Duration) time.Duration {
	if remaining <= 0 {
		return fetchTimeout
	}
	return min(max(remaining/3, minFetchTimeout), fetchTimeout)
}

func fraction(d time.Duration, random float64) time.Duration {
	return time.Duration(random * float64(d))
}

// A limiter allows twenty events at once and then one a minute. Its value is
// the moment at which all twenty are available again.
type limiter struct{ full time.Time }

const (
	limitBurst    = 20
	limitInterval = time.Minute
)

// allow reports whether an event may happen now, and counts it if so.
func (l *limiter) allow(now time.Time) bool {
	full := l.full
	if full.Before(now) {
		full = now
	}
	if full.Sub(now) > (limitBurst-1)*limitInterval {
		return false
	}
	l.full = full.Add(limitInterval)
	return true
}
