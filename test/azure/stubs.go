package azure

import (
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"net/http"
)

type ephemeralKeys struct{}

func (ephemeralKeys) valid(string) bool { return false }

type store struct{}

func (r *Resource) validate() error              { return nil }
func (e *Emulator) controlHandler() http.Handler { return http.NotFoundHandler() }

const logLevel = zapcore.DebugLevel

func logFields(rec *record) []zap.Field { return nil }
