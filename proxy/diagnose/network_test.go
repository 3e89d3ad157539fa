package diagnose

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func proxyTo(address string) func(*http.Request) (*url.URL, error) {
	return func(*http.Request) (*url.URL, error) { return url.Parse(address) }
}

// get asks a URL by the transport and returns the error.
func get(t *testing.T, transport *http.Transport, target string) error {
	t.Helper()
	t.Cleanup(transport.CloseIdleConnections)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err == nil {
		res.Body.Close()
	}
	return err
}

// deaf is a listener that never accepts; closed is an address without one.
func deaf(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func closed(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func secure(t *testing.T) (server *httptest.Server, trusting *x509.CertPool) {
	t.Helper()
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	trusting = x509.NewCertPool()
	trusting.AddCert(server.Certificate())
	return server, trusting
}

func TestFailuresOfTheNetworkHaveTheirCauses(t *testing.T) {
	for _, tt := range []struct {
		cause  string
		fail   func(*testing.T) error
		remedy string
	}{
		{"connection-refused", func(t *testing.T) error {
			return get(t, &http.Transport{}, "https://"+closed(t))
		}, "getent hosts my.openai.azure.com"},
		{"connection-timeout", func(t *testing.T) error {
			return get(t, &http.Transport{DialContext: (&net.Dialer{Timeout: time.Nanosecond}).DialContext}, "https://"+deaf(t))
		}, "HTTPS_PROXY="},
		{"connection-timeout", func(t *testing.T) error {
			return get(t, &http.Transport{TLSHandshakeTimeout: 20 * time.Millisecond}, "https://"+deaf(t))
		}, "HTTPS_PROXY="},
		{"certificate-unknown-authority", func(t *testing.T) error {
			server, _ := secure(t)
			return get(t, &http.Transport{}, server.URL)
		}, "issued by: O=Acme Co"},
		{"certificate-wrong-name", func(t *testing.T) error {
			server, pool := secure(t)
			return get(t, &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "my.privatelink.openai.azure.com"}}, server.URL)
		}, "certificate is for: example.com"},
		{"proxy-refused", func(t *testing.T) error {
			proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
			t.Cleanup(proxy.Close)
			return get(t, &http.Transport{Proxy: proxyTo(proxy.URL), OnProxyConnectResponse: OnProxyConnect}, "https://my.openai.azure.com")
		}, "NO_PROXY=$NO_PROXY,my.openai.azure.com"},
		{"proxy-unreachable", func(t *testing.T) error {
			return get(t, &http.Transport{Proxy: proxyTo("http://" + closed(t))}, "https://my.openai.azure.com")
		}, "grep -i _proxy"},
		{"dns-not-found", func(*testing.T) error {
			return &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "my.openai.azure.com", IsNotFound: true}}
		}, "--name my "},
		{"dns-failed", func(*testing.T) error {
			return &net.OpError{Op: "dial", Err: &net.DNSError{Err: "i/o timeout", Name: "my.openai.azure.com", IsTimeout: true}}
		}, "/etc/resolv.conf"},
		{"network-unreachable", func(*testing.T) error {
			return fmt.Errorf("proxy: %w", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)})
		}, "HTTPS_PROXY="},
	} {
		t.Run(tt.cause, func(t *testing.T) {
			err := tt.fail(t)
			d, ok := Network(err, "my.openai.azure.com")
			if !ok || d.Cause != tt.cause || d.Class != ClassNetwork || d.Auth {
				t.Fatalf("%v, %+v for %v", ok, d, err)
			}
			if !strings.Contains(d.Remedy, tt.remedy) {
				t.Errorf("no %q in\n%s", tt.remedy, d.Remedy)
			}
			if e := (evidence{message: err.Error()}); !e.says(byCause(network, tt.cause, "").Phrases...) {
				t.Errorf("the documentation does not have the words of %v", err)
			}
		})
	}
}

func TestOtherErrorsHaveNoCause(t *testing.T) {
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(slow.Close)
	for name, err := range map[string]error{
		"none":                nil,
		"a client that left":  context.Canceled,
		"a deadline":          context.DeadlineExceeded,
		"the mere words":      errors.New("connection refused: no such host: certificate signed by unknown authority"),
		"an answer too slow":  get(t, &http.Transport{ResponseHeaderTimeout: 20 * time.Millisecond}, slow.URL),
		"a connection broken": &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)},
		"a read too slow":     &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded},
	} {
		if d, ok := Network(err, "my.openai.azure.com"); ok {
			t.Errorf("%s: %s for %v", name, d.Cause, err)
		}
	}
}

