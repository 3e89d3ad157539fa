package tokencache

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"
)

// A writer is the one goroutine that changes a cache's state. It never does
// I/O itself: attempts run in goroutines of their own, so that a credential
// that hangs, or ignores its context, stops neither renewal nor callers.
type writer struct {
	*Cache

	attempt *attempt    // the one under way; nil if none
	results chan result // from attempts, those given up included
	stuck   int         // attempts given up that have not returned

	failed  int       // failures in a row
	expired bool      // the expiry of the current token has been logged
	limit   limiter   // of replacements
	waiting []refusal // for the attempt under way
	held    []refusal // for the one after it, since it needs other claims
}

type attempt struct {
	claims  string
	timeout time.Duration
	giveUp  time.Time
}

type result struct {
	attempt *attempt
	token   *Token
	err     error
}

// Run keeps the token fresh until ctx is done, and then returns nil. It may be
// called once. Tokens are served until Run returns, and the last one until it
// expires.
func (c *Cache) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return errRunTwice
	}
	w := &writer{Cache: c, results: make(chan result, maxStuck+1)}
	w.publish(func(s *state) { s.started = time.Now() })
	defer w.end()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-w.results:
			w.finish(r)
		case r := <-w.refusals:
			w.refuse(ctx, r)
		case <-w.poke:
		case <-timer.C:
		}
		timer.Reset(w.step(ctx))
	}
}

// publish makes a changed copy of the state current and wakes those who wait.
func (w *writer) publish(change func(*state)) {
	old := w.state.Load()
	s := *old
	s.changed = make(chan struct{})
	change(&s)
	w.state.Store(&s)
	close(old.changed)
}

// step does what the clocks say is due and returns how long to sleep.
func (w *writer) step(ctx context.Context) time.Duration {
	now := time.Now()
	w.noteExpiry(now)
	if w.attempt != nil && !now.Before(w.attempt.giveUp) {
		w.giveUp()
	}
	if w.attempt == nil && w.state.Load().next.reached(now) {
		w.start(ctx, w.renewalClaims())
	}
	return w.sleepFor(now)
}

func (w *writer) sleepFor(now time.Time) time.Duration {
	s, d := w.state.Load(), heartbeat
	if w.attempt != nil {
		d = min(d, w.attempt.giveUp.Sub(now))
	} else {
		d = min(d, s.next.in(now))
	}
	if s.token != nil && !w.expired {
		d = min(d, s.token.expires.in(now))
	}
	return max(d, time.Millisecond) // a timer may fire a little before a deadline on the other clock
}

// renewalClaims are empty for the first token: what another instance left in
// the source's cache is welcome then.
func (w *writer) renewalClaims() string {
	if w.state.Load().token == nil {
		return ""
	}
	return forced
}

// start begins an attempt, or counts a failure when too many are stuck.
func (w *writer) start(ctx context.Context, claims string) {
	if w.stuck >= maxStuck {
		w.fail(fmt.Errorf("the credential has not returned from %d calls", w.stuck))
		return
	}
	now := time.Now()
	timeout := attemptTimeout(w.remaining(now))
	a := &attempt{claims: claims, timeout: timeout, giveUp: now.Add(timeout + grace)}
	w.attempt = a
	go func() {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		t, err := fetch(ctx, w.cred, w.scope, claims)
		w.results <- result{attempt: a, token: t, err: err} // buffered for all that can be under way
	}()
}

// giveUp stops waiting for the attempt under way, which ignored its deadline.
func (w *writer) giveUp() {
	timeout := w.attempt.timeout
	w.attempt = nil
	w.stuck++
	w.fail(fmt.Errorf("the credential did not answer within %s", timeout.Round(time.Second)))
	w.answer()
}

// finish takes an attempt's result. One that was given up may still bring a
// token; its error is old news.
func (w *writer) finish(r result) {
	if r.attempt != w.attempt {
		w.stuck--
		if cur := w.state.Load().token; r.err != nil || cur != nil && !cur.ExpiresOn().Before(r.token.ExpiresOn()) {
			return
		}
		w.succeed(r.token)
		return
	}
	w.attempt = nil
	if r.err != nil {
		w.fail(r.err)
	} else {
		w.succeed(r.token)
	}
	w.answer()
}

