package azure

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Seconds is a length of time as the control API writes it: a plain number.
type Seconds float64

// Duration is s as Go's own type.
func (s Seconds) Duration() time.Duration { return time.Duration(float64(s) * float64(time.Second)) }

// Faults is everything about the emulator that can be changed while it runs.
// The zero value is a healthy Azure. A change takes effect with the next
// request, or when a connection next falls idle.
type Faults struct {
	// Resource is the state of the Azure OpenAI resource.
	Resource Resource `json:"resource,omitzero"`
	// Tokens says how tokens are issued.
	Tokens Tokens `json:"tokens,omitzero"`
	// Pace is the speed and size of generated answers, where no rule sets it.
	Pace Pace `json:"pace,omitzero"`
	// Azure are the faults of single requests; the first rule that matches counts.
	Azure []Rule `json:"azure,omitzero"`
	// Entra is the same for the identity side.
	Entra []Rule `json:"entra,omitzero"`
	// AzureDown refuses connections to the Azure side and cuts existing ones.
	AzureDown bool `json:"azure_down,omitzero"`
	// EntraDown does the same to the identity side.
	EntraDown bool `json:"entra_down,omitzero"`
	// CloseIdleAfter closes Azure's connections that were idle for so long.
	CloseIdleAfter Seconds `json:"close_idle_after,omitzero"`
	// DropIdleAfter forgets connections that were idle for so long without
	// telling the client, as Azure's load balancer does after about 4 minutes:
	// what is sent on them is never answered.
	DropIdleAfter Seconds `json:"drop_idle_after,omitzero"`
}

// Tokens says how tokens are issued.
type Tokens struct {
	// Life in seconds; negative issues expired tokens. Default: 3600.
	Life Seconds `json:"life,omitzero"`
	// RefreshIn is told to clients as refresh_in. Default: not told.
	RefreshIn Seconds `json:"refresh_in,omitzero"`
	// Reuse answers with the same token until a tenth of its life is left, as
	// IMDS does.
	Reuse bool `json:"reuse,omitzero"`
	// Expired issues tokens that expired a minute ago while the answer around
	// them promises Life: the two clocks disagree.
	Expired bool `json:"expired,omitzero"`
}

const defaultTokenLife = time.Hour

func (t Tokens) life() time.Duration {
	if t.Life == 0 {
		return defaultTokenLife
	}
	return t.Life.Duration()
}

// Pace is the speed and size of a generated answer.
type Pace struct {
	// HeadDelay passes before the first byte of the answer.
	HeadDelay Seconds `json:"head_delay,omitzero"`
	// Chunks is the number of content deltas in a stream; a JSON answer holds
	// the same text. Default: one delta for each word of the reply.
	Chunks int `json:"chunks,omitzero"`
	// ChunkBytes is the length that each delta's text is filled up to. Default: as it comes.
	ChunkBytes int `json:"chunk_bytes,omitzero"`
	// ChunkDelay passes before each chunk but the first.
	ChunkDelay Seconds `json:"chunk_delay,omitzero"`
}

// over fills the fields that p leaves at zero from q.
func (p Pace) over(q Pace) Pace {
	return Pace{
		HeadDelay: orElse(p.HeadDelay, q.HeadDelay), Chunks: orElse(p.Chunks, q.Chunks),
		ChunkBytes: orElse(p.ChunkBytes, q.ChunkBytes), ChunkDelay: orElse(p.ChunkDelay, q.ChunkDelay),
	}
}

