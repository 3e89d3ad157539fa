package tokencache

import (
	"strings"
	"sync/atomic"

	azlog "github.com/Azure/azure-sdk-for-go/sdk/azcore/log"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"go.uber.org/zap"
)

// An AzureLog receives what azidentity logs.
type AzureLog struct {
	log    *zap.Logger
	source atomic.Pointer[string]
}

// ListenAzure sends azidentity's log to logger at debug level, in single lines
// without secrets or HTTP bodies. Call it at most once, before any credential
// is made: the listener is azcore's and process-wide.
func ListenAzure(logger *zap.Logger) *AzureLog {
	l := &AzureLog{log: logger}
	azlog.SetEvents(azidentity.EventAuthentication, azlog.EventRetryPolicy)
	azlog.SetListener(l.event)
	return l
}

const chosen = "DefaultAzureCredential authenticated with "

func (l *AzureLog) event(event azlog.Event, message string) {
	if source, found := strings.CutPrefix(message, chosen); found {
		l.source.Store(&source)
	}
	if ce := l.log.Check(zap.DebugLevel, "azidentity"); ce != nil {
		ce.Write(zap.String("event", string(event)), zap.String("message", oneLine(message)))
	}
}

// defaultSource returns the source that DefaultAzureCredential chose, if any.
// The log does not say for which identity; but the choice follows from the
// environment, which all identities of a process share.
func (l *AzureLog) defaultSource() string {
	if l == nil || l.source.Load() == nil {
		return ""
	}
	return *l.source.Load()
}
