package tokencache

import "go.uber.org/zap"

// An AzureLog receives azidentity's log.
type AzureLog struct{ log *zap.Logger }

// ListenAzure sends azidentity's log to logger, at debug level and redacted.
func ListenAzure(logger *zap.Logger) *AzureLog { return &AzureLog{log: logger} }
