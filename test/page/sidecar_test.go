package page

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"entra-sidecar/proxy/admin"
)

// A sidecar is the real admin handler over a state that a test makes up.
type sidecar struct {
	*httptest.Server
	handler           *admin.Handler
	requests          *prometheus.CounterVec
	inflight, tunnels *prometheus.GaugeVec
	fault             atomic.Pointer[http.HandlerFunc] // answers in the sidecar's place, if there is one

	mu      sync.Mutex
	status  admin.Status
	reasons []string
}

func startSidecar(t *testing.T, s admin.Status, reasons ...string) *sidecar {
	t.Helper()
	c := &sidecar{
		status:   s,
		reasons:  reasons,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "entra_sidecar_requests_total"}, []string{"route", "method", "code"}),
		inflight: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "entra_sidecar_inflight_requests"}, []string{"route"}),
		tunnels:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "entra_sidecar_tunnels"}, []string{"route"}),
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(c.requests, c.inflight, c.tunnels)
	c.handler = admin.New(admin.Options{Gatherer: registry, NotReady: c.notReady, Status: c.now})
	c.Server = httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.Close)
	return c
}

func (c *sidecar) serve(w http.ResponseWriter, r *http.Request) {
	if fault := c.fault.Load(); fault != nil {
		(*fault)(w, r)
		return
	}
	c.handler.ServeHTTP(w, r)
}

// fail makes the sidecar answer with f; nil mends it.
func (c *sidecar) fail(f http.HandlerFunc) {
	if f == nil {
		c.fault.Store(nil)
		return
	}
	c.fault.Store(&f)
}

func (c *sidecar) now() admin.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

func (c *sidecar) notReady() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reasons
}

// change changes what the sidecar says from now on. What the page was given
// before must not change under its hands, so f replaces lists.
func (c *sidecar) change(f func(*admin.Status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.status)
}

func (c *sidecar) answer(route string, code int, n float64) {
	c.requests.WithLabelValues(route, "POST", strconv.Itoa(code)).Add(n)
}

// live takes samples as a running sidecar does.
func (c *sidecar) live(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = c.handler.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
}

// past plays the last ten minutes: what happened on a route in each five
// seconds, by status.
func (c *sidecar) past(traffic map[string]func(sample int) map[int]float64) {
	const samples = 120
	now := time.Now()
	for i := range samples + 1 {
		for route, happened := range traffic {
			for code, n := range happened(i) {
				if n >= 1 && i > 0 {
					c.answer(route, code, math.Floor(n))
				}
			}
		}
		c.handler.Sample(now.Add(time.Duration(i-samples) * 5 * time.Second))
	}
}

// noise is the same in each run, between 0 and 1.
func noise(i, seed int) float64 {
	return math.Mod(math.Abs(math.Sin(float64(i*7919+seed*104729)))*43758.5453, 1)
}

// busy is a route with a day's ups and downs, mean requests in 5 s on average.
func busy(seed int, mean, errors float64) func(int) map[int]float64 {
	return func(i int) map[int]float64 {
		wave := 1 + .5*math.Sin(float64(i)/17+float64(seed))
		total := mean * wave * (.4 + 1.2*noise(i, seed))
		failed := 0.
		if noise(i, seed+1) < errors*8 {
			failed = total * .3
		}
		gone := 0.
		if noise(i, seed+2) > .97 {
			gone = 1
		}
		return map[int]float64{200: total - failed, 429: math.Ceil(failed), 499: gone}
	}
}

// failing begins with sample start.
func failing(code, start int, mean float64) func(int) map[int]float64 {
	return func(i int) map[int]float64 {
		n := mean * (.3 + 1.4*noise(i, 5))
		if i < start {
			return map[int]float64{200: n}
		}
		return map[int]float64{code: n}
	}
}

const scope = "https://cognitiveservices.azure.com/.default"

func ready(name, credential, source string) admin.Identity {
	now := time.Now()
	return admin.Identity{
		Name: name, Scope: scope, Credential: credential, Source: source,
		TenantID: "8c5e0f7b-3d21-4a96-b1f4-07a9d2c6e853", ClientID: "0a4c7d1e-5b93-4d5f-8f1c-6e2b9a70d3c8",
		ObjectID: "5e1c9f2a-0d47-4c38-b6a4-91f3e8d7025b", Audience: "https://cognitiveservices.azure.com",
		Ready: true, IssuedAt: now.Add(-31 * time.Minute), ExpiresAt: now.Add(54*time.Minute + 12*time.Second),
		RenewAt: now.Add(11*time.Minute + 40*time.Second), Renewals: 58,
	}
}

