package diagnose

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// network are the ways in which an answer fails to come about. The order
// matters: what happened on the way to a proxy also has the error of its parts.
var network = []Row{{
	Kind:     KindNetwork,
	Cause:    "proxy-refused",
	Phrases:  []string{"the proxy answered CONNECT with"},
	when:     is[ProxyRefused],
	Sentence: "The forward proxy refused to connect to the upstream; allow the host there, or exempt it from the proxy.",
	Remedy: "NO_PROXY=$NO_PROXY,{{HOST}}   # to go past the proxy; else have {{HOST}} port 443 allowed there\n" +
		"HTTPS_PROXY=http://USER:PASSWORD@PROXY:PORT   # if it wants a login (status 407)",
	Class: ClassNetwork,
}, {
	Kind:     KindNetwork,
	Cause:    "proxy-unreachable",
	Phrases:  []string{"proxyconnect tcp"},
	when:     func(e *evidence) bool { return operation(e.err) == "proxyconnect" },
	Sentence: "The forward proxy cannot be reached; correct the proxy variables, or exempt the upstream's host from them.",
	Remedy: "env | grep -i _proxy\n" +
		"NO_PROXY=$NO_PROXY,{{HOST}}",
	Class: ClassNetwork,
}, {
	Kind:    KindNetwork,
	Cause:   "dns-not-found",
	Phrases: []string{"no such host"},
	when: func(e *evidence) bool {
		dns, ok := errors.AsType[*net.DNSError](e.err)
		return ok && dns.IsNotFound
	},
	Sentence: "The upstream's host has no address; correct its name, or link the private DNS zone to this network.",
	Remedy: "getent hosts {{HOST}}\n" +
		setGroup +
		"az cognitiveservices account show --name {{NAME}} --resource-group \"$GROUP\" --query properties.endpoint --output tsv",
	Class: ClassNetwork,
}, {
	Kind:     KindNetwork,
	Cause:    "dns-failed",
	Phrases:  []string{"server misbehaving", "lookup"},
	when:     is[*net.DNSError],
	Sentence: "The name servers gave no answer for the upstream's host; repair this machine's DNS, or its way there.",
	Remedy: "cat /etc/resolv.conf\n" +
		"getent hosts {{HOST}}   # in Kubernetes: does a network policy allow port 53?",
	Class: ClassNetwork,
}, {
	Kind:     KindNetwork,
	Cause:    "connection-refused",
	Phrases:  []string{"connection refused"},
	when:     func(e *evidence) bool { return errors.Is(e.err, syscall.ECONNREFUSED) },
	Sentence: "The upstream's address refuses connections; check the host, its port and what the name resolves to.",
	Remedy: "getent hosts {{HOST}}\n" +
		"curl --verbose --output /dev/null https://{{HOST}}/",
	Class: ClassNetwork,
}, {
	Kind:    KindNetwork,
	Cause:   "network-unreachable",
	Phrases: []string{"network is unreachable", "no route to host"},
	when: func(e *evidence) bool {
		return errors.Is(e.err, syscall.ENETUNREACH) || errors.Is(e.err, syscall.EHOSTUNREACH)
	},
	Sentence: "There is no route from here to the upstream's address; allow the egress, or set the proxy that leads out.",
	Remedy: "getent hosts {{HOST}}\n" +
		"HTTPS_PROXY=http://PROXY:PORT   # if a proxy leads out",
	Class: ClassNetwork,
}, {
	Kind:    KindNetwork,
	Cause:   "connection-timeout",
	Phrases: []string{"i/o timeout", "TLS handshake timeout"},
	when: func(e *evidence) bool {
		return timedOut(e.err) && (operation(e.err) == "dial" || e.says("TLS handshake"))
	},
	Sentence: "The upstream's address does not answer; a firewall or a network policy drops the packets, or a proxy is needed.",
	Remedy: "getent hosts {{HOST}}\n" +
		"curl --verbose --max-time 10 --output /dev/null https://{{HOST}}/\n" +
		"HTTPS_PROXY=http://PROXY:PORT   # if a proxy leads out",
	Class: ClassNetwork,
}, {
	Kind:     KindNetwork,
	Cause:    "certificate-unknown-authority",
	Phrases:  []string{"certificate signed by unknown authority"},
	when:     is[x509.UnknownAuthorityError],
	Sentence: "The certificate is signed by an authority that is not trusted here, as it is behind a proxy that inspects TLS; add that authority to the trusted ones.",
	Remedy: "# The certificate was issued by: {{CERTISSUER}}\n" +
		"cat /etc/ssl/certs/ca-certificates.crt PROXY_CA.pem > ca-bundle.pem\n" +
		"SSL_CERT_FILE=ca-bundle.pem",
	Class: ClassNetwork,
}, {
	Kind:     KindNetwork,
	Cause:    "certificate-wrong-name",
	Phrases:  []string{"certificate is valid for"},
	when:     is[x509.HostnameError],
	Sentence: "The certificate is for other names than the upstream's; use the resource's public host name, also with a private endpoint.",
	Remedy: "# The certificate is for: {{CERTNAMES}}\n" +
		"ENTRA_SIDECAR_UPSTREAM=https://{{PUBLICHOST}}   # instead of {{HOST}}",
	Class: ClassNetwork,
}, {
	Kind:     KindNetwork,
	Cause:    "private-link-public-address",
	when:     none,
	Sentence: "The resource has a private endpoint but its name resolves to a public address; link the private DNS zone to this network.",
	Remedy:   "# {{HOST}} resolves to {{ADDRESSES}}\n" + privateZone,
	Class:    ClassNetwork,
}, {
	Kind:     KindNetwork,
	Cause:    "privatelink-host",
	when:     none,
	Sentence: "The upstream is a private link name, which no certificate covers; use the resource's public host name, which resolves to the same address.",
	Remedy:   "ENTRA_SIDECAR_UPSTREAM=https://{{PUBLICHOST}}   # instead of {{HOST}}",
	Class:    ClassEndpoint,
}, {
	Kind:     KindNetwork,
	Cause:    "proxy-captures-localhost",
	when:     none,
	Sentence: "A proxy variable captures requests to this machine itself; exempt localhost and 127.0.0.1 in NO_PROXY.",
	Remedy:   "export NO_PROXY=\"$NO_PROXY,localhost,127.0.0.1," + imds + "\"   # in LiteLLM's container too",
	Class:    ClassNetwork,
}, {
	Kind:     KindNetwork,
	Cause:    "clock-off",
	when:     none,
	Sentence: "This machine's clock differs from Azure's by more than five minutes; set it right, for tokens and certificates are judged by it.",
	Remedy: "date -u   # differs by {{SKEW}}\n" +
		"timedatectl set-ntp true",
	Class: ClassToken,
}}

