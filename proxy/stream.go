package proxy

import (
	"context"
	"errors"
	"io"
	"time"
)

// brokenFrame is the last event of a stream that Azure did not finish. OpenAI's
// clients raise an error event, while several versions of LiteLLM take a stream
// that just ends for a complete answer. "error" is what readers of chat
// completions look for; what follows makes the event one of the Responses API
// and of Claude's as well.
const brokenFrame = `data: {"error":{"code":"upstream_stream_broken","message":"` + brokenMessage + `","type":"entra_sidecar_error"},` +
	`"type":"error","code":"upstream_stream_broken","message":"` + brokenMessage + `","param":null}` + "\n\n"

const brokenMessage = "The connection to Azure broke in the middle of this answer. What has arrived is incomplete."

// abortDelay passes between that event and the end of the connection: clients
// such as aiohttp throw away what they have not read when a connection dies.
const abortDelay = 100 * time.Millisecond

// An eventStream passes server-sent events on. When its source fails, it first
// gives an event that says so and then the failure, upon which the connection
// is cut, so that no truncated answer passes for a whole one.
type eventStream struct {
	io.ReadCloser
	broken func() // called once, when the source fails

	tail  [2]byte // the last two bytes that were given
	last  []byte  // what remains of the final event
	cause error
}

// Read implements [io.Reader].
func (s *eventStream) Read(p []byte) (int, error) {
	if s.cause != nil {
		n := copy(p, s.last)
		s.last = s.last[n:]
		if n == 0 {
			time.Sleep(abortDelay)
			return 0, s.cause
		}
		return n, nil
	}
	n, err := s.ReadCloser.Read(p)
	s.note(p[:n])
	if err == nil || err == io.EOF || errors.Is(err, context.Canceled) { // cancelled: the client is gone
		return n, err
	}
	s.cause, s.last = err, []byte(s.separator()+brokenFrame)
	s.broken()
	return n, nil
}

func (s *eventStream) note(p []byte) {
	if len(p) > 1 {
		s.tail[0] = p[len(p)-2]
	} else if len(p) == 1 {
		s.tail[0] = s.tail[1]
	}
	if len(p) > 0 {
		s.tail[1] = p[len(p)-1]
	}
}

// separator ends the line and the event that the failure interrupted, so that
// the final event stands alone. One empty line too many is nothing to a reader.
func (s *eventStream) separator() string {
	if s.tail == [2]byte{} || s.tail == [2]byte{'\n', '\n'} {
		return ""
	}
	return "\n\n"
}
