package azure

import (
	"encoding/json"
	"net/http"
)

// events is an answer of server-sent events.
type events struct {
	x    *exchange
	sent int
	over bool // nothing more may be sent
}

// events begins a stream. Azure ends its header early, so the header is
// flushed with the first event only.
func (x *exchange) events() *events {
	x.begin(http.StatusOK, "text/event-stream; charset=utf-8")
	return &events{x: x}
}

// send sends one event whose data is JSON, named unless name is empty.
func (s *events) send(name string, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // only our own types are sent
	}
	s.raw(name, data)
}

// raw sends data as one event, each but the first after the pace's delay, or
// breaks off where the rule says.
func (s *events) raw(name string, data []byte) {
	if s.over {
		return
	}
	if s.sent > 0 {
		s.x.sleep(s.x.pace.ChunkDelay)
	}
	event := make([]byte, 0, len(data)+len(name)+24)
	if name != "" {
		event = append(append(append(event, "event: "...), name...), '\n')
	}
	event = append(append(append(event, "data: "...), data...), "\n\n"...)
	if cut := s.x.rule.Cut; cut != nil && s.sent >= cut.After {
		s.over = true
		if cut.InsideEvent {
			s.x.w.Write(event[:len(event)/2])
		}
		s.x.cut()
		return
	}
	s.sent++
	s.x.w.Write(event)
	s.x.flush()
	s.over = s.x.r.Context().Err() != nil
}

// done sends the mark that ends OpenAI's streams.
func (s *events) done() { s.raw("", []byte("[DONE]")) }
