package tokencache

import (
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// The writer's log. Above debug level there is one line for each change of
// state, so that a quiet log means a quiet cache.

func (w *writer) logSuccess(old *state, t *Token, now time.Time) {
	level, message := zapcore.DebugLevel, "token renewed"
	switch {
	case old.token == nil:
		level, message = zapcore.InfoLevel, "token obtained"
	case old.err != nil || w.expired:
		level, message = zapcore.InfoLevel, "token renewal recovered"
	case old.token.same(t):
		message = "token unchanged"
	}
	ce := w.log.Check(level, message)
	if ce == nil {
		return
	}
	fields := []zap.Field{
		zap.String("source", sourceOf(w.cred)),
		zap.Time("expires", t.ExpiresOn()),
		zap.Time("renew_at", w.state.Load().next.wall),
	}
	if old.err != nil {
		fields = append(fields, zap.Duration("outage", now.Sub(old.failingSince).Round(time.Millisecond)))
	}
	ce.Write(fields...)
}

func (w *writer) logFailure(old *state, err error, delay time.Duration, now time.Time) {
	fields := []zap.Field{zap.Error(err), zap.Duration("retry_in", delay.Round(time.Millisecond))}
	switch {
	case old.err != nil:
		w.log.Debug("still no new token", append(fields, zap.Time("failing_since", old.failingSince))...)
	case old.token.usable(now):
		w.log.Warn("token renewal failing", append(fields, zap.Time("serving_until", old.token.ExpiresOn()))...)
	default:
		w.log.Error("no token", fields...)
	}
}

// noteExpiry logs, once, that the token expired before it had a successor.
func (w *writer) noteExpiry(now time.Time) {
	s := w.state.Load()
	if w.expired || s.token == nil || s.token.usable(now) {
		return
	}
	w.expired = true
	expired := zap.Time("expired", s.token.ExpiresOn())
	if s.err != nil {
		w.log.Error("token expired: requests fail until there is a new one", expired, zap.Error(s.err))
	} else {
		w.log.Warn("token expired: the machine was suspended or its clock was set", expired)
	}
}

func (w *writer) logLimited() {
	if !w.limited {
		w.limited = true
		w.log.Warn("Azure refuses fresh tokens too: replacing at most one a minute from now on")
	}
}
