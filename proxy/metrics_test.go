package proxy

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The names and labels are a contract: dashboards and alerts are written on them.
func TestMetricsHaveTheDocumentedNamesAndLabels(t *testing.T) {
	s := start(t, fails(401, badToken))
	s.post("/x", "{}")
	got := map[string]string{}
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		var labels []string
		for _, pair := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, pair.GetName())
		}
		got[family.GetName()] = strings.ToLower(family.GetType().String()) + " " + strings.Join(labels, " ")
		if family.GetHelp() == "" {
			t.Errorf("%s has no help", family.GetName())
		}
	}
	want := map[string]string{
		"entra_sidecar_requests_total":               "counter code method route",
		"entra_sidecar_request_duration_seconds":     "histogram route",
		"entra_sidecar_time_to_first_byte_seconds":   "histogram route",
		"entra_sidecar_inflight_requests":            "gauge route",
		"entra_sidecar_tunnels":                      "gauge route",
		"entra_sidecar_token_replays_total":          "counter route",
		"entra_sidecar_upstream_auth_failures_total": "counter cause route",
		"entra_sidecar_broken_streams_total":         "counter route",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEveryRouteHasItsSeriesFromTheStart(t *testing.T) {
	s := start(t, (&recorder{}).ServeHTTP, func(c *setup) {
		east, west := c.Route, c.Route
		east.Prefix, west.Prefix = "/east", "/west"
		c.Routes = []Route{east, west}
	})
	exposed := s.exposition()
	for _, name := range []string{"inflight_requests", "tunnels", "token_replays_total", "broken_streams_total", "request_duration_seconds_count", "time_to_first_byte_seconds_count"} {
		for _, route := range []string{"/east", "/west"} {
			if line := fmt.Sprintf("entra_sidecar_%s{route=%q} 0\n", name, route); !strings.Contains(exposed, line) {
				t.Errorf("no %s", line)
			}
		}
	}
}

func TestNoLabelIsTheClientsToFill(t *testing.T) {
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Apim-Request-Id", "canary")
		w.WriteHeader(http.StatusTeapot)
	}, func(c *setup) { c.Route.Prefix, c.Guard.Loopback = "/east", false })
	for _, request := range []string{
		"GET /east/canary?canary=canary HTTP/1.1\nHost: canary\nUser-Agent: canary\nX-Canary: canary\n\n",
		"CANARY /east/x HTTP/1.1\nHost: canary\n\n",
		"get /east/x HTTP/1.1\nHost: canary\n\n",
		"GET /canary HTTP/1.1\nHost: canary\n\n",
		"CANARY /canary HTTP/1.1\nHost: canary\n\n",
		"POST http://canary/canary HTTP/1.1\nHost: canary\nOrigin: canary\n\n",
		"OPTIONS /east/openai/deployments/canary HTTP/1.1\nHost: canary\n\n",
	} {
		s.raw(request)
	}
	if exposed := s.exposition(); strings.Contains(strings.ToLower(exposed), "canary") {
		t.Errorf("the metrics say %s", exposed)
	}
	got := map[string]bool{}
	families, _ := s.registry.Gather()
	for _, family := range families {
		for _, m := range family.GetMetric() {
			for _, pair := range m.GetLabel() {
				got[pair.GetName()+"="+pair.GetValue()] = true
			}
		}
	}
	want := []string{"code=400", "code=403", "code=418", "method=GET", "method=OPTIONS", "method=POST", "method=other", "route=", "route=/east"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(got))); diff != "" {
		t.Error(diff)
	}
}

func TestWhatARequestCounts(t *testing.T) {
	inside := make(chan float64, 1)
	var s *sidecar
	s = start(t, func(w http.ResponseWriter, r *http.Request) {
		inside <- s.metric("entra_sidecar_inflight_requests", "route", "/")
		if r.Method == "POST" {
			_, _ = io.WriteString(w, "answer")
		}
	})
	s.post("/x", "{}")
	if n := <-inside; n != 1 {
		t.Errorf("%v in flight during the request", n)
	}
	s.do(s.request("HEAD", "/x", nil))
	<-inside
	eventually(t, "both to be counted", func() bool { return s.metric("entra_sidecar_requests_total", "route", "/", "code", "200") == 2 })
	for name, want := range map[string]float64{
		"entra_sidecar_request_duration_seconds":   2,
		"entra_sidecar_time_to_first_byte_seconds": 1, // HEAD has no body
		"entra_sidecar_inflight_requests":          0,
	} {
		if got := s.metric(name, "route", "/"); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

func TestTheAccessLogTellsOneRequest(t *testing.T) {
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Apim-Request-Id", "its-id")
		_, _ = io.WriteString(w, "answer")
	}, func(c *setup) { c.Route.Prefix = "/east" })
	s.post("/east/a%2Fb?api-version=1", "{}")
	line := s.accessLog()
	for _, measured := range []string{"duration", "first_byte"} {
		if line[measured] == nil {
			t.Errorf("no %s", measured)
		}
		delete(line, measured)
	}
	want := map[string]any{
		"level": "info", "method": "POST", "path": "/east/a%2Fb", "route": "/east", "status": int64(200), "bytes": int64(6),
		"azure_request_id": "its-id",
	}
	if diff := cmp.Diff(want, line); diff != "" {
		t.Error(diff)
	}
	if n := s.logs.FilterMessage("request").Len(); n != 1 {
		t.Errorf("%d lines", n)
	}
}
