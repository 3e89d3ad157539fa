package diagnose

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// evidence is all that a row may be recognised by and a remedy filled in from.
type evidence struct {
	in            Input
	host          string
	code, message string // of the error body, or Entra's code and the whole text
	err           error
	addresses     []netip.Addr
	skew          time.Duration
}

// says reports whether the message contains one of the phrases.
func (e *evidence) says(phrases ...string) bool {
	for _, phrase := range phrases {
		if strings.Contains(e.message, phrase) {
			return true
		}
	}
	return false
}

// fact returns what {{name}} stands for in a remedy, empty if it is not known.
func (e *evidence) fact(name string) string {
	if f := facts[name]; f != nil {
		return f(e)
	}
	return ""
}

// facts fill remedies in. Each returns constant text or what passed shellSafe,
// for part of what they draw on was written by whoever answered.
var facts = map[string]func(*evidence) string{
	"ADDRESSES":  (*evidence).addressText,
	"ASSIGNEE":   (*evidence).assignee,
	"AUDIENCE":   (*evidence).audience,
	"CERTISSUER": (*evidence).certIssuer,
	"CERTNAMES":  (*evidence).certNames,
	"CLIENT":     func(e *evidence) string { return cmp.Or(group(clientPattern, e.message), shellSafe(e.in.Claims.AppID)) },
	"DATE":       (*evidence).dateText,
	"DEPLOYMENT": func(e *evidence) string { return shellSafe(group(deploymentPattern, e.in.Path)) },
	"HOST":       func(e *evidence) string { return shellSafe(hostname(e.host)) },
	"ISSUER":     func(e *evidence) string { return shellSafe(group(issuerPattern, e.message)) },
	"NAME":       func(e *evidence) string { name, _ := family(e.host); return name },
	"OID":        (*evidence).principal,
	"PATHFAULT":  (*evidence).pathFault,
	"PUBLICHOST": (*evidence).publicHost,
	"ROLE":       (*evidence).role,
	"SECONDS":    (*evidence).seconds,
	"SKEW":       func(e *evidence) string { return e.skew.Abs().Round(time.Second).String() },
	"SUBJECT":    func(e *evidence) string { return shellSafe(group(subjectPattern, e.message)) },
	"TENANT": func(e *evidence) string {
		return cmp.Or(group(tenantPattern, e.message), shellSafe(e.in.Claims.TenantID))
	},
	"URL":  (*evidence).url,
	"ZONE": (*evidence).zone,
}

const (
	guid   = `[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`
	tenant = `(` + guid + `|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)`
)

var (
	shellPattern      = regexp.MustCompile(`^[A-Za-z0-9_/][A-Za-z0-9._:/@%+=,-]{0,255}$`)
	familyPattern     = regexp.MustCompile(`^([a-z0-9][a-z0-9-]*)\.(?:privatelink\.)?((?:openai|cognitiveservices|services\.ai)\.azure\.(?:com|us|cn))$`)
	guidPattern       = regexp.MustCompile(`^` + guid + `$`)
	deploymentPattern = regexp.MustCompile(`/deployments/([^/?]+)`)
	principalPattern  = regexp.MustCompile("[Pp]rincipal `?([^` ]+)`? lacks")
	actionPattern     = regexp.MustCompile("data action `?(Microsoft\\.[A-Za-z0-9./_-]+)")
	clientPattern     = regexp.MustCompile(`(?i)(?:app|application|identifier|client_id)\W{1,3}(` + guid + `)`)
	tenantPattern     = regexp.MustCompile(`(?i)(?:tenant|directory)(?: named)? '?` + tenant + `|//[^/\s]+/` + tenant + `/oauth2`)
	subjectPattern    = regexp.MustCompile(`(?i)assertion subject:? '([^']+)'`)
	issuerPattern     = regexp.MustCompile(`(?i)assertion issuer:? '([^']+)'`)
	foundryPattern    = regexp.MustCompile(`/(?:anthropic|models)(?:/|$)`)
	doubledPattern    = regexp.MustCompile(`/openai(?:/.*)?/openai/`)
	ownFilesPattern   = regexp.MustCompile(`/openai/(?:v1/)?(?:files|uploads|batch|fine.tun)`)
)

// group returns the first group of the pattern that took part in a match.
func group(pattern *regexp.Regexp, text string) string {
	return cmp.Or(append(pattern.FindStringSubmatch(text), "", "")[1:]...)
}

// shellSafe returns s if a shell takes it for one plain word that is no option,
// and otherwise nothing.
func shellSafe(s string) string {
	if shellPattern.MatchString(s) {
		return s
	}
	return ""
}

// hostname is the host in lower case, without its port.
func hostname(host string) string {
	host, _, _ = strings.Cut(strings.ToLower(host), ":")
	return host
}

// family splits the host of a resource, my.openai.azure.com, into the
// resource's name and its family of hosts. Both are empty for other hosts.
func family(host string) (name, zone string) {
	if m := familyPattern.FindStringSubmatch(hostname(host)); m != nil {
		return m[1], m[2]
	}
	return "", ""
}

