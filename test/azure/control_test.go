package azure

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestTheControlAPI(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	c := client(t, e)
	control := func(method, path, body string, status int) string {
		t.Helper()
		a := do(t, http.DefaultClient, request(t, method, e.ControlURL+path, "", body))
		if a.StatusCode != status {
			t.Errorf("%s %s: %d %s", method, path, a.StatusCode, a.body)
		}
		return a.body
	}
	chat := func() int {
		t.Helper()
		return do(t, c, request(t, "POST", e.URL+chatPath, token(t, e, cognitive), hello)).StatusCode
	}

	if help := control("GET", "/", "", 200); !strings.Contains(help, "PUT    /faults") {
		t.Errorf("help %s", help)
	}
	if env := control("GET", "/env", "", 200); !slices.Equal(strings.Fields(env), e.Env()) {
		t.Errorf("env %s", env)
	}
	control("PUT", "/faults", `{"resource":{"network":"firewall"}}`, 204)
	if got := chat(); got != 403 {
		t.Errorf("with a firewall: %d", got)
	}
	if faults := control("GET", "/faults", "", 200); !strings.Contains(faults, `"network": "firewall"`) {
		t.Errorf("faults %s", faults)
	}
	if said := control("PUT", "/faults", `{"resource":{"network":"firewal"}}`, 400); !strings.Contains(said, "not one of firewall") {
		t.Errorf("a mistake: %s", said)
	}
	control("DELETE", "/faults", "", 200)
	control("POST", "/faults/timeout", "", 204)
	if got := chat(); got != 408 {
		t.Errorf("with a timeout: %d", got)
	}
	control("POST", "/faults/nope", "", 400)
	control("DELETE", "/faults", "", 200)
	if got := chat(); got != 200 {
		t.Errorf("without faults: %d", got)
	}
	var names []string
	if err := json.Unmarshal([]byte(control("GET", "/fault-names", "", 200)), &names); err != nil || !slices.Equal(names, FaultNames()) {
		t.Errorf("names %v", names)
	}

	bearer := token(t, e, cognitive)
	control("POST", "/rotate-keys", "", 204)
	control("POST", "/revoke", "", 204)
	if a := do(t, c, request(t, "POST", e.URL+chatPath, bearer, hello)); a.StatusCode != 401 {
		t.Errorf("revoked: %d", a.StatusCode)
	}

	var requests []Request
	if err := json.Unmarshal([]byte(control("GET", "/requests?after=3", "", 200)), &requests); err != nil || len(requests) != 1 || requests[0].ID != 4 || string(requests[0].Body) != hello {
		t.Errorf("requests %+v, %v", requests, err)
	}
	control("DELETE", "/requests", "", 204)
	if got := control("GET", "/requests", "", 200); strings.TrimSpace(got) != "[]" {
		t.Errorf("after forgetting: %s", got)
	}
	issued(t, e, cognitive)
	var tokens []TokenRequest
	if err := json.Unmarshal([]byte(control("GET", "/token-requests", "", 200)), &tokens); err != nil || len(tokens) != 1 {
		t.Errorf("token requests %+v, %v", tokens, err)
	}
	control("DELETE", "/token-requests", "", 204)
	if got := e.TokenRequests(); len(got) != 0 {
		t.Errorf("after forgetting: %v", got)
	}
}

func TestWebPagesCannotReachTheControlAPI(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	r := request(t, "POST", e.ControlURL+"/revoke", "", "")
	r.Header.Set("Origin", "https://page.example")
	if a := do(t, http.DefaultClient, r); a.StatusCode != http.StatusForbidden {
		t.Errorf("answer %d", a.StatusCode)
	}
}