func orElse[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Rule is what happens to the requests that it matches.
type Rule struct {
	// Method and Path narrow the rule; Path is any part of the raw path.
	Method string `json:"method,omitzero"`
	Path   string `json:"path,omitzero"`
	// Skip lets so many matching requests pass first.
	Skip int `json:"skip,omitzero"`
	// Every lets the rule strike only every so many-th request of those left.
	Every int `json:"every,omitzero"`
	// Times ends the rule after so many requests. Default: it stays.
	Times int `json:"times,omitzero"`

	// Fault is a name of [FaultNames]: a row of the diagnosis or AADSTS table,
	// or a failure of the server.
	Fault string `json:"fault,omitzero"`
	// Answer is given word for word, after authentication.
	Answer *Answer `json:"answer,omitzero"`
	// RetryAfter goes with throttled answers, in seconds. Negative: no header. Default: 1.
	RetryAfter Seconds `json:"retry_after,omitzero"`
	// Cut breaks the connection in the middle of the answer.
	Cut *Cut `json:"cut,omitzero"`
	// Early answers before the request's body was read.
	Early bool `json:"early,omitzero"`
	// Gzip compresses the answer, unless it is a stream.
	Gzip bool `json:"gzip,omitzero"`
	// Close announces and closes the connection after the answer.
	Close bool `json:"close,omitzero"`
	Pace
}

// Answer is an HTTP answer, byte for byte.
type Answer struct {
	Status int               `json:"status"`
	Header map[string]string `json:"header,omitzero"`
	Body   string            `json:"body"`
}

// Cut says where an answer breaks off.
type Cut struct {
	// After so many events of a stream, or bytes of any other body. Default:
	// at once for streams, in the middle for other bodies.
	After int `json:"after,omitzero"`
	// InsideEvent sends the first half of the next event as well.
	InsideEvent bool `json:"inside_event,omitzero"`
	// Clean ends the body as if it were complete: a stream without [DONE].
	Clean bool `json:"clean,omitzero"`
}

// FaultNames are the values that [Rule.Fault] and [Faults.Add] take.
func FaultNames() []string {
	names := slices.Collect(maps.Keys(namedFaults))
	for _, row := range aadstsRows {
		names = append(names, row.fault())
	}
	slices.Sort(names)
	return names
}

// Add puts the fault called name where it belongs, for every request until it
// is taken away: a credential failure to the identity side, the rest to Azure.
// The prefix "entra:" chooses the identity side for what both sides can do.
func (f *Faults) Add(name string) error {
	rule := Rule{}
	var toEntra bool
	rule.Fault, toEntra = strings.CutPrefix(name, "entra:")
	if toEntra || rule.checkAzure() != nil && rule.checkEntra() == nil {
		f.Entra = append(f.Entra, rule)
		return rule.checkEntra()
	}
	f.Azure = append(f.Azure, rule)
	return rule.checkAzure()
}

// validate refuses what no request would ever meet, since a misspelt fault
// silently tests nothing.
func (f *Faults) validate() error {
	problems := []error{f.Resource.validate()}
	for i, rule := range f.Azure {
		if err := rule.checkAzure(); err != nil {
			problems = append(problems, fmt.Errorf("azure[%d]: %w", i, err))
		}
	}
	for i, rule := range f.Entra {
		if err := rule.checkEntra(); err != nil {
			problems = append(problems, fmt.Errorf("entra[%d]: %w", i, err))
		}
	}
	return errors.Join(problems...)
}

func (r *Rule) checkAzure() error {
	fault := namedFaults[r.Fault]
	if r.Fault == "" || fault.condition != nil || fault.azure != nil {
		return nil
	}
	return unknownFault("Azure", r.Fault)
}

func (r *Rule) checkEntra() error {
	if r.Cut != nil || r.Early || r.Gzip || r.Close || r.Pace != (Pace{HeadDelay: r.HeadDelay}) {
		return errors.New("the identity side knows only fault, answer, retry_after and head_delay")
	}
	fault := namedFaults[r.Fault]
	if _, aadsts := aadstsFault(r.Fault); r.Fault == "" || aadsts || fault.tokens != nil || fault.entra != nil {
		return nil
	}
	return unknownFault("Entra", r.Fault)
}

func unknownFault(side, name string) error {
	return fmt.Errorf("no fault of %s is called %q; known are %s", side, name, strings.Join(FaultNames(), ", "))
}

// clone copies f with everything it points to.
func (f *Faults) clone() *Faults {
	var copied Faults
	data, err := json.Marshal(f)
	if err == nil {
		err = json.Unmarshal(data, &copied)
	}
	if err != nil {
		panic(err) // only plain data is in there
	}
	return &copied
}

// Patched returns f with a JSON merge patch (RFC 7396) applied, as the control
// API takes it. A field that does not exist is an error.
func (f *Faults) Patched(patch []byte) (Faults, error) {
	current, err := json.Marshal(f)
	if err != nil {
		return Faults{}, err
	}
	var target, change map[string]any
	if err := errors.Join(json.Unmarshal(current, &target), json.Unmarshal(patch, &change)); err != nil {
		return Faults{}, err
	}
	merged, err := json.Marshal(mergePatch(target, change))
	if err != nil {
		return Faults{}, err
	}
	var next Faults
	decoder := json.NewDecoder(bytes.NewReader(merged))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&next); err != nil {
		return Faults{}, err
	}
	return next, next.validate()
}

func mergePatch(target, patch map[string]any) map[string]any {
	if target == nil {
		target = map[string]any{}
	}
	for name, value := range patch {
		switch value := value.(type) {
		case nil:
			delete(target, name)
		case map[string]any:
			inner, _ := target[name].(map[string]any)
			target[name] = mergePatch(inner, value)
		default:
			target[name] = value
		}
	}
	return target
}

// switches holds the faults in force. Readers take no lock unless a rule has
// to be counted.
type switches struct {
	mu      sync.Mutex // serializes writers
	current atomic.Pointer[Faults]
}

func (s *switches) get() *Faults { return s.current.Load() }

// azure and entra tell which rule, if any, a request meets.
func (s *switches) azure(r *http.Request) Rule {
	return s.match(r, func(f *Faults) []Rule { return f.Azure })
}

func (s *switches) entra(r *http.Request) Rule {
	return s.match(r, func(f *Faults) []Rule { return f.Entra })
}

func (s *switches) match(r *http.Request, side func(*Faults) []Rule) Rule {
	rules := side(s.get())
	i := slices.IndexFunc(rules, func(rule Rule) bool { return rule.matches(r) })
	if i < 0 {
		return Rule{}
	}
	if rules[i].Skip == 0 && rules[i].Times == 0 && rules[i].Every == 0 {
		return rules[i]
	}
	return s.count(r, side)
}

// count finds the rule again under the lock, since it may just have run out,
// and uses it up by one.
func (s *switches) count(r *http.Request, side func(*Faults) []Rule) Rule {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.get().clone()
	rules := side(next)
	for i := range rules {
		rule := &rules[i]
		if !rule.matches(r) {
			continue
		}
		if rule.Skip > 0 {
			rule.Skip--
			s.current.Store(next)
			return Rule{}
		}
		found := *rule
		rule.Skip = max(0, rule.Every-1)
		if rule.Times == 1 {
			rule.Times = spent
		} else if rule.Times > 1 {
			rule.Times--
		}
		s.current.Store(next)
		return found
	}
	return Rule{}
}

// spent marks a rule whose times are over. It stays in the list, where GET
// /faults shows that it struck.
const spent = -1

func (r *Rule) matches(q *http.Request) bool {
	return r.Times >= 0 &&
		(r.Method == "" || r.Method == q.Method) &&
		strings.Contains(rawPath(q), r.Path)
}

// rawPath is the path as the client wrote it, escapes and doubled slashes
// included, also when a proxy request names the host before it.
func rawPath(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if r.URL.Host != "" {
		_, path, _ = strings.Cut(path, "://")
		_, path, _ = strings.Cut(path, "/")
		path = "/" + path
	}
	return path
}
