package azure

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

const previewRealtime = "/openai/realtime?api-version=2024-10-01-preview&deployment=gpt-4o-realtime-preview"

// dial opens a realtime session; the error tells Azure's refusal.
func dial(t *testing.T, e *Emulator, path, bearer string, o websocket.DialOptions) (*websocket.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	o.HTTPClient = client(t, e)
	if o.HTTPHeader == nil {
		o.HTTPHeader = http.Header{}
	}
	if bearer != "" {
		o.HTTPHeader.Set("Authorization", "Bearer "+bearer)
	}
	ws, res, err := websocket.Dial(ctx, "wss"+strings.TrimPrefix(e.URL, "https")+path, &o)
	if err != nil {
		if res == nil {
			return nil, err
		}
		return nil, fmt.Errorf("status %d", res.StatusCode)
	}
	ws.SetReadLimit(-1)
	t.Cleanup(func() { _ = ws.CloseNow() })
	return ws, nil
}

func say(t *testing.T, ws *websocket.Conn, message string) {
	t.Helper()
	if err := ws.Write(t.Context(), websocket.MessageText, []byte(message)); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, ws *websocket.Conn) object {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, data, err := ws.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var o object
	if err := json.Unmarshal(data, &o); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestARealtimeSession(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ path, reply, created, delta string }{
		"preview": {previewRealtime, "gpt-4o-realtime-preview heard: hi", "conversation.item.created", "response.text.delta"},
		"GA":      {"/openai/v1/realtime?model=gpt-realtime", "gpt-realtime heard: hi", "conversation.item.added", "response.output_text.delta"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := start(t, Options{})
			ws, err := dial(t, e, tc.path, token(t, e, cognitive), websocket.DialOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got := hear(t, ws); got["type"] != "session.created" {
				t.Errorf("first %v", got)
			}
			say(t, ws, `{"type":"session.update","session":{"voice":"alloy"}}`)
			if got := hear(t, ws); dig(got, "session", "voice") != "alloy" {
				t.Errorf("updated %v", got)
			}
			say(t, ws, `{"type":"conversation.item.create","item":{"type":"message","role":"user","content":[{"type":"input_text","text":"hi"}]}}`)
			if got := hear(t, ws); got["type"] != tc.created {
				t.Errorf("item %v", got)
			}
			say(t, ws, `{"type":"response.create"}`)
			text := ""
			for {
				got := hear(t, ws)
				if delta, ok := got["delta"].(string); ok && got["type"] == tc.delta {
					text += delta
				}
				if got["type"] == "response.done" {
					break
				}
			}
			if text != tc.reply {
				t.Errorf("text %q", text)
			}
			say(t, ws, `{"type":"input_audio_buffer.append","audio":""}`)
			say(t, ws, `{"type":"nonsense"}`)
			if got := hear(t, ws); got["type"] != "error" {
				t.Errorf("nonsense: %v", got)
			}
			say(t, ws, `no JSON`)
			if got := hear(t, ws); got["type"] != "error" {
				t.Errorf("no JSON: %v", got)
			}
			if r := e.Requests()[0]; r.Status != http.StatusSwitchingProtocols || !r.Ended.IsZero() {
				t.Errorf("recorded %+v", r)
			}
			if err := ws.Close(websocket.StatusNormalClosure, "bye"); err != nil {
				t.Error(err)
			}
			eventually(t, "the session ended", func() bool { return !e.Requests()[0].Ended.IsZero() })
		})
	}
}

func TestBinaryFramesComeBack(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	ws, err := dial(t, e, previewRealtime, token(t, e, cognitive), websocket.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	hear(t, ws)
	large := bytes.Repeat([]byte{0, 1, 2, 0xff}, 1<<18)
	for _, frame := range [][]byte{{}, {0}, large} {
		if err := ws.Write(t.Context(), websocket.MessageBinary, frame); err != nil {
			t.Fatal(err)
		}
		kind, got, err := ws.Read(t.Context())
		if err != nil || kind != websocket.MessageBinary || !bytes.Equal(got, frame) {
			t.Errorf("%v frame of %d bytes for %d, %v", kind, len(got), len(frame), err)
		}
	}
	if err := ws.Ping(ws.CloseRead(t.Context())); err != nil {
		t.Errorf("ping: %v", err)
	}
}

func TestASessionEndsTheWayThatIsAsked(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		faults  Faults
		message string
		want    websocket.StatusCode // -1: no close frame
	}{
		"with a code":              {Faults{}, `{"type":"emulator.close","code":4001,"reason":"enough"}`, 4001},
		"without a close frame":    {Faults{}, `{"type":"emulator.abort"}`, -1},
		"by a cut after one event": {Faults{Azure: []Rule{{Cut: &Cut{After: 1}}}}, `{"type":"response.create"}`, -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := start(t, Options{Faults: tc.faults})
			ws, err := dial(t, e, previewRealtime, token(t, e, cognitive), websocket.DialOptions{})
			if err != nil {
				t.Fatal(err)
			}
			hear(t, ws)
			say(t, ws, tc.message)
			if _, _, err := ws.Read(t.Context()); websocket.CloseStatus(err) != tc.want {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestTheHandshakeIsJudgedLikeAnyRequest(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	for name, tc := range map[string]struct {
		path   string
		bearer string
		header http.Header
		want   string
	}{
		"no credential":          {previewRealtime, "", nil, "status 401"},
		"a dummy key":            {previewRealtime, good, http.Header{"Api-Key": {"sidecar"}}, "status 401"},
		"a dummy key as bearer":  {"/openai/v1/realtime?model=gpt-realtime", "sidecar", nil, "status 401"},
		"no api-version":         {"/openai/realtime?deployment=gpt-4o-realtime-preview", good, nil, "status 404"},
		"no deployment":          {"/openai/realtime?api-version=2024-10-01-preview", good, nil, "status 404"},
		"an unknown model on GA": {"/openai/v1/realtime?model=missing", good, nil, "status 404"},
	} {
		t.Run(name, func(t *testing.T) {
			bearer := tc.bearer
			if bearer == good {
				bearer = token(t, e, cognitive)
			}
			if _, err := dial(t, e, tc.path, bearer, websocket.DialOptions{HTTPHeader: tc.header}); err == nil || err.Error() != tc.want {
				t.Errorf("%v, want %s", err, tc.want)
			}
		})
	}
	if a := do(t, client(t, e), request(t, "GET", e.URL+previewRealtime, token(t, e, cognitive), "")); a.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("no handshake: %d", a.StatusCode)
	}
}

func TestSubprotocolsAreAgreedOn(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	for name, tc := range map[string]struct {
		offer []string
		want  string
	}{
		"none":                    {nil, ""},
		"realtime":                {[]string{"realtime", "openai-beta.realtime-v1"}, "realtime"},
		"another":                 {[]string{"openai-beta.realtime-v1"}, "openai-beta.realtime-v1"},
		"never one with a secret": {[]string{"openai-insecure-api-key.x", "realtime"}, "realtime"},
	} {
		t.Run(name, func(t *testing.T) {
			ws, err := dial(t, e, previewRealtime, token(t, e, cognitive), websocket.DialOptions{Subprotocols: tc.offer})
			if err != nil || ws.Subprotocol() != tc.want {
				t.Errorf("%v, %v", ws, err)
			}
		})
	}
}
