package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// A body that nobody read must not make net/http panic at the connection's next
// request, which is what full duplex does to it.
func TestAnAnswerThatNeededNoBodyLeavesTheConnectionInOrder(t *testing.T) {
	early := func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusForbidden)
	}
	for name, change := range map[string]func(*setup){
		"the sidecar has no token":         func(c *setup) { c.Route.Tokens = &tokens{err: errors.New("no token today")} },
		"Azure answers before it has read": func(*setup) {},
		"Azure cannot be reached": func(c *setup) {
			c.Upstream = roundTripperFunc(func(*http.Request) (*http.Response, error) { return nil, errors.New("no way") })
		},
		"the body is larger than what fits": func(c *setup) { c.ReplayLimit = 1 },
		"the body is not held for a replay": func(c *setup) { c.ReplayLimit, c.ReplayBudget = 0, 0 },
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, early, change)
			w := s.dial()
			for i := range 5 {
				w.send(fmt.Sprintf("POST /x HTTP/1.1\nHost: localhost\nContent-Length: %d\n\n", 20_000) + strings.Repeat("b", 20_000))
				if res := w.answer("POST"); res.StatusCode < 400 {
					t.Fatalf("request %d: %s", i, res.Status)
				}
			}
			for _, entry := range s.logs.All() {
				if strings.Contains(fmt.Sprint(entry.Message, entry.ContextMap()), "panic") {
					t.Fatal(entry.Message)
				}
			}
		})
	}
}

type roundTripperFunc func(*http.Request) (*http.Response, error)

func (f roundTripperFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
