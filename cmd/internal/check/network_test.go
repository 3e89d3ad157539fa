package check

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"entra-sidecar/config"
)

func TestDNS(t *testing.T) {
	const private = "my-eastus.privatelink.openai.azure.com"
	for _, tt := range []struct {
		name, upstream string
		zone           zone
		proxy          string
		status         Status
		cause, summary string
	}{
		{name: "public", upstream: resource, zone: zone{"my-eastus.openai.azure.com": "20.10.1.2"}, status: Passed, summary: "20.10.1.2 (public)"},
		{name: "private", upstream: resource, zone: zone{"my-eastus.openai.azure.com": "10.1.2.3", private: "10.1.2.3"}, status: Passed, summary: "10.1.2.3 (private)"},
		{name: "several", upstream: resource, zone: zone{"my-eastus.openai.azure.com": "10.1.2.3 fd00::1"}, status: Passed, summary: "10.1.2.3 fd00::1 (private)"},
		{name: "mapped to IPv6", upstream: resource, zone: zone{"my-eastus.openai.azure.com": "::ffff:10.1.2.3"}, status: Passed, summary: "10.1.2.3 (private)"},
		{name: "a private endpoint passed by", upstream: resource, zone: zone{"my-eastus.openai.azure.com": "20.10.1.2", private: "20.10.1.2"},
			status: Advice, cause: "private-link-public-address", summary: "20.10.1.2 (public)"},
		{name: "a front has no private link name", upstream: "https://front.example", zone: zone{"front.example": "20.10.1.2"}, status: Passed, summary: "20.10.1.2 (public)"},
		{name: "unknown", upstream: resource, zone: zone{}, status: Failed, cause: "dns-not-found", summary: "lookup my-eastus.openai.azure.com: no such host"},
		{name: "an address", upstream: "https://127.0.0.1:1", status: Skipped, summary: "127.0.0.1 is an address"},
		{name: "a proxy's business", upstream: resource, zone: zone{}, proxy: "http://user:canary@proxy.example:3128", status: Skipped, summary: "left to the proxy, http://proxy.example:3128"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := healthy(route("/", tt.upstream))
			o.Resolver = tt.zone
			if proxy, err := url.Parse(tt.proxy); tt.proxy != "" && err == nil {
				o.Proxy = http.ProxyURL(proxy)
			}
			x := &examination{Options: &o, route: o.Config.Routes[0], login: Login{Token: goodClaims().token()}}
			step := x.dns(t.Context())
			if step.Status != tt.status || step.cause() != tt.cause || step.Summary != tt.summary {
				t.Errorf("%+v", step)
			}
			if tt.cause == "private-link-public-address" && !strings.Contains(step.Findings[0].Remedy, "privatelink.openai.azure.com") {
				t.Error(step.Findings[0].Remedy)
			}
		})
	}
}

func TestTheConnectionTellsOfTLS(t *testing.T) {
	o := healthy()
	o.Transport = overTLS(t, always(200, "{}"))
	report, _, _ := run(t, o)
	facts := report.step(t, "connection").Facts
	if facts["tls"] != "TLS 1.3" || facts["issuer"] != "O=Acme Co" || facts["certificate"] != "example.com" || facts["proxy"] != "" {
		t.Errorf("%v", facts)
	}
	if _, err := time.Parse(time.RFC3339, facts["valid_until"]); err != nil {
		t.Error(err)
	}
	if host, _, err := net.SplitHostPort(facts["address"]); err != nil || host != "127.0.0.1" {
		t.Error(facts["address"])
	}
}

// A failing transport reports errors the way net/http does.
type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

func TestAnUnreachableUpstream(t *testing.T) {
	for _, tt := range []struct {
		name           string
		err            error
		cause, summary string
	}{
		{"with a cause", &net.OpError{Op: "dial", Net: "tcp", Err: &timeout{}}, "connection-timeout", "dial tcp: i/o timeout"},
		{"in a URL's error", &url.Error{Op: "Get", URL: "https://x", Err: errors.New("odd")}, "", "odd"},
		{"too slow", context.DeadlineExceeded, "", "no answer in time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := healthy()
			o.Transport = failing{tt.err}
			report, _, _ := run(t, o)
			step := report.step(t, "connection")
			if report.ExitCode != 4 || step.Status != Failed || step.cause() != tt.cause || step.Summary != tt.summary {
				t.Errorf("%+v", step)
			}
		})
	}
}

