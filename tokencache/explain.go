package tokencache

import (
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"golang.org/x/net/http/httpproxy"
)

// A SourceFailure says why one source of a credential gave no token.
type SourceFailure struct {
	Source string // such as "ManagedIdentityCredential"; empty if unknown
	Reason string // one line, no secrets
	AADSTS string // Entra's error number without its prefix, such as "700213"; empty if none
}

func (f SourceFailure) String() string {
	if f.Source == "" {
		return f.Reason
	}
	return f.Source + ": " + f.Reason
}

// Explain returns why a token was not obtained, source by source in the order
// in which they were tried. It takes errors of azidentity and of this package.
//
// azidentity offers nothing but text for this: types for the sources' errors
// are not exported, and DefaultAzureCredential joins their messages.
func Explain(err error) []SourceFailure {
	if err == nil {
		return nil
	}
	return newFailure(err).sources
}

// Describe returns in one line why a token was not obtained: the source that
// ended the search or, if each was passed over, all of them.
func Describe(err error) string {
	if err == nil {
		return ""
	}
	return newFailure(err).Error()
}

// A failure is an error reduced to what may be shown. It does not wrap the
// original, whose text holds whole HTTP answers.
type failure struct {
	sources  []SourceFailure
	decisive bool // the last source failed, rather than not being set up
}

func newFailure(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	_, failed := errors.AsType[*azidentity.AuthenticationFailedError](err)
	return &failure{sources: parse(err.Error(), false), decisive: failed}
}

func (f *failure) Error() string {
	if f.decisive {
		return f.sources[len(f.sources)-1].String()
	}
	var all []string
	for _, s := range f.sources {
		all = append(all, s.String())
	}
	return strings.Join(all, "; ")
}

const chainHead = ": failed to acquire a token.\nAttempted credentials:\n\t"

// parse takes apart the message of a ChainedTokenCredential, in which each
// source's message begins after "\n\t" and continues after "\n\t\t". A source
// may be a chain itself. Other messages have one source.
func parse(text string, chained bool) []SourceFailure {
	_, list, found := strings.Cut(text, chainHead)
	if !found {
		f := parseSource(text)
		f.Reason += environmentHint(f.Source, chained)
		return []SourceFailure{f}
	}
	var all []SourceFailure
	list = strings.ReplaceAll(list, "\n\t\t", "\r")
	for message := range strings.SplitSeq(list, "\n\t") {
		all = append(all, parse(strings.ReplaceAll(message, "\r", "\n"), true)...)
	}
	return all
}

var (
	sourceName = regexp.MustCompile(`^(\w+Credential)(?:\.GetToken\(\))?(?:: | authentication failed\. ?)`)
	answer     = regexp.MustCompile(`(?s)RESPONSE \d+: ([^\n]*)\n-{20,}\n(.*?)\n-{20,}`)
	aadsts     = regexp.MustCompile(`AADSTS(\d{4,})`)
	request    = regexp.MustCompile(`(?:Get|Post) "https?://([^/\s"?]+)[^"]*": `)
	layers     = regexp.MustCompile(`(?:unable to resolve an endpoint|server response error): `)
	advice     = regexp.MustCompile(`\.? *(?:To troubleshoot, visit|See) https://\S+.*`)
	blank      = regexp.MustCompile(`\s+`)
)

// maxReason keeps a stray HTML page out of the log.
const maxReason = 400

// parseSource reduces one source's message to a line.
func parseSource(text string) SourceFailure {
	var f SourceFailure
	if m := sourceName.FindStringSubmatch(text); m != nil {
		f.Source, text = m[1], text[len(m[0]):]
	}
	said := fromAnswer(text)
	if at := aadsts.FindStringSubmatchIndex(said); at != nil {
		f.AADSTS = said[at[2]:at[3]]
		said = firstSentence(said[at[0]:])
	}
	reason := oneLine(said)
	for _, h := range hints {
		if strings.Contains(reason, h.text) && (h.source == "" || h.source == f.Source) {
			reason = h.say(reason)
			break
		}
	}
	f.Reason = reason
	return f
}

// fromAnswer extracts what an HTTP answer quoted in text says, or returns text.
func fromAnswer(text string) string {
	m := answer.FindStringSubmatch(text)
	if m == nil {
		return text
	}
	said := "HTTP " + m[1]
	if body := fromBody(m[2]); body != "" {
		said += ": " + body
	}
	lead, _, _ := strings.Cut(text, "\n")
	if lead = strings.TrimSpace(lead); lead != "" {
		said = lead + " (" + said + ")"
	}
	return said
}

// fromBody finds the message in the forms that Entra, IMDS and App Service use.
func fromBody(body string) string {
	var b struct {
		Error       json.RawMessage `json:"error"`
		Description string          `json:"error_description"`
		Message     string          `json:"message"`
	}
	if json.Unmarshal([]byte(strings.TrimSpace(body)), &b) != nil {
		return ""
	}
	var nested struct {
		Message string `json:"message"`
	}
	var code string
	_ = json.Unmarshal(b.Error, &nested) // one of these fits
	_ = json.Unmarshal(b.Error, &code)
	for _, s := range []string{b.Description, b.Message, nested.Message, code} {
		if s != "" {
			return firstSentence(s)
		}
	}
	return ""
}