// PrivateLinkName returns the name by which a resource that has a private
// endpoint is also known, my.privatelink.openai.azure.com for
// my.openai.azure.com, and nothing for hosts that are no resource's.
func PrivateLinkName(host string) string {
	name, zone := family(host)
	if name == "" {
		return ""
	}
	return name + ".privatelink." + zone
}

func (e *evidence) zone() string {
	if _, zone := family(e.host); zone != "" {
		return "privatelink." + zone
	}
	return ""
}

func (e *evidence) publicHost() string {
	name, zone := family(e.host)
	if name == "" {
		return ""
	}
	return name + "." + zone
}

// audience is the one to ask a token for: the first that the answer names.
func (e *evidence) audience() string {
	return cmp.Or(append(e.audiences(), "")...)
}

// principal is the object id that was refused, or the name of a person if that
// is all there is.
func (e *evidence) principal() string {
	return cmp.Or(guidPattern.FindString(e.in.Claims.ObjectID), shellSafe(group(principalPattern, e.message)))
}

// assignee names the principal to az. The type spares az a look into the
// directory, for which an object id right after its creation is too new.
func (e *evidence) assignee() string {
	principal := e.principal()
	if strings.Contains(principal, "@") {
		return "--assignee " + principal
	}
	kind := "ServicePrincipal"
	if e.in.Claims.UPN != "" || strings.Contains(group(principalPattern, e.message), "@") {
		kind = "User"
	}
	return "--assignee-object-id " + cmp.Or(principal, "OID") + " --assignee-principal-type " + kind
}

// role is the least one that grants the operation. The data action in Azure's
// message says what was missing; without it the path has to do.
func (e *evidence) role() string {
	path := strings.ToLower(e.in.Path)
	action := strings.ToLower(group(actionPattern, e.message))
	surface := cmp.Or(action, path)
	switch {
	case foundryPattern.MatchString(path) && !strings.Contains(path, "/openai/"):
		return "Cognitive Services User"
	case strings.Contains(surface, "/aiservices/"), strings.Contains(path, "/api/projects/"):
		return "Azure AI User"
	case !strings.Contains(surface, "/openai/"):
		return "Cognitive Services User"
	case ownFilesPattern.MatchString(surface) && !e.reads(action):
		return "Cognitive Services OpenAI Contributor"
	}
	return "Cognitive Services OpenAI User"
}

// reads reports whether the operation only reads: by the data action, or else
// by the method.
func (e *evidence) reads(action string) bool {
	if action != "" {
		return strings.HasSuffix(action, "/read")
	}
	return e.in.Method == http.MethodGet || e.in.Method == http.MethodHead
}

// date is the answer's own time, zero if it has none.
func (e *evidence) date() time.Time {
	t, _ := http.ParseTime(e.in.Header.Get("Date"))
	return t
}

func (e *evidence) addressText() string {
	return strings.Trim(fmt.Sprint(e.addresses), "[]")
}

func (e *evidence) dateText() string {
	if t := e.date(); !t.IsZero() {
		return t.UTC().Format(time.DateTime)
	}
	return ""
}

// seconds is the wait that Azure asks for; Retry-After can be absent.
func (e *evidence) seconds() string {
	if s, err := strconv.Atoi(e.in.Header.Get("Retry-After")); err == nil {
		return strconv.Itoa(s)
	}
	if ms, err := strconv.Atoi(e.in.Header.Get("Retry-After-Ms")); err == nil {
		return strconv.Itoa((ms + 999) / 1000)
	}
	return ""
}

// url is the final URL, with nothing of the query but api-version.
func (e *evidence) url() string {
	host, path := shellSafe(hostname(e.host)), shellSafe(e.in.Path)
	if host == "" || path == "" {
		return ""
	}
	if version := e.apiVersion(); version != "" {
		path += "?api-version=" + version
	}
	return "https://" + host + path
}

func (e *evidence) apiVersion() string {
	for pair := range strings.SplitSeq(e.in.Query, "&") {
		if version, ok := strings.CutPrefix(pair, "api-version="); ok {
			return shellSafe(version)
		}
	}
	return ""
}

// pathFault is what can be seen to be wrong with the path.
func (e *evidence) pathFault() string {
	path := strings.ToLower(e.in.Path)
	switch {
	case strings.Contains(path, "//"):
		return "There is a double slash in it: take the slash off the end of api_base or of the upstream."
	case doubledPattern.MatchString(path):
		return "/openai is in it twice: take it off api_base or off the upstream."
	case e.apiVersion() == "" && strings.Contains(path, "/openai/") && !strings.Contains(path, "/openai/v1/"):
		return "It has no api-version: set api_version in LiteLLM, or use an /openai/v1 path."
	}
	return "The api-version may be too old for the operation, or the path may belong to another family of hosts."
}
