package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"entra-sidecar/proxy/diagnose"
)

// resolveTimeout bounds one look-up: the limits of resolv.conf can add up to
// half a minute.
const resolveTimeout = 5 * time.Second

// forwardProxy names the proxy that leads to the upstream, without its user and
// password; empty if there is none.
func (x *examination) forwardProxy() string {
	proxy, err := x.Proxy(&http.Request{URL: x.route.Upstream})
	if err != nil || proxy == nil { // an error will be that of the connection, too
		return ""
	}
	return proxy.Scheme + "://" + proxy.Host
}

// dns looks the upstream up, and tells a private endpoint that is passed by.
func (x *examination) dns(ctx context.Context) Step {
	host := x.route.Upstream.Hostname()
	if proxy := x.forwardProxy(); proxy != "" {
		return Step{Status: Skipped, Summary: "left to the proxy, " + proxy}
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return Step{Status: Skipped, Summary: host + " is an address"}
	}
	addrs, err := x.lookup(ctx, host)
	if err != nil {
		return x.unreachable(err)
	}
	network, addresses := "private", strings.Trim(fmt.Sprint(addrs), "[]")
	d, public := diagnose.PrivateLink(host, addrs)
	if public {
		network = "public"
	}
	step := Step{Status: Passed, Summary: addresses + " (" + network + ")"}
	step.set("addresses", addresses)
	step.set("network", network)
	if public && x.hasPrivateEndpoint(ctx, host) {
		step.Status, step.Findings = Advice, []Finding{found(d)}
	}
	return step
}

// hasPrivateEndpoint reports whether DNS knows the resource by a private link
// name, which it gets with its first private endpoint.
func (x *examination) hasPrivateEndpoint(ctx context.Context, host string) bool {
	name := diagnose.PrivateLinkName(host)
	if name == "" {
		return false
	}
	_, err := x.lookup(ctx, name)
	return err == nil
}

func (x *examination) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	addrs, err := x.Resolver.LookupNetIP(ctx, "ip", host)
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, err
}

// unreachable is a step that failed on the way to the upstream.
func (x *examination) unreachable(err error) Step {
	text := err.Error()
	if e, ok := errors.AsType[*url.Error](err); ok {
		text = e.Err.Error()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		text = "no answer in time"
	}
	step := Step{Status: Failed, class: diagnose.ClassNetwork}
	if d, ok := diagnose.Network(err, x.route.Upstream.Host); ok {
		step = failed("", d)
	}
	step.Summary = x.clean(text)
	return step
}

// connection sends the authenticated request, and tells how it got through.
func (x *examination) connection(ctx context.Context) Step {
	var state tls.ConnectionState
	var address string
	x.reply = x.send(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		// Behind an https proxy it is called twice; the upstream's comes last.
		TLSHandshakeDone: func(s tls.ConnectionState, _ error) { state = s },
		GotConn:          func(info httptrace.GotConnInfo) { address = info.Conn.RemoteAddr().String() },
	}), x.modelsCall())
	if address == "" && x.reply.err != nil {
		step := x.unreachable(x.reply.err)
		step.set("proxy", x.forwardProxy())
		return step
	}
	step := Step{Status: Passed, Summary: address}
	step.set("address", address)
	if proxy := x.forwardProxy(); proxy != "" {
		step.set("proxy", proxy)
		step.Summary = "through the proxy " + address
	}
	if certs := state.PeerCertificates; len(certs) > 0 {
		step.Summary += ", " + tls.VersionName(state.Version)
		step.set("tls", tls.VersionName(state.Version))
		step.set("certificate", x.clean(subject(certs[0])))
		step.set("issuer", x.clean(certs[0].Issuer.String()))
		step.set("valid_until", stamp(certs[0].NotAfter))
	}
	return step
}

// subject names a certificate; those of today need have no common name.
func subject(c *x509.Certificate) string {
	if c.Subject.CommonName == "" && len(c.DNSNames) > 0 {
		return c.DNSNames[0]
	}
	return c.Subject.String()
}

// clock compares this machine's time with Azure's. A difference is no failure
// while Azure takes the token, but may become one.
func (x *examination) clock(context.Context) Step {
	date, err := http.ParseTime(x.reply.header.Get("Date"))
	if err != nil {
		return Step{Status: Skipped, Summary: "no answer tells the time"}
	}
	skew := x.reply.at.Sub(date).Round(time.Second).String()
	step := Step{Status: Passed, Summary: "agrees with Azure's"}
	if d, off := diagnose.Clock(x.reply.header, x.reply.at); off {
		step = Step{Status: Advice, Summary: "differs from Azure's by " + skew, Findings: []Finding{found(d)}}
	}
	step.set("skew", skew)
	return step
}
