// Package check examines a configuration as a request would use it: route by
// route, step by step until one fails, and says what mends that.
//
//	configuration  the settings, and what the upstream's name alone tells
//	credential     a token: which source gave it, why others were passed over
//	claims         the token's audience, tenant, principal and expiry
//	dns            the upstream's addresses, private or public
//	connection     TCP, TLS and the forward proxy
//	clock          this machine's clock against Azure's
//	call           GET …/openai/models with the token
//	deployment     a completion of one token, if a deployment was named
//
// Connection, clock and call are three views of one request: Azure sees no more
// than that.
//
// # JSON
//
// [JSON] writes one [Report]. Fields may be added to it; none changes its
// meaning. A route has all its steps, whose status is passed, advice (good
// enough, but findings say what is odd), failed (findings[0] says why, if the
// cause is known), skipped (there was nothing to examine) or not_reached. The
// facts of a step are strings, times as in RFC 3339, each absent if not known:
//
//	credential        source
//	claims            aud, tid, oid, appid, upn, iat, exp
//	dns               addresses (separated by blanks), network (private, public)
//	connection        proxy, address, tls, certificate, issuer, valid_until
//	clock             skew
//	call, deployment  request, status, message, azure_request_id
//
// No token and no secret is ever part of a report.
//
// # Exit codes
//
// 0 if every route passed, advice included, else that of the first route that
// failed: 2 configuration, 3 no token, 4 network, 5 authorization, 6 endpoint,
// deployment or api-version. A refusal of unknown cause counts as 5 if its
// status is 401 or 403, else as 6.
package check

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"entra-sidecar/config"
	"entra-sidecar/proxy/diagnose"
	"entra-sidecar/tokencache"
)

// Options say what to examine and with what. All but Route and Deployment are
// required.
type Options struct {
	Config     *config.Config
	Route      string        // the prefix of the only route to examine; default: all
	Deployment string        // a deployment to call as well; default: none
	Timeout    time.Duration // for each route

	Token     func(ctx context.Context, id config.Identity, scope string) (Login, error)
	Getenv    func(string) string
	Proxy     func(*http.Request) (*url.URL, error)
	Resolver  Resolver
	Transport http.RoundTripper
}

// A Resolver looks names up; *[net.Resolver] is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// A Login is a token with how it was obtained.
type Login struct {
	Token      *tokencache.Token
	Source     string                     // the credential that answered
	PassedOver []tokencache.SourceFailure // those of a chain that did not
}

// Report is the outcome of an examination.
type Report struct {
	OK       bool      `json:"ok"`
	ExitCode int       `json:"exit_code"`
	Problems []string  `json:"problems,omitempty"` // why the configuration is refused; then there are no routes
	Warnings []string  `json:"warnings,omitempty"` // oddities of the configuration
	Findings []Finding `json:"findings,omitempty"` // oddities of the environment
	Routes   []Route   `json:"routes"`
}

// Route is the outcome for one route.
type Route struct {
	Prefix   string `json:"prefix"`
	Upstream string `json:"upstream"`
	Identity string `json:"identity"`
	Scope    string `json:"scope"`
	OK       bool   `json:"ok"`
	ExitCode int    `json:"exit_code"`
	Steps    []Step `json:"steps"`
}

// Step is the outcome of one step.
type Step struct {
	Name         string            `json:"name"`
	Status       Status            `json:"status"`
	Summary      string            `json:"summary"` // one line
	Milliseconds int64             `json:"milliseconds"`
	Facts        map[string]string `json:"facts,omitempty"`
	Sources      []Source          `json:"sources,omitempty"` // of a chain of credentials, in its order
	Findings     []Finding         `json:"findings,omitempty"`

	class diagnose.Class // if it failed
}

// Status says how a step ended.
type Status string

const (
	Passed     Status = "passed"
	Advice     Status = "advice"
	Failed     Status = "failed"
	Skipped    Status = "skipped"
	NotReached Status = "not_reached"
)

// Source is one of a chain of credentials.
type Source struct {
	Source string   `json:"source"`
	Reason string   `json:"reason,omitempty"` // why it gave no token
	Remedy *Finding `json:"remedy,omitempty"` // what would make it give one, if no other did
}

