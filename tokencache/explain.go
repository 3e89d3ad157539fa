package tokencache

// A SourceFailure says why one source of a credential gave no token.
type SourceFailure struct {
	Source string // such as "ManagedIdentityCredential"; empty if unknown
	Reason string // one line, no secrets
	AADSTS string // Entra's error number without its prefix, such as "700213"; empty if none
}

// Explain returns why a token was not obtained, source by source in the order
// in which they were tried. It takes errors of azidentity and of this package.
func Explain(err error) []SourceFailure { return newFailure(err).sources }

// Describe returns the same in one line.
func Describe(err error) string { return newFailure(err).Error() }

// A failure is an error reduced to what may be shown.
type failure struct{ sources []SourceFailure }

func newFailure(err error) *failure {
	return &failure{sources: []SourceFailure{{Reason: "TODO"}}}
}

func (f *failure) Error() string { return f.sources[0].Reason }
