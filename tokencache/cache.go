// Package tokencache keeps Entra access tokens so that no request waits for
// one.
//
// A [Cache] holds the current token for one identity and one scope. It has one
// writer, [Cache.Run], and any number of readers, who load an atomic pointer:
// no lock, no allocation, no network. The writer renews the token when half of
// its life is over, so Entra may be away for the other half without anybody
// noticing, and it goes on serving a token until that token's real expiry.
//
// Why not call azidentity for each request: its GetToken waits behind a mutex
// that is held over network I/O, never returns a token with less than five
// minutes left, and has no notion of a token that Azure refused.
//
// Readers are in cache.go, the writer in writer.go with its time arithmetic in
// schedule.go and its log in log.go; fetch.go is one call of azidentity,
// credentials.go says whom to call, explain.go what an error means.
package tokencache

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"go.uber.org/zap"
)

// DefaultFirstTokenTimeout bounds the wait of a caller who finds no usable token.
const DefaultFirstTokenTimeout = 10 * time.Second

var (
	// ErrNotReplaced says that there is no successor to a refused token: the
	// source failed, returned the same token again, or was asked too often.
	ErrNotReplaced = errors.New("the refused token was not replaced")

	// ErrNotRunning says that nobody runs the cache's writer.
	ErrNotRunning = errors.New("the token cache is not running")

	errRunTwice = errors.New("tokencache: Run was called a second time")
	errNoAnswer = errors.New("the credential has not answered yet")
)

// Options say what a Cache is for.
type Options struct {
	Identity string // the identity's name, for logs and metrics
	Scope    string // such as "https://cognitiveservices.azure.com/.default"

	// Logger gets a line for each change of state. Default: none.
	Logger *zap.Logger

	// FirstTokenTimeout bounds the wait of each caller who finds no usable
	// token. Default: 10 s.
	FirstTokenTimeout time.Duration
}

// A Cache keeps the token for one identity and scope. Its methods may be
// called by any number of goroutines; Run by one, once.
type Cache struct {
	identity, scope string
	cred            azcore.TokenCredential
	log             *zap.Logger
	patience        time.Duration

	state atomic.Pointer[state]
	waits atomic.Uint64

	running  atomic.Bool
	ended    chan struct{} // closed when Run has returned
	poke     chan struct{} // a reader found the token expired: look at the clock now
	refusals chan refusal
}

// A state is what readers see. It never changes: the writer publishes a
// successor and then closes changed.
type state struct {
	changed chan struct{}

	token        *Token    // the latest; possibly expired; nil before the first
	err          error     // why the last attempt failed; nil after a success
	failingSince time.Time // the first failure since the last success
	next         deadline  // the next renewal or retry
	started      time.Time // when Run began; zero before

	renewals, unchanged, failures uint64
}

// A refusal asks the writer to replace a token. The reply is its successor, or nil.
type refusal struct {
	token  *Token
	claims string
	reply  chan *Token // buffered: the writer never waits for a caller
}

// New returns a cache that is empty until Run is called. Give each cache a
// credential of its own: azidentity's credentials hold a mutex over network
// I/O, so caches that share one would wait for each other.
func New(cred azcore.TokenCredential, o Options) *Cache {
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	c := &Cache{
		identity: o.Identity,
		scope:    o.Scope,
		cred:     cred,
		log:      o.Logger.With(zap.String("identity", o.Identity), zap.String("scope", o.Scope)),
		patience: cmp.Or(o.FirstTokenTimeout, DefaultFirstTokenTimeout),
		ended:    make(chan struct{}),
		poke:     make(chan struct{}, 1),
		refusals: make(chan refusal),
	}
	c.state.Store(&state{changed: make(chan struct{})})
	return c
}

// Token returns a token that has not expired. With one in hand, as nearly
// always, it returns at once, without a lock or an allocation.
//
// Otherwise it waits as long as a fetch may still succeed: for the first token
// until FirstTokenTimeout after Run began, through failures and retries; later
// for the attempt under way, at most FirstTokenTimeout. If the source is known
// to be failing there is no wait. The error is a *[UnavailableError], or ctx's.
func (c *Cache) Token(ctx context.Context) (*Token, error) {
	if t := c.state.Load().token; t.usable(time.Now()) {
		return t, nil
	}
	c.waits.Add(1)
	return c.await(ctx)
}