const federate = "az identity list --query \"[?clientId=='c3f0a1d4-27be-4e9a-9d60-58f1b7e2043c'].[name,resourceGroup]\" --output tsv\n" +
	"az identity federated-credential create --name entra-sidecar --identity-name IDENTITY --resource-group GROUP --issuer ISSUER --subject SUBJECT --audiences api://AzureADTokenExchange\n" +
	"# SUBJECT is system:serviceaccount:NAMESPACE:SERVICEACCOUNT, letter for letter; it takes effect after 1 to 5 minutes"

// serving fails to renew, with time left.
func serving(name string) admin.Identity {
	i := ready(name, "workload-identity", "WorkloadIdentityCredential")
	now := time.Now()
	i.ClientID, i.ObjectID = "c3f0a1d4-27be-4e9a-9d60-58f1b7e2043c", "b81d6e07-4f52-4a3c-8e95-2c70d9f1a6e4"
	i.IssuedAt, i.ExpiresAt = now.Add(-49*time.Minute), now.Add(18*time.Minute+5*time.Second)
	i.FailingSince, i.RenewAt = now.Add(-16*time.Minute), now.Add(21*time.Second)
	i.Failures = 41
	i.Error = "WorkloadIdentityCredential: AADSTS700213: No matching federated identity record found for presented assertion subject 'system:serviceaccount:litellm:default'"
	i.Cause, i.Remedy = "aadsts-700213", federate
	return i
}

// without never had a token.
func without() admin.Identity {
	now := time.Now()
	return admin.Identity{
		Name: "default", Scope: scope, Credential: "default",
		RenewAt: now.Add(17 * time.Second), FailingSince: now.Add(-3 * time.Minute), Failures: 9, Waits: 4,
		Error:  "no source gave a token",
		Cause:  "credential-unavailable",
		Remedy: "entra-sidecar check   # says of each source why it was passed over",
		Sources: []admin.SourceFailure{
			{Source: "EnvironmentCredential", Reason: "AZURE_TENANT_ID is not set"},
			{Source: "WorkloadIdentityCredential", Reason: "AZURE_CLIENT_ID is not set: the workload identity webhook has not changed this pod"},
			{Source: "ManagedIdentityCredential", Reason: "no answer from 169.254.169.254 within 1s"},
			{Source: "AzureCLICredential", Reason: "az is not installed"},
		},
	}
}

func missingRole(route string, ago time.Duration, count int) admin.Failure {
	return admin.Failure{
		Route: route, Cause: "missing-role", First: time.Now().Add(-ago - 4*time.Minute), Last: time.Now().Add(-ago), Count: count,
		Sentence: "The identity lacks the role that this operation needs; assign it on the resource and wait up to 30 minutes.",
		Remedy: "ID=$(az cognitiveservices account show --name contoso-realtime --resource-group GROUP --query id --output tsv)\n" +
			"az role assignment create --assignee-object-id 5e1c9f2a-0d47-4c38-b6a4-91f3e8d7025b --assignee-principal-type ServicePrincipal --role \"Cognitive Services OpenAI User\" --scope \"$ID\"\n" +
			"# It takes effect within 5 to 30 minutes, without a restart. Owner and Contributor do not include it.",
	}
}

func route(prefix, host, identity string) admin.Route {
	return admin.Route{Prefix: prefix, Upstream: "https://" + host, Identity: identity, Scope: scope}
}

// one is what most people run.
func one(t *testing.T) *sidecar {
	c := startSidecar(t, admin.Status{
		Version: "v1.0.0", Started: time.Now().Add(-29 * time.Hour),
		Routes:     []admin.Route{route("/", "contoso.openai.azure.com", "default")},
		Identities: []admin.Identity{ready("default", "default", "ManagedIdentityCredential")},
	})
	c.answer("/", 200, 48211)
	c.past(map[string]func(int) map[int]float64{"/": busy(1, 6, 0)})
	c.inflight.WithLabelValues("/").Set(3)
	return c
}

