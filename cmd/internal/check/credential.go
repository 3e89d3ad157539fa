package check

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"entra-sidecar/config"
	"entra-sidecar/proxy/diagnose"
	"entra-sidecar/tokencache"
)

// An examination is one route on its way through the steps.
type examination struct {
	*Options
	route    config.Route
	identity config.Identity

	login Login  // since the credential step
	reply answer // since the connection step
}

// configuration looks at what the upstream's name tells. The settings have been
// validated.
func (x *examination) configuration(context.Context) Step {
	if d, bad := diagnose.Host(x.route.Upstream.Host); bad {
		return failed("this host takes no tokens", d)
	}
	return Step{Status: Passed, Summary: fmt.Sprintf("identity %s, scope %s", x.route.Identity, x.route.Scope)}
}

func failed(summary string, d diagnose.Diagnosis) Step {
	return Step{Status: Failed, Summary: summary, Findings: []Finding{found(d)}, class: d.Class}
}

// set keeps a fact, if it is known.
func (s *Step) set(name, value string) {
	if s.Facts == nil {
		s.Facts = make(map[string]string)
	}
	if value != "" {
		s.Facts[name] = value
	}
}

// credential obtains the token. It leaves time for the steps behind it, since a
// chain with nobody at its end would use up all there is.
func (x *examination) credential(ctx context.Context) Step {
	ctx, cancel := context.WithTimeout(ctx, x.Timeout*2/3)
	defer cancel()
	login, err := x.Token(ctx, x.identity, x.route.Scope)
	if err != nil {
		return x.noToken(err)
	}
	x.login = login
	step := Step{Status: Passed, Summary: login.Source + " gave a token"}
	step.set("source", login.Source)
	for _, f := range login.PassedOver {
		step.Sources = append(step.Sources, Source{Source: f.Source, Reason: f.Reason})
	}
	if step.Sources != nil {
		step.Sources = append(step.Sources, Source{Source: login.Source})
	}
	return step
}

// noToken tells why, source by source. A source that was set up and failed is to
// blame; where all were passed over, each says what would make it answer.
func (x *examination) noToken(err error) Step {
	who, why := x.configured(), tokencache.Describe(err)
	failures := tokencache.Explain(err)
	last := failures[len(failures)-1]
	step := failed(why, diagnose.Credential(why, who))
	if len(failures) == 1 {
		return step
	}
	step.Summary = last.Source + " failed"
	passedOver := why != last.String()
	if passedOver {
		step.Summary = "no source gave a token"
	}
	for _, f := range failures {
		source := Source{Source: f.Source, Reason: f.Reason}
		if passedOver {
			remedy := found(diagnose.Credential(f.String(), who))
			source.Remedy = &remedy
		}
		step.Sources = append(step.Sources, source)
	}
	return step
}

// configured is what settings and variables say of the identity, for remedies to
// name.
func (x *examination) configured() diagnose.Claims {
	return diagnose.Claims{
		TenantID: cmp.Or(x.identity.TenantID, x.Getenv("AZURE_TENANT_ID")),
		AppID:    cmp.Or(x.identity.ClientID, x.Getenv("AZURE_CLIENT_ID")),
	}
}

// claims shows what the token says about itself, and compares that with what the
// route needs. It fails nothing: Azure decides, and will be asked.
func (x *examination) claims(context.Context) Step {
	c := x.login.Token.Claims()
	if c == (tokencache.Claims{}) {
		return Step{Status: Skipped, Summary: "the token is opaque"}
	}
	step := Step{Status: Passed, Summary: "valid for " + left(x.login.Token.ExpiresOn())}
	for name, value := range map[string]string{
		"aud": c.Audience, "tid": c.TenantID, "oid": c.ObjectID, "appid": c.AppID, "upn": c.UPN,
		"iat": stamp(c.IssuedAt), "exp": stamp(c.ExpiresAt),
	} {
		step.set(name, value)
	}
	accepted, tenant := audiences(x.route), x.configured().TenantID
	if strings.HasPrefix(c.Audience, "https://") && accepted != nil && !slices.Contains(accepted, strings.TrimSuffix(c.Audience, "/")) {
		step.advise("another audience than this host is known to accept", "wrong-audience",
			"# The scope of the route (or --scope, or routes[].scope):\nENTRA_SIDECAR_SCOPE="+accepted[0]+"/.default")
	}
	if isGUID(tenant) && isGUID(c.TenantID) && !strings.EqualFold(tenant, c.TenantID) {
		step.advise("of another tenant than the configured one, "+tenant, "wrong-tenant",
			"az login --tenant "+tenant+"   # a managed identity gets tokens of its own tenant only")
	}
	if !c.ExpiresAt.IsZero() && !time.Now().Before(c.ExpiresAt) {
		step.advise("expired, by this machine's clock", "token-expired", "date -u")
	}
	return step
}

// advise adds a finding that does not end the route. Its sentence is that of
// the cause; its remedy is of this moment, when nothing has been refused yet.
func (s *Step) advise(summary, cause, remedy string) {
	rows := diagnose.Causes()
	row := rows[slices.IndexFunc(rows, func(r diagnose.Row) bool { return r.Cause == cause })]
	s.Status, s.Summary = Advice, summary
	s.Findings = append(s.Findings, Finding{Cause: cause, Sentence: row.Sentence, Remedy: remedy})
}

// audiences are those that a resource's host is known to accept, the first being
// the one to ask for. Nothing is known of other hosts.
func audiences(r config.Route) []string {
	host := r.Upstream.Hostname()
	if diagnose.PrivateLinkName(host) == "" {
		return nil
	}
	all := []string{strings.TrimSuffix(config.DefaultScope(r.Upstream), "/.default")}
	if strings.HasSuffix(host, ".services.ai.azure.com") {
		all = append(all, "https://ai.azure.com")
	}
	return all
}

func isGUID(s string) bool { return len(s) == 36 && strings.Count(s, "-") == 4 }

// left is the time until t, in hours and minutes unless it is short.
func left(t time.Time) string {
	if d := time.Until(t); d > 2*time.Minute {
		return strings.Replace(strings.TrimSuffix(d.Round(time.Minute).String(), "0s"), "h0m", "h", 1)
	}
	return time.Until(t).Round(time.Second).String()
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
