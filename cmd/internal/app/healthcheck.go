package app

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"entra-sidecar/config"
)

// healthcheckTimeout is shorter than that of Docker's HEALTHCHECK and of
// Kubernetes's probes as they are commonly set.
const healthcheckTimeout = 2 * time.Second

type healthcheckCommand struct{}

// Run fails with code 1 whatever is wrong: Docker reserves the others.
func (healthcheckCommand) Run(ctx context.Context, e env) error {
	if err := ready(ctx, e.sources); err != nil {
		return &exitError{exitFailure, err}
	}
	_, err := fmt.Fprintln(e.stdout, "ready")
	return err
}

// ready asks the admin listener.
func ready(ctx context.Context, s config.Sources) error {
	address, err := config.AdminListen(s)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+reachable(address)+"/readyz", nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true} // and neither proxies nor redirects
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("nobody answers at admin.listen: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		reason, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
		return fmt.Errorf("not ready (%s): %s", response.Status, strings.TrimSpace(string(reason)))
	}
	return nil
}

// reachable returns where to ask a listener, which may listen on all interfaces.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip, ipErr := netip.ParseAddr(host); err == nil && (host == "" || ipErr == nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
		if ip.Is6() {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port)
}