// Finding is a cause with what mends it. Its ids are those of package diagnose.
type Finding struct {
	Cause    string `json:"cause"`
	Detail   string `json:"detail,omitempty"`
	Sentence string `json:"sentence"`
	Remedy   string `json:"remedy"` // for a shell; prose is behind #
}

// found leaves out the advice to run this very command.
func found(d diagnose.Diagnosis) Finding {
	var remedy []string
	for line := range strings.SplitSeq(d.Remedy, "\n") {
		if !strings.HasPrefix(line, "entra-sidecar check") {
			remedy = append(remedy, line)
		}
	}
	return Finding{Cause: d.Cause, Detail: d.Detail, Sentence: d.Sentence, Remedy: strings.Join(remedy, "\n")}
}

// A Printer is told what happens while it happens.
type Printer interface {
	Begin(Report) // all but its routes is known
	Route(Route)  // its steps follow
	Step(Step)
	End(Report)
}

// Run examines the routes. An error is a mistake in the options.
func Run(ctx context.Context, o Options, p Printer) (Report, error) {
	routes, err := o.routes()
	if err != nil {
		return Report{}, err
	}
	report := Report{OK: true, Warnings: o.Config.Warnings}
	for _, d := range diagnose.Proxies(o.Getenv) {
		if d.Cause == "proxy-captures-localhost" { // of the other, the configuration warns where it matters
			report.Findings = append(report.Findings, found(d))
		}
	}
	p.Begin(report)
	for _, r := range routes {
		outcome := o.examine(ctx, r, p)
		if !outcome.OK && report.OK {
			report.OK, report.ExitCode = false, outcome.ExitCode
		}
		report.Routes = append(report.Routes, outcome)
	}
	p.End(report)
	return report, nil
}

// Refuse reports a configuration that cannot be used at all.
func Refuse(problems config.Problems, p Printer) Report {
	report := Report{ExitCode: 2, Routes: []Route{}}
	for _, problem := range problems {
		report.Problems = append(report.Problems, problem.Error())
	}
	p.Begin(report)
	p.End(report)
	return report
}

// routes returns those to examine.
func (o *Options) routes() ([]config.Route, error) {
	if o.Route == "" {
		return o.Config.Routes, nil
	}
	var prefixes []string
	for _, r := range o.Config.Routes {
		if r.Prefix == o.Route {
			return []config.Route{r}, nil
		}
		prefixes = append(prefixes, r.Prefix)
	}
	return nil, fmt.Errorf("--route: no route has the prefix %q; write one of %s", o.Route, strings.Join(prefixes, ", "))
}

// examine takes one route through the steps, until one fails.
func (o *Options) examine(ctx context.Context, r config.Route, p Printer) Route {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	outcome := Route{Prefix: r.Prefix, Upstream: r.Upstream.String(), Identity: r.Identity, Scope: r.Scope, OK: true}
	p.Route(outcome)
	x := &examination{Options: o, route: r, identity: o.Config.Identities[r.Identity]}
	for _, s := range []struct {
		name string
		run  func(context.Context) Step
	}{
		{"configuration", x.configuration}, {"credential", x.credential}, {"claims", x.claims}, {"dns", x.dns},
		{"connection", x.connection}, {"clock", x.clock}, {"call", x.call}, {"deployment", x.deployment},
	} {
		if s.name == "deployment" && o.Deployment == "" {
			continue
		}
		step := Step{Status: NotReached}
		if outcome.OK {
			started := time.Now()
			step = s.run(ctx)
			step.Milliseconds = time.Since(started).Milliseconds()
		}
		if step.Name = s.name; step.Status == Failed {
			outcome.OK, outcome.ExitCode = false, int(step.class)
		}
		outcome.Steps = append(outcome.Steps, step)
		p.Step(step)
	}
	return outcome
}

// JSON is a [Printer] that writes the report as one document.
type JSON struct{ W io.Writer }

// Begin, Route and Step write nothing.
func (JSON) Begin(Report) {}
func (JSON) Route(Route)  {}
func (JSON) Step(Step)    {}

// End writes the report.
func (j JSON) End(r Report) {
	encoder := json.NewEncoder(j.W)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(r) // the reader may have gone
}