func (c *Cache) await(ctx context.Context) (*Token, error) {
	c.wake()
	limit := time.Now().Add(c.patience)
	for {
		s, now := c.state.Load(), time.Now()
		if s.token.usable(now) {
			return s.token, nil
		}
		until := c.waitUntil(s, limit)
		if !now.Before(until) {
			return nil, s.unavailable(now)
		}
		if err := c.sleep(ctx, s, until.Sub(now)); err != nil {
			return nil, err
		}
	}
}

// waitUntil returns how long a caller who may wait until limit should wait for
// the successor of s: after a failure, only for the first token.
func (c *Cache) waitUntil(s *state, limit time.Time) time.Time {
	switch first := s.started.Add(c.patience); {
	case s.err == nil:
		return limit
	case s.token != nil:
		return time.Time{}
	case first.Before(limit):
		return first
	}
	return limit
}

// sleep returns nil when s has a successor or d is over.
func (c *Cache) sleep(ctx context.Context, s *state, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-s.changed:
	case <-timer.C:
	case <-c.ended:
		return &UnavailableError{Err: ErrNotRunning, RetryAfter: time.Second}
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// wake makes the writer look at the clock: after a suspension its timers are late.
func (c *Cache) wake() {
	select {
	case c.poke <- struct{}{}:
	default:
	}
}

// Refused reports that Azure answered 401 to a request that carried t, and
// returns its successor. However many requests report one token, it is
// replaced once; meanwhile other requests go on using it. claims is the decoded
// claims challenge of Azure's answer, or empty.
//
// Replacement is limited to twenty at once and, in the long run, to one a
// minute: a 401 that no token can mend (a wrong audience) must not hammer
// Entra, and since one cache serves good routes and bad ones, a request that
// succeeded proves nothing. The error is [ErrNotReplaced], or ctx's: a context
// that is done reports the refusal and does not wait.
func (c *Cache) Refused(ctx context.Context, t *Token, claims string) (*Token, error) {
	if s := c.state.Load(); !s.token.same(t) && s.token.usable(time.Now()) {
		return s.token, nil
	}
	r := refusal{token: t, claims: claims, reply: make(chan *Token, 1)}
	return c.submit(ctx, r)
}

// submit hands r to the writer, whatever became of ctx, and waits for its reply
// within patience.
func (c *Cache) submit(ctx context.Context, r refusal) (*Token, error) {
	timer := time.NewTimer(c.patience)
	defer timer.Stop()
	select {
	case c.refusals <- r: // at once while Run runs: the writer waits for nothing else
	case <-timer.C:
		return nil, ErrNotReplaced
	case <-c.ended:
		return nil, ErrNotReplaced
	}
	select {
	case successor := <-r.reply:
		if successor == nil {
			return nil, ErrNotReplaced
		}
		return successor, nil
	case <-timer.C:
		return nil, ErrNotReplaced
	case <-c.ended:
		return nil, ErrNotReplaced
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Status is a snapshot of a cache, for people and programs.
type Status struct {
	Identity, Scope string
	Source          string // the credential that answers, such as "ManagedIdentityCredential"

	Token        *Token    // the latest, possibly expired; nil if there was none yet
	RenewAt      time.Time // when it is renewed, or the next attempt made; zero before Run
	FailingSince time.Time // the first failure since the last success; zero if none
	Err          error     // the latest failure since the last success; one line, no secrets

	Waits     uint64 // callers of Token who found no usable token
	Renewals  uint64 // new tokens, the first one included
	Unchanged uint64 // attempts that returned the token already held
	Failures  uint64 // attempts that returned no token
}

// Usable reports whether requests are served now.
func (s Status) Usable() bool { return s.Token.usable(time.Now()) }

// Status returns a snapshot.
func (c *Cache) Status() Status {
	s := c.state.Load()
	return Status{
		Identity: c.identity, Scope: c.scope, Source: sourceOf(c.cred),
		Token: s.token, RenewAt: s.next.wall, FailingSince: s.failingSince, Err: s.err,
		Waits: c.waits.Load(), Renewals: s.renewals, Unchanged: s.unchanged, Failures: s.failures,
	}
}

// An UnavailableError says that there is no usable token, and why.
type UnavailableError struct {
	Err        error         // one line without secrets; Explain tells more
	RetryAfter time.Duration // until the next attempt; at least 1 s
}

func (e *UnavailableError) Error() string { return "no usable token: " + e.Err.Error() }

func (e *UnavailableError) Unwrap() error { return e.Err }

func (s *state) unavailable(now time.Time) error {
	err := s.err
	switch {
	case s.started.IsZero():
		err = ErrNotRunning
	case err == nil:
		err = errNoAnswer
	}
	return &UnavailableError{Err: err, RetryAfter: max(s.next.in(now), time.Second)}
}