// several has a healthy, a degraded and a failing route, and one that rests.
func several(t *testing.T) *sidecar {
	c := startSidecar(t, admin.Status{
		Version: "v1.0.0", Started: time.Now().Add(-52 * time.Hour),
		Routes: []admin.Route{
			route("/eastus", "contoso-eastus.openai.azure.com", "default"),
			route("/sweden", "contoso-sweden.openai.azure.com", "team-a"),
			route("/realtime", "contoso-realtime.cognitiveservices.azure.com", "default"),
			route("/spare", "contoso-spare.openai.azure.com", "default"),
		},
		Identities: []admin.Identity{ready("default", "default", "ManagedIdentityCredential"), serving("team-a")},
		Failures:   []admin.Failure{missingRole("/realtime", 3*time.Second, 181), wrongPath("/eastus", 3*time.Hour)},
	})
	c.answer("/eastus", 200, 310442)
	c.past(map[string]func(int) map[int]float64{
		"/eastus": busy(1, 38, .004), "/sweden": busy(2, 11, .001), "/realtime": failing(401, 71, 4),
	})
	c.inflight.WithLabelValues("/eastus").Set(14)
	c.inflight.WithLabelValues("/realtime").Set(2)
	c.tunnels.WithLabelValues("/realtime").Set(2)
	return c
}

func wrongPath(route string, ago time.Duration) admin.Failure {
	return admin.Failure{
		Route: route, Cause: "wrong-path", First: time.Now().Add(-ago), Last: time.Now().Add(-ago), Count: 1,
		Sentence: "The resource knows no such path; look for a doubled /openai, a double slash, and a missing or old api-version.",
		Remedy:   "# Asked for: https://contoso-eastus.openai.azure.com/openai/openai/deployments/gpt-4o/chat/completions\n# /openai is doubled: take it out of LiteLLM's api_base",
	}
}

// down has no token at all.
func down(t *testing.T) *sidecar {
	c := startSidecar(t, admin.Status{
		Version: "v1.0.0", Started: time.Now().Add(-3 * time.Minute),
		Routes:     []admin.Route{route("/", "contoso.openai.azure.com", "default")},
		Identities: []admin.Identity{without()},
	}, "route /: no usable token for identity default")
	c.past(map[string]func(int) map[int]float64{"/": func(i int) map[int]float64 {
		if i < 100 {
			return nil
		}
		return map[int]float64{503: 2 * noise(i, 4)}
	}})
	return c
}

// many is what a large gateway has.
func many(t *testing.T) *sidecar {
	s := admin.Status{Version: "v1.0.0", Started: time.Now().Add(-12 * 24 * time.Hour)}
	traffic := make(map[string]func(int) map[int]float64)
	for i := range 40 {
		prefix := fmt.Sprintf("/region-%02d", i)
		s.Routes = append(s.Routes, route(prefix, fmt.Sprintf("contoso-%02d.openai.azure.com", i), fmt.Sprintf("team-%d", i%6)))
		traffic[prefix] = busy(i, float64(i*i%23), .001*float64(i%4))
	}
	for i := range 6 {
		s.Identities = append(s.Identities, ready(fmt.Sprintf("team-%d", i), "workload-identity", "WorkloadIdentityCredential"))
	}
	s.Identities[2] = serving("team-2")
	traffic["/region-31"] = failing(401, 40, 3)
	for i := range 30 {
		s.Failures = append(s.Failures, missingRole(fmt.Sprintf("/region-%02d", 39-i), time.Duration(i*i)*time.Minute, 3*i+1))
	}
	c := startSidecar(t, s)
	c.past(traffic)
	return c
}

// fresh has just begun.
func fresh(t *testing.T) *sidecar {
	return startSidecar(t, admin.Status{
		Version: "(devel)", Started: time.Now(),
		Routes:     []admin.Route{route("/", "contoso.openai.azure.com", "default")},
		Identities: []admin.Identity{{Name: "default", Scope: scope, Credential: "default"}},
	}, "route /: no usable token for identity default")
}

// draining ends soon.
func draining(t *testing.T) *sidecar {
	c := one(t)
	c.change(func(s *admin.Status) { s.Draining = true })
	c.reasons = []string{"draining"}
	return c
}