// none keeps a row from being recognised by an error: it has a function of its
// own that looks at something else.
func none(*evidence) bool { return false }

// is recognises an error by its type.
func is[T error](e *evidence) bool {
	_, ok := errors.AsType[T](e.err)
	return ok
}

func operation(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Op
	}
	return ""
}

func timedOut(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// ProxyRefused says that a forward proxy answered CONNECT with another status
// than 200.
type ProxyRefused struct{ Status int }

func (p ProxyRefused) Error() string {
	return "the proxy answered CONNECT with status " + strconv.Itoa(p.Status)
}

// OnProxyConnect is for [http.Transport.OnProxyConnectResponse]. Without it
// the refusal of a proxy is an error of no type that says "Forbidden", which
// nobody can tell from other errors.
func OnProxyConnect(_ context.Context, _ *url.URL, _ *http.Request, res *http.Response) error {
	if res.StatusCode != http.StatusOK {
		return ProxyRefused{Status: res.StatusCode}
	}
	return nil
}

// Network tells why a request to the host got no answer. An answer that is only
// slow to come has no cause.
func Network(err error, host string) (Diagnosis, bool) {
	if err == nil {
		return Diagnosis{}, false
	}
	return find(network, &evidence{err: err, message: err.Error(), host: host})
}

var regionalPattern = regexp.MustCompile(`\.api\.cognitive\.(?:microsoft|azure)\.(?:com|us|cn)$`)

// Host tells what is wrong with an upstream by its name alone: a regional host,
// which takes keys only, and a private link name, which no certificate covers.
func Host(host string) (Diagnosis, bool) {
	e := &evidence{host: host}
	switch name := hostname(host); {
	case regionalPattern.MatchString(name):
		return byCause(answers, "custom-subdomain-required", "").diagnosis(e), true
	case strings.Contains(name, ".privatelink."):
		return byCause(network, "privatelink-host", "").diagnosis(e), true
	}
	return Diagnosis{}, false
}

// PrivateLink tells whether a resource that has a private endpoint, which is to
// say that DNS knows its [PrivateLinkName], is reached past it. That is a fault
// only if the resource refuses its public address.
func PrivateLink(host string, addrs []netip.Addr) (Diagnosis, bool) {
	if !slices.ContainsFunc(addrs, public) {
		return Diagnosis{}, false
	}
	e := &evidence{host: host, addresses: addrs}
	return byCause(network, "private-link-public-address", "").diagnosis(e), true
}

// carrier is the shared address space of RFC 6598, which some networks use
// within.
var carrier = netip.MustParsePrefix("100.64.0.0/10")

func public(addr netip.Addr) bool {
	addr = addr.Unmap()
	return addr.IsGlobalUnicast() && !addr.IsPrivate() && !carrier.Contains(addr)
}

// covers reports whether entry is a network that contains the address.
func covers(entry, address string) bool {
	network, err := netip.ParsePrefix(entry)
	return err == nil && network.Contains(netip.MustParseAddr(address))
}

// maxSkew is what Entra allows between two clocks.
const maxSkew = 5 * time.Minute

// Clock compares this machine's time with the Date of an answer.
func Clock(answer http.Header, now time.Time) (Diagnosis, bool) {
	e := &evidence{in: Input{Header: answer}}
	if e.date().IsZero() {
		return Diagnosis{}, false
	}
	if e.skew = now.Sub(e.date()); e.skew.Abs() <= maxSkew {
		return Diagnosis{}, false
	}
	return byCause(network, "clock-off", "").diagnosis(e), true
}

// certIssuer names who signed the certificate that was not trusted.
func (e *evidence) certIssuer() string {
	unknown, _ := errors.AsType[x509.UnknownAuthorityError](e.err)
	if unknown.Cert == nil {
		return ""
	}
	return printable(unknown.Cert.Issuer.String())
}

// certNames lists the names of the certificate that did not fit.
func (e *evidence) certNames() string {
	wrong, _ := errors.AsType[x509.HostnameError](e.err)
	if wrong.Certificate == nil {
		return ""
	}
	return printable(strings.Join(wrong.Certificate.DNSNames, " "))
}

// printable keeps what a line of comment may hold, of a certificate that
// anybody may have written.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == ' ' || strings.ContainsRune("=,.*-", r) || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' {
			return r
		}
		return -1
	}, s)
	return s[:min(len(s), 200)]
}