var (
	traceIDs    = regexp.MustCompile(`(?s)\s*\(?(Trace ID|Correlation ID|Timestamp): .*`)
	sentenceEnd = regexp.MustCompile(`[.!?]\s+[A-Z]`)
)

// firstSentence leaves out Entra's explanations and trace ids.
func firstSentence(s string) string {
	s = strings.TrimSpace(traceIDs.ReplaceAllString(s, ""))
	if at := sentenceEnd.FindStringIndex(s); at != nil {
		s = s[:at[0]]
	}
	return strings.TrimSuffix(s, ".")
}

// oneLine joins lines and leaves out secrets, links, URLs' paths and MSAL's layers.
func oneLine(s string) string {
	s = redact(s)
	s = strings.TrimSpace(blank.ReplaceAllString(s, " "))
	s = request.ReplaceAllString(s, "$1: ")
	s = layers.ReplaceAllString(s, "")
	s = advice.ReplaceAllString(s, "")
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "") + "…"
	}
	return strings.TrimSuffix(s, ".")
}

// hints say what well-known messages mean. The texts are azidentity's, MSAL's
// or those of the tool that ran; the first that fits counts.
var hints = []struct {
	source, text string
	say          func(reason string) string
}{
	{"ManagedIdentityCredential", "managed identity timed out", to("no answer from 169.254.169.254 within 1s")},
	{"ManagedIdentityCredential", "context deadline exceeded", to("no answer from the managed identity endpoint in time")},
	{"ManagedIdentityCredential", "empty managedidentity.UserAssignedClientID", to("AZURE_CLIENT_ID is set but empty: unset it")},
	{"ManagedIdentityCredential", "Identity not found", to("this machine has no such managed identity (HTTP 400: Identity not found)")},
	{"ManagedIdentityCredential", "the requested identity isn't assigned", to("this machine has no such managed identity (HTTP 400)")},
	{"WorkloadIdentityCredential", "no client ID specified", unsetByWebhook("AZURE_CLIENT_ID")},
	{"WorkloadIdentityCredential", "no tenant ID specified", unsetByWebhook("AZURE_TENANT_ID")},
	{"WorkloadIdentityCredential", "no token file specified", unsetByWebhook("AZURE_FEDERATED_TOKEN_FILE")},
	{"WorkloadIdentityCredential", "open /", replace("open /", "the federated token file cannot be read: /")},
	{"EnvironmentCredential", "missing environment variable", func(reason string) string {
		return strings.TrimPrefix(reason, "missing environment variable ") + " is not set"
	}},
	{"EnvironmentCredential", "incomplete environment variable", to("neither AZURE_CLIENT_SECRET nor AZURE_CLIENT_CERTIFICATE_PATH is set")},
	{"AzureCLICredential", "not found on path", to("az is not installed")},
	{"AzureCLICredential", "run 'az login'", to("az is not logged in: run az login")},
	{"AzureDeveloperCLICredential", "not found on path", to("azd is not installed")},
	{"AzureDeveloperCLICredential", "azd auth login", to("azd is not logged in: run azd auth login")},
	{"AzurePowerShellCredential", "not found on path", to("PowerShell is not installed")},
	{"", "/bin/sh: no such file or directory", to("there is no shell in this image to run the command")},
	{"", "chdir /bin: no such file or directory", to("there is no shell in this image to run the command")}, // an image from scratch
	{"", "context deadline exceeded", noAnswer},
	{"", "error parsing the json error", replace("error parsing the json error", "the answer cannot be read")},
	{"", "json decode error", replace("json decode error", "the answer cannot be read")},
}

func to(s string) func(string) string { return func(string) string { return s } }

func replace(old, new string) func(string) string {
	return func(reason string) string { return strings.Replace(reason, old, new, 1) }
}

func unsetByWebhook(name string) func(string) string {
	return to(name + " is not set: no workload identity webhook changed this pod")
}

// noAnswer names the host, if there is one before the error.
func noAnswer(reason string) string {
	host, _, found := strings.Cut(reason, ": ")
	if !found {
		return "no answer in time"
	}
	return "no answer from " + host + " in time"
}

// environmentHint names what in the environment probably made source fail.
func environmentHint(source string, chained bool) string {
	switch {
	case source == "ManagedIdentityCredential" && proxyCapturesIMDS():
		return " (HTTP_PROXY captures the managed identity endpoint: add 169.254.169.254 to NO_PROXY)"
	case source == "WorkloadIdentityCredential" && chained && os.Getenv("AZURE_KUBERNETES_TOKEN_PROXY") != "":
		return " (AKS identity bindings need the credential workload-identity: DefaultAzureCredential does not use them)"
	}
	return ""
}

// proxyCapturesIMDS reports whether requests to a virtual machine's managed
// identity endpoint, which is link-local, would be sent to a proxy.
func proxyCapturesIMDS() bool {
	if os.Getenv("IDENTITY_ENDPOINT") != "" || os.Getenv("MSI_ENDPOINT") != "" {
		return false // the endpoint is another one
	}
	proxy, err := httpproxy.FromEnvironment().ProxyFunc()(&url.URL{Scheme: "http", Host: "169.254.169.254"})
	return err == nil && proxy != nil
}
