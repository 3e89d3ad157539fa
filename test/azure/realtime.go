package azure

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// maxFrame is the longest message that a realtime session takes, in bytes.
const maxFrame = 64 << 20

// session is one realtime WebSocket. It reads and writes in turn, which is all
// that a scripted model needs.
type session struct {
	x      *exchange
	ws     *websocket.Conn
	names  realtimeNames
	prompt string // of the latest user item
	sent   int    // events
}

// realtimeNames are the words in which the preview and the GA protocol differ.
type realtimeNames struct{ itemCreated, textDelta, textDone, text string }

func namesOf(version versioning) realtimeNames {
	if version == v1 {
		return realtimeNames{"conversation.item.added", "response.output_text.delta", "response.output_text.done", "output_text"}
	}
	return realtimeNames{"conversation.item.created", "response.text.delta", "response.text.done", "text"}
}

// realtime serves both the preview path, whose deployment is in the query, and
// the GA path, which calls it model.
func realtime(x *exchange) {
	query := x.r.URL.Query()
	if !x.findDeployment(orElse(query.Get("deployment"), query.Get("model"))) {
		return
	}
	x.begin(http.StatusSwitchingProtocols, "")
	ws, err := websocket.Accept(x.w, x.r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, // the resource takes any Origin: a credential is needed anyway
		Subprotocols:       offered(x.r),
	})
	if err != nil {
		return // Accept has answered
	}
	defer ws.CloseNow()
	ws.SetReadLimit(maxFrame)
	s := &session{x: x, ws: ws, names: namesOf(x.op.version)}
	s.run()
}

// offered are the subprotocols that may be agreed on: what the client offers,
// "realtime" first, except those that are credentials in disguise.
func offered(r *http.Request) []string {
	names := []string{"realtime"}
	for _, header := range r.Header.Values("Sec-Websocket-Protocol") {
		for name := range strings.SplitSeq(header, ",") {
			if name = strings.TrimSpace(name); !strings.Contains(name, "api-key") {
				names = append(names, name)
			}
		}
	}
	return names
}

func (s *session) run() {
	s.send("session.created", object{"session": object{
		"id": newID("sess_"), "object": "realtime.session", "model": s.x.model, "modalities": []string{"text", "audio"},
	}})
	for {
		kind, data, err := s.ws.Read(context.Background()) // ends when either side closes
		if err != nil {
			return
		}
		if kind == websocket.MessageBinary {
			if s.ws.Write(context.Background(), kind, data) != nil {
				return
			}
			continue
		}
		if !s.obey(data) {
			return
		}
	}
}

// clientEvent is what a client may say. The emulator's own events let a test
// choose how the session ends.
type clientEvent struct {
	Type    string `json:"type"`
	Session object `json:"session"`
	Item    struct {
		Role    string  `json:"role"`
		Content content `json:"content"`
	} `json:"item"`
	Code   websocket.StatusCode `json:"code"`   // of emulator.close
	Reason string               `json:"reason"` // of emulator.close
}

// obey answers one text message and reports whether the session goes on.
func (s *session) obey(data []byte) bool {
	var e clientEvent
	if err := json.Unmarshal(data, &e); err != nil {
		return s.send("error", object{"error": object{"type": "invalid_request_error", "message": "The message is not JSON."}})
	}
	switch e.Type {
	case "session.update":
		return s.send("session.updated", object{"session": orEmpty(e.Session)})
	case "conversation.item.create":
		s.prompt = string(e.Item.Content)
		return s.send(s.names.itemCreated, object{"item": object{
			"id": newID("item_"), "object": "realtime.item", "type": "message", "role": e.Item.Role, "status": "completed",
			"content": []object{{"type": "input_text", "text": s.prompt}},
		}})
	case "response.create":
		return s.respond()
	case "input_audio_buffer.append":
		return true // Azure says nothing until the buffer is committed
	case "emulator.close":
		return s.ws.Close(e.Code, e.Reason) != nil
	case "emulator.abort":
		return false // without a close frame
	}
	return s.send("error", object{"error": object{"type": "invalid_request_error", "message": "Unknown event type: " + e.Type}})
}

// respond is the model's turn.
func (s *session) respond() bool {
	id, item := newID("resp_"), newID("item_")
	text := Reply(s.x.model, s.prompt)
	response := object{"id": id, "object": "realtime.response", "status": "in_progress", "output": []object{}}
	where := object{"response_id": id, "item_id": item, "output_index": 0, "content_index": 0}
	s.send("response.created", object{"response": response})
	for _, piece := range s.x.pace.pieces(text) {
		s.x.sleep(s.x.pace.ChunkDelay)
		s.send(s.names.textDelta, with(where, object{"delta": piece}))
	}
	s.send(s.names.textDone, with(where, object{"text": text}))
	return s.send("response.done", object{"response": with(response, object{
		"status": "completed", "output": []object{{
			"id": item, "object": "realtime.item", "type": "message", "role": "assistant", "status": "completed",
			"content": []object{{"type": s.names.text, "text": text}},
		}},
	})})
}

// send sends one event and reports whether the session goes on. A rule's Cut
// ends it without a close frame.
func (s *session) send(name string, fields object) bool {
	if cut := s.x.rule.Cut; cut != nil && s.sent >= cut.After {
		s.x.rec.update(func(v *Request) { v.Cut = true })
		_ = s.ws.CloseNow()
		return false
	}
	s.sent++
	data, err := json.Marshal(with(fields, object{"type": name, "event_id": newID("event_")}))
	if err != nil {
		panic(err) // only our own types are sent
	}
	return s.ws.Write(context.Background(), websocket.MessageText, data) == nil
}

// ephemeralKeys are the short-lived bearers that let a browser call in over
// WebRTC.
type ephemeralKeys struct {
	mu      sync.Mutex
	expires map[string]time.Time
}

const ephemeralLife = time.Minute

func (k *ephemeralKeys) issue() (value string, expires time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.expires == nil {
		k.expires = map[string]time.Time{}
	}
	value, expires = newID("ek_"), time.Now().Add(ephemeralLife)
	k.expires[value] = expires
	return value, expires
}

func (k *ephemeralKeys) valid(value string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Now().Before(k.expires[value])
}

func clientSecrets(x *exchange) {
	sent, ok := x.fields()
	if !ok {
		return
	}
	value, expires := x.emulator.ephemeral.issue()
	inner, _ := sent["session"].(object)
	x.json(http.StatusOK, object{
		"value": value, "expires_at": expires.Unix(),
		"session": with(orEmpty(inner), object{"id": newID("sess_"), "object": "realtime.session"}),
	})
}

// realtimeCall answers an SDP offer. No media ever flows.
func realtimeCall(x *exchange) {
	if !x.rule.Early {
		_, _ = io.Copy(io.Discard, x.r.Body)
	}
	x.w.Header().Set("Location", "https://"+x.r.Host+"/openai/v1/realtime/calls/"+newID("rtc_"))
	x.send(http.StatusCreated, "application/sdp", []byte("v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"))
}
