package tokencache

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
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
	limited bool      // that refused tokens are not replaced has been logged
	limit   limiter   // of replacements
	waiting []refusal // for the attempt under way
	held    []refusal // for the one after it, since they need other claims
}

type attempt struct {
	claims  string
	timeout time.Duration
	giveUp  deadline
	cancel  context.CancelFunc
}

type result struct {
	attempt *attempt
	token   *Token
	err     error
}

// Run keeps the token fresh until ctx is done, and then returns nil. It may be
// called once. The last token is served until it expires, Run or not.
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
			w.finish(ctx, r)
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
	if w.attempt != nil && w.attempt.giveUp.reached(now) {
		w.giveUp()
	}
	if w.attempt == nil {
		w.startHeld(ctx)
	}
	if w.attempt == nil && w.state.Load().next.reached(now) {
		w.start(ctx, w.renewalClaims())
	}
	return w.sleepFor(now)
}

func (w *writer) sleepFor(now time.Time) time.Duration {
	s := w.state.Load()
	due := s.next
	if w.attempt != nil {
		due = w.attempt.giveUp
	}
	d := min(heartbeat, due.in(now))
	if s.token != nil && !w.expired {
		d = min(d, s.token.expires.in(now))
	}
	// Should the clocks disagree about whether something is due, do not spin.
	return max(d, time.Millisecond)
}

// renewalClaims are empty for the first token: what is left in the source's
// own cache is welcome then.
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
	ctx, cancel := context.WithTimeout(ctx, timeout)
	a := &attempt{claims: claims, timeout: timeout, giveUp: after(now, timeout+grace), cancel: cancel}
	w.attempt = a
	go func() {
		defer cancel()
		t, err := fetch(ctx, w.cred, w.scope, claims)
		w.results <- result{attempt: a, token: t, err: err} // has room for all that can be under way
	}()
}

// giveUp stops waiting for the attempt under way, which ignored its deadline
// or slept through it with the machine.
func (w *writer) giveUp() {
	a := w.attempt
	a.cancel()
	w.attempt = nil
	w.stuck++
	w.fail(fmt.Errorf("the credential did not answer within %s", a.timeout.Round(time.Second)))
	w.answer()
}

// finish takes an attempt's result.
func (w *writer) finish(ctx context.Context, r result) {
	late := r.attempt != w.attempt
	if late {
		w.stuck--
	} else {
		w.attempt = nil
	}
	switch {
	case ctx.Err() != nil: // stopping: a cancelled attempt is no failure
	case late:
		w.salvage(r)
	case r.err != nil:
		w.fail(r.err)
		w.answer()
	default:
		w.succeed(r.token)
		w.answer()
	}
}

// salvage takes a token that came after all from an attempt that was given up;
// its error would be old news.
func (w *writer) salvage(r result) {
	cur := w.state.Load().token
	if r.err == nil && (cur == nil || cur.ExpiresOn().Before(r.token.ExpiresOn())) {
		w.succeed(r.token)
	}
}

// succeed publishes t, or notes that the source returned the token we hold.
func (w *writer) succeed(t *Token) {
	now, old := time.Now(), w.state.Load()
	unchanged := old.token.same(t)
	w.publish(func(s *state) {
		s.token, s.err, s.failingSince = t, nil, time.Time{}
		// For the same token again, this is half of what remains of its life.
		s.next = after(now, renewDelay(t.expires.in(now), rand.Float64()))
		if unchanged {
			s.unchanged++
		} else {
			s.renewals++
		}
	})
	w.logSuccess(old, t, now)
	w.failed, w.expired = 0, false
}

// fail publishes err and when to try again.
func (w *writer) fail(err error) {
	now, old := time.Now(), w.state.Load()
	w.failed++
	// Now and here: the text of an azidentity error is read from its HTTP
	// response, which is neither safe for concurrent use nor free of secrets.
	f := newFailure(err)
	delay := retryDelay(w.failed, w.remaining(now), rand.Float64())
	w.publish(func(s *state) {
		s.err = f
		s.failures++
		s.next = after(now, delay)
		if s.failingSince.IsZero() {
			s.failingSince = now
		}
	})
	w.logFailure(old, f, delay, now)
}

// remaining returns how long the current token is still usable; not positive
// if it is not, or there is none.
func (w *writer) remaining(now time.Time) time.Duration {
	if t := w.state.Load().token; t != nil {
		return t.expires.in(now)
	}
	return 0
}

// refuse has a refused token replaced, unless it was already.
func (w *writer) refuse(ctx context.Context, r refusal) {
	if cur := w.state.Load().token; !cur.same(r.token) && cur.usable(time.Now()) {
		r.reply <- cur
		return
	}
	w.enlist(ctx, r)
}

// enlist lets r wait for the attempt under way if that serves it, else for one
// of its own.
func (w *writer) enlist(ctx context.Context, r refusal) {
	switch {
	case w.attempt == nil:
		w.replace(ctx, r)
	case r.claims == "" || r.claims == w.attempt.claims:
		w.waiting = append(w.waiting, r)
	default:
		w.held = append(w.held, r)
	}
}

func (w *writer) startHeld(ctx context.Context) {
	held := w.held
	w.held = nil
	for _, r := range held {
		w.enlist(ctx, r)
	}
}

// replace begins an attempt for r, if replacing is not at its limit.
func (w *writer) replace(ctx context.Context, r refusal) {
	if !w.limit.allow(time.Now()) {
		w.logLimited()
		r.reply <- nil
		return
	}
	w.limited = false
	w.log.Info("Azure refused the token: replacing it")
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

// end gives the attempts, whose context is done, a moment to return: after Run
// nothing runs any more, unless a credential ignores its context.
func (w *writer) end() {
	close(w.ended)
	timeout := time.After(grace)
	for w.stuck > 0 || w.attempt != nil {
		select {
		case r := <-w.results:
			if r.attempt == w.attempt {
				w.attempt = nil
			} else {
				w.stuck--
			}
		case <-timeout:
			return
		}
	}
}
