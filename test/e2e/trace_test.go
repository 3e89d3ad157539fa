package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"entra-sidecar/test/azure"
)

// A spanCollector is what an OpenTelemetry collector looks like from outside.
type spanCollector struct {
	*httptest.Server
	mu    sync.Mutex
	spans []*trace.Span
}

func newSpanCollector(t *testing.T) *spanCollector {
	c := &spanCollector{}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *spanCollector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var request collector.ExportTraceServiceRequest
	if r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &request) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range request.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			c.spans = append(c.spans, scope.Spans...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (c *spanCollector) received() []*trace.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spans
}

const (
	traceID     = "0af7651916cd43dd8448eb211c80319c"
	traceparent = "00-" + traceID + "-b7ad6b7169203331-01"
)

// traced sends one request with a trace context and returns what Azure got of it.
func traced(t *testing.T, e *azure.Emulator, s *sidecar) http.Header {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+embeddingsPath+"&api-key=canary-in-the-query", strings.NewReader(`{"input":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("traceparent", traceparent)
	req.Header.Set("tracestate", "vendor=value")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatal(res.Status)
	}
	requests := e.Requests()
	return requests[len(requests)-1].Header
}

func TestARequestBecomesASpan(t *testing.T) {
	t.Parallel()
	e, c := newAzure(t, azure.Faults{}), newSpanCollector(t)
	s := startWith(t, e, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.URL, "OTEL_BSP_SCHEDULE_DELAY=100"})
	if header := traced(t, e, s); header.Get("Traceparent") != traceparent || header.Get("Tracestate") != "vendor=value" {
		t.Errorf("the trace context did not pass untouched: %v", header)
	}
	s.eventually(10*time.Second, "exported", func() bool { return len(c.received()) == 1 })
	span := c.received()[0]
	if fmt.Sprintf("%x", span.TraceId) != traceID || span.Name != "POST /" {
		t.Errorf("span %q of trace %x", span.Name, span.TraceId)
	}
	text := span.String()
	for _, want := range []string{"http.route", "http.response.status_code", "entra_sidecar.time_to_first_byte", "entra_sidecar.token_age"} {
		if !strings.Contains(text, want) {
			t.Errorf("the span has no %s", want)
		}
	}
	if strings.Contains(text, "canary") || strings.Contains(text, "eyJ") {
		t.Errorf("the span tells too much: %s", text)
	}
}

func TestWithoutACollectorTheTraceContextPassesAllTheSame(t *testing.T) {
	t.Parallel()
	e := newAzure(t, azure.Faults{})
	s := startReady(t, e)
	if header := traced(t, e, s); header.Get("Traceparent") != traceparent || header.Get("Tracestate") != "vendor=value" {
		t.Errorf("the trace context did not pass untouched: %v", header)
	}
}

func TestAProtocolThatIsNotBuiltInIsRefused(t *testing.T) {
	t.Parallel()
	e := newAzure(t, azure.Faults{})
	s := run(t, e, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"})
	if code := s.exitCode(10 * time.Second); code == 0 || !strings.Contains(s.log.String(), "http/protobuf") {
		t.Errorf("exit code %d: %s", code, s.log.String())
	}
}