func TestAProxyThatConnectsIsNoError(t *testing.T) {
	if err := OnProxyConnect(t.Context(), nil, nil, &http.Response{StatusCode: 200}); err != nil {
		t.Error(err)
	}
	err := OnProxyConnect(t.Context(), nil, nil, &http.Response{StatusCode: 407})
	if refused, ok := errors.AsType[ProxyRefused](err); !ok || refused.Status != 407 || !strings.Contains(err.Error(), "407") {
		t.Errorf("%v", err)
	}
}

func TestHostsThatCannotServeTokens(t *testing.T) {
	for host, cause := range map[string]string{
		"eastus.api.cognitive.microsoft.com":       "custom-subdomain-required",
		"EastUS.api.cognitive.microsoft.com:443":   "custom-subdomain-required",
		"usgovvirginia.api.cognitive.microsoft.us": "custom-subdomain-required",
		"chinaeast2.api.cognitive.azure.cn":        "custom-subdomain-required",
		"eastus.api.cognitive.microsoft.com.evil":  "",
		"my.privatelink.openai.azure.com":          "privatelink-host",
		"my.openai.azure.com":                      "",
		"my.cognitiveservices.azure.com":           "",
		"api.cognitive.microsoft.com":              "",
		"privatelink.example.com":                  "",
		"127.0.0.1:8443":                           "",
	} {
		d, ok := Host(host)
		if d.Cause != cause || ok != (cause != "") || ok && d.Class != ClassEndpoint {
			t.Errorf("%s: %v %+v", host, ok, d)
		}
	}
	d, _ := Host("my.privatelink.openai.azure.com")
	if !strings.Contains(d.Remedy, "=https://my.openai.azure.com ") {
		t.Errorf("remedy\n%s", d.Remedy)
	}
}

func TestPrivateLinkNames(t *testing.T) {
	for host, want := range map[string]string{
		"my.openai.azure.com":             "my.privatelink.openai.azure.com",
		"my.openai.azure.us:443":          "my.privatelink.openai.azure.us",
		"my.services.ai.azure.com":        "my.privatelink.services.ai.azure.com",
		"my.privatelink.openai.azure.com": "my.privatelink.openai.azure.com",
		"gateway.example.com":             "",
		"":                                "",
	} {
		if got := PrivateLinkName(host); got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
}

func TestAPrivateEndpointMustNotResolveToAPublicAddress(t *testing.T) {
	for addresses, wrong := range map[string]bool{
		"20.1.2.3":              true,
		"10.0.0.4 20.1.2.3":     true,
		"2603:1030::1":          true,
		"::ffff:20.1.2.3":       true,
		"10.0.0.4":              false,
		"172.16.3.4 fd00::1":    false,
		"::ffff:10.0.0.4":       false,
		"100.64.0.9":            false,
		"127.0.0.1 169.254.1.1": false,
		"":                      false,
	} {
		var addrs []netip.Addr
		for a := range strings.FieldsSeq(addresses) {
			addrs = append(addrs, netip.MustParseAddr(a))
		}
		d, ok := PrivateLink("my.openai.azure.com", addrs)
		if ok != wrong {
			t.Errorf("%s: %v", addresses, ok)
		}
		if ok && (d.Cause != "private-link-public-address" || !strings.Contains(d.Remedy, "resolves to "+addresses+"\n") ||
			!strings.Contains(d.Remedy, "--zone-name privatelink.openai.azure.com ")) {
			t.Errorf("%+v", d)
		}
	}
}

func TestAClockMoreThanFiveMinutesOffIsTold(t *testing.T) {
	for _, tt := range []struct {
		name string
		off  time.Duration
		want bool
	}{
		{"right", 0, false},
		{"five minutes fast", 5 * time.Minute, false},
		{"five minutes slow", -5 * time.Minute, false},
		{"fast", 5*time.Minute + time.Second, true},
		{"slow", -2 * time.Hour, true},
	} {
		d, ok := Clock(http.Header{"Date": {now.Format(http.TimeFormat)}}, now.Add(tt.off))
		if ok != tt.want || ok && (d.Cause != "clock-off" || !strings.Contains(d.Remedy, tt.off.Abs().String())) {
			t.Errorf("%s: %v %+v", tt.name, ok, d)
		}
	}
	for _, header := range []http.Header{nil, {"Date": {"yesterday"}}} {
		if _, ok := Clock(header, now); ok {
			t.Errorf("%v is taken for a time", header)
		}
	}
}

func TestTheNamesInACertificateCannotLeaveTheirLine(t *testing.T) {
	if got := printable("CN=x\n$(reboot) `y` *.example.com"); got != "CN=xreboot y *.example.com" {
		t.Errorf("%q", got)
	}
	if got := printable(strings.Repeat("é", 10) + strings.Repeat("x", 300)); len(got) != 200 {
		t.Errorf("%d bytes", len(got))
	}
}