// succeed publishes t, or notes that the source returned the token we hold.
func (w *writer) succeed(t *Token) {
	now, old := time.Now(), w.state.Load()
	unchanged := old.token.same(t)
	if unchanged && !old.token.ExpiresOn().Before(t.ExpiresOn()) {
		t = old.token
	}
	w.failed = 0
	w.publish(func(s *state) {
		s.token, s.err, s.failingSince = t, nil, time.Time{}
		s.next = after(now, renewDelay(t.expires.in(now), rand.Float64()))
		if unchanged {
			s.unchanged++
		} else {
			s.renewals++
		}
	})
	w.logSuccess(old, t, now)
	w.expired = false
}

// fail publishes err and when to try again.
func (w *writer) fail(err error) {
	now, old := time.Now(), w.state.Load()
	w.failed++
	// Now and here: the text of an azidentity error is read from its HTTP
	// response, which is neither safe for concurrent use nor free of secrets.
	err = newFailure(err)
	delay := retryDelay(w.failed, w.remaining(now), rand.Float64())
	w.publish(func(s *state) {
		s.err = err
		s.failures++
		s.next = after(now, delay)
		if s.failingSince.IsZero() {
			s.failingSince = now
		}
	})
	w.logFailure(old, err, delay, now)
}

// remaining returns how long the current token is still usable; not positive if it is not.
func (w *writer) remaining(now time.Time) time.Duration {
	if t := w.state.Load().token; t != nil {
		return t.expires.in(now)
	}
	return 0
}

// refuse has a refused token replaced, unless it is already or may not be.
func (w *writer) refuse(ctx context.Context, r refusal) {
	now, cur := time.Now(), w.state.Load().token
	switch {
	case !cur.same(r.token) && cur.usable(now):
		r.reply <- cur
	case w.attempt != nil && (r.claims == "" || r.claims == w.attempt.claims):
		w.waiting = append(w.waiting, r)
	case w.attempt != nil:
		w.held = append(w.held, r)
	default:
		w.replace(ctx, r)
	}
}

func (w *writer) replace(ctx context.Context, r refusal) {
	if !w.limit.allow(time.Now()) {
		r.reply <- nil
		return
	}
	claims := r.claims
	if claims == "" {
		claims = forced
	}
	w.waiting = append(w.waiting, r)
	w.start(ctx, claims)
	if w.attempt == nil { // too many are stuck
		w.answer()
	}
}

// answer replies to those who waited for the attempt that has just ended.
func (w *writer) answer() {
	cur, now := w.state.Load().token, time.Now()
	for _, r := range w.waiting {
		if cur.same(r.token) || !cur.usable(now) {
			r.reply <- nil
		} else {
			r.reply <- cur
		}
	}
	w.waiting = nil
}

// end lets the attempts, whose context is done, return: callers of Run may
// rely on nothing running any more, unless the credential ignores its context.
func (w *writer) end() {
	close(w.ended)
	timeout := time.After(grace)
	for n := w.stuck; n > 0 || w.attempt != nil; {
		select {
		case r := <-w.results:
			if r.attempt == w.attempt {
				w.attempt = nil
			} else {
				n--
			}
		case <-timeout:
			return
		}
	}
}

// noteExpiry logs, once, that the current token expired with no successor.
func (w *writer) noteExpiry(now time.Time) {
	s := w.state.Load()
	if w.expired || s.token == nil || s.token.usable(now) {
		return
	}
	w.expired = true
	w.log.Error("token expired without a successor: requests fail until the next one",
		zap.Time("expired", s.token.ExpiresOn()), zap.Error(s.err))
}

func (w *writer) logSuccess(old *state, t *Token, now time.Time) {
	fields := []zap.Field{zap.Time("expires", t.ExpiresOn()), zap.Time("renew_at", w.state.Load().next.wall), zap.String("source", sourceOf(w.cred))}
	switch {
	case old.err != nil && old.token != nil:
		w.log.Info("token renewal recovered", append(fields, zap.Duration("outage", now.Sub(old.failingSince)))...)
	case old.token == nil:
		w.log.Info("token obtained", fields...)
	default:
		w.log.Debug("token renewed", fields...)
	}
}

func (w *writer) logFailure(old *state, err error, delay time.Duration, now time.Time) {
	fields := []zap.Field{zap.Error(err), zap.Duration("retry_in", delay)}
	switch {
	case old.err != nil:
		w.log.Debug("token still not renewed", append(fields, zap.Duration("failing_for", now.Sub(old.failingSince)))...)
	case old.token.usable(now):
		w.log.Warn("token renewal failing", append(fields, zap.Time("serving_until", old.token.ExpiresOn()))...)
	default:
		w.log.Error("no token", fields...)
	}
}