type timeout struct{}

func (*timeout) Error() string   { return "i/o timeout" }
func (*timeout) Timeout() bool   { return true }
func (*timeout) Temporary() bool { return true }

func TestAnUpstreamThatFallsSilentFailsTheCallAndNotTheConnection(t *testing.T) {
	o := healthy()
	o.Timeout = 300 * time.Millisecond
	o.Transport = overTLS(t, func(r *http.Request) *http.Response {
		<-r.Context().Done()
		return reply(200, "")
	})
	report, _, _ := run(t, o)
	if got := report.Routes[0].outline(); !strings.HasSuffix(got, "connection:passed clock:skipped call:failed") || report.ExitCode != 4 {
		t.Error(got)
	}
}

func TestTheClock(t *testing.T) {
	for offset, status := range map[time.Duration]Status{0: Passed, 4 * time.Minute: Passed, time.Hour: Advice, -time.Hour: Advice} {
		o := healthy()
		answer := reply(200, "{}")
		answer.Header.Set("Date", time.Now().Add(offset).UTC().Format(http.TimeFormat))
		o.Transport = azureAnswers(func(*http.Request) *http.Response { return answer })
		report, text, _ := run(t, o)
		step := report.step(t, "clock")
		if step.Status != status || !report.OK || (status == Advice) != strings.Contains(text, "timedatectl") {
			t.Errorf("%v: %+v", offset, step)
		}
	}
}

func TestWithoutADateTheClockIsSkipped(t *testing.T) {
	x := &examination{reply: answer{header: http.Header{}}}
	if step := x.clock(t.Context()); step.Status != Skipped {
		t.Errorf("%+v", step)
	}
}

// Whoever is at the other end may send back what was sent, or worse.
func TestAHostileUpstreamGetsNoSecretAndNoTerminal(t *testing.T) {
	o := healthy()
	r := route("/", "https://front.example/base")
	r.Headers = map[string]config.Secret{"Ocp-Apim-Subscription-Key": "canary-subscription-key"}
	o.Config.Routes = []config.Route{r}
	o.Resolver = zone{"front.example": "10.0.0.1"}
	o.Transport = azureAnswers(func(r *http.Request) *http.Response {
		if r.Header.Get("Ocp-Apim-Subscription-Key") != "canary-subscription-key" || !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ey") {
			return reply(200, "the credentials are missing")
		}
		answer := reply(418, `{"error":{"code":"x","message":"you sent `+r.Header.Get("Authorization")+` and `+r.Header.Get("Ocp-Apim-Subscription-Key")+` \u001b[2J\u0007\r\n\u202e"}}`)
		answer.Header.Set("Apim-Request-Id", r.Header.Get("Authorization"))
		return answer
	})
	report, text, document := run(t, o)
	if report.ExitCode != 6 {
		t.Fatalf("%+v", report)
	}
	token := strings.Split(strings.TrimPrefix(goodClaims().token().Authorization(), "Bearer "), ".")
	for _, secret := range []string{"canary", token[0], token[2]} {
		if strings.Contains(text+document, secret) {
			t.Errorf("%q was printed", secret)
		}
	}
	if strings.ContainsAny(text, "\x1b\a\r\u202e") || !bytes.Contains([]byte(text), []byte("you sent Bearer [redacted]")) {
		t.Errorf("%q", text)
	}
}

func TestClaimsMoveNoCursor(t *testing.T) {
	o := healthy()
	o.Token = gives(goodClaims().with("upn", "a\x1b[2J\nb").token())
	if _, text, _ := run(t, o); strings.Contains(text, "\x1b") || !strings.Contains(text, "a [2J b") {
		t.Errorf("%q", text)
	}
}
