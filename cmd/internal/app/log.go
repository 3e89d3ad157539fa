package app

import (
	"bytes"
	"io"
	"log"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"entra-sidecar/config"
)

// newLogger writes to w: JSON for machines, console text for a person at a
// terminal, unless the configuration says which.
func newLogger(c config.Log, w io.Writer) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(c.Level)
	if err != nil {
		return nil, err
	}
	encoding := zap.NewProductionEncoderConfig()
	encoding.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	encoding.EncodeDuration = zapcore.SecondsDurationEncoder
	encoder := zapcore.NewJSONEncoder(encoding)
	if c.Format == "console" || c.Format == "" && isTerminal(w) {
		encoding.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		encoding.EncodeDuration = zapcore.StringDurationEncoder
		encoding.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(encoding)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), level)), nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// quietLog passes on what net/http has to say: its complaints about clients at
// debug level, a panic of ours as the error that it is.
func quietLog(l *zap.Logger) *log.Logger { return log.New(serverLog{l}, "", 0) }

type serverLog struct{ *zap.Logger }

// Write implements [io.Writer]; net/http writes one message at a time.
func (l serverLog) Write(p []byte) (int, error) {
	level := zap.DebugLevel
	if bytes.Contains(p, []byte("panic")) {
		level = zap.ErrorLevel
	}
	l.Log(level, string(bytes.TrimSpace(p)))
	return len(p), nil
}
