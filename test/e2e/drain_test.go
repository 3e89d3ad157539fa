package e2e

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"entra-sidecar/test/azure"
)

// beginStream returns when the first event has arrived.
func beginStream(t *testing.T, s *sidecar) (*http.Response, *bufio.Reader) {
	t.Helper()
	res, err := post(t.Context(), s.url+chatPath, chat("one two three four five", true))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	body := bufio.NewReader(res.Body)
	if _, err := body.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return res, body
}

func TestADrainLetsAStreamFinishAndExitsWithZero(t *testing.T) {
	t.Parallel()
	e := newAzure(t, azure.Faults{Pace: azure.Pace{Chunks: 20, ChunkDelay: .1}})
	s := startReady(t, e)
	_, stream := beginStream(t, s)

	s.terminate()
	s.eventually(5*time.Second, "not ready", func() bool { return s.status(s.admin+"/readyz") == http.StatusServiceUnavailable })
	if conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://")); err == nil {
		conn.Close()
		t.Error("a new connection was accepted during the drain")
	}
	rest, err := io.ReadAll(stream)
	if err != nil || !strings.Contains(string(rest), "data: [DONE]") {
		t.Errorf("the stream did not finish: %v", err)
	}
	if code := s.exitCode(5 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestADrainEndsAfterItsTimeout(t *testing.T) {
	t.Parallel()
	e := newAzure(t, azure.Faults{Pace: azure.Pace{Chunks: 1000, ChunkDelay: .1}})
	s := startReady(t, e, "--drain-timeout", "1s")
	_, stream := beginStream(t, s)
	s.terminate()
	if code := s.exitCode(5 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if rest, err := io.ReadAll(stream); err == nil || strings.Contains(string(rest), "[DONE]") {
		t.Error("a stream that was cut looks complete")
	}
}

func TestASecondSignalExitsAtOnce(t *testing.T) {
	t.Parallel()
	e := newAzure(t, azure.Faults{Pace: azure.Pace{Chunks: 1000, ChunkDelay: .1}})
	s := startReady(t, e)
	beginStream(t, s)
	s.terminate()
	s.eventually(5*time.Second, "draining", func() bool { return s.status(s.admin+"/readyz") == http.StatusServiceUnavailable })
	s.terminate()
	if code := s.exitCode(3 * time.Second); code == 0 {
		t.Error("a forced end looks like an orderly one")
	}
}

func TestADrainTellsWebSocketsToGoAway(t *testing.T) {
	t.Parallel()
	e := newAzure(t, azure.Faults{})
	s := startReady(t, e)
	ws, _, err := websocket.Dial(t.Context(), s.url+realtimePath, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	if _, _, err := ws.Read(t.Context()); err != nil { // session.created
		t.Fatal(err)
	}
	if got := s.metric("entra_sidecar_tunnels"); got != 1 {
		t.Errorf("%v tunnels, want 1", got)
	}
	s.terminate()
	_, _, err = ws.Read(t.Context())
	var closed websocket.CloseError
	if !errors.As(err, &closed) || closed.Code != websocket.StatusGoingAway {
		t.Errorf("the client was told %v", err)
	}
	if code := s.exitCode(10 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestAPortInUse(t *testing.T) {
	t.Parallel()
	e := newAzure(t, azure.Faults{})
	first := startReady(t, e)
	second := start(t, e, "--listen", strings.TrimPrefix(first.url, "http://"))
	if code := second.exitCode(5 * time.Second); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(second.log.String(), "in use") {
		t.Errorf("the message does not say what is wrong: %s", second.log.String())
	}
}
