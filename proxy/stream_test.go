package proxy

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

func TestEachEventIsPassedOnAtOnce(t *testing.T) {
	for _, contentType := range []string{"text/event-stream", "text/event-stream; charset=utf-8", "Text/Event-Stream;charset"} {
		t.Run(contentType, func(t *testing.T) {
			next := make(chan struct{})
			s := start(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", contentType)
				for i := range 5 {
					_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
					_ = http.NewResponseController(w).Flush()
					<-next
				}
			})
			res, err := s.client.Do(s.request("POST", "/x", strings.NewReader("{}")))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			lines := bufio.NewReader(res.Body)
			for i := range 5 {
				got, _ := lines.ReadString('\n')
				blank, _ := lines.ReadString('\n')
				if got != fmt.Sprintf("data: %d\n", i) || blank != "\n" {
					t.Fatalf("event %d: %q %q", i, got, blank)
				}
				next <- struct{}{} // only now does the upstream go on
			}
			if _, err := lines.ReadByte(); err != io.EOF {
				t.Errorf("the end: %v", err)
			}
		})
	}
}

func TestTheHeadOfAStreamIsPassedOnBeforeItsFirstEvent(t *testing.T) {
	hold := make(chan struct{})
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		<-hold
	})
	defer close(hold)
	res, err := s.client.Do(s.request("GET", "/x", nil)) // returns with the head
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
}

// chunked writes an answer of chunks and breaks it off without the last.
func chunked(t *testing.T, head string, pieces ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, _ := hijack(t, w)
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+head+"Transfer-Encoding: chunked\r\n\r\n")
		for _, piece := range pieces {
			_, _ = fmt.Fprintf(conn, "%x\r\n%s\r\n", len(piece), piece)
		}
	}
}

const eventStreamHead = "Content-Type: text/event-stream\r\n"

func TestABrokenStreamEndsWithAnErrorAndAnAbort(t *testing.T) {
	tests := []struct {
		name   string
		pieces []string
		events []string // that a client sees before the error
	}{
		{"before the first event", nil, nil},
		{"between two events", []string{"data: 1\n\n", "data: 2\n\n"}, []string{"1", "2"}},
		{"between two events, CRLF", []string{"data: 1\r\n\r\n"}, []string{"1"}},
		{"between two events, CR", []string{"data: 1\r\r"}, []string{"1"}},
		{"within a line", []string{"data: 1\n\n", "data: {\"cho"}, []string{"1", `{"cho`}},
		{"within a line, CRLF", []string{"data: 1\r\n\r\n", "data: {\"cho"}, []string{"1", `{"cho`}},
		{"within the name of a field", []string{"data: 1\n\n", "da"}, []string{"1"}},
		{"behind a line of an event", []string{"data: 1\n\ndata: 2\n"}, []string{"1", "2"}},
		{"behind a line of an event, CRLF", []string{"data: 1\r\n\r\ndata: 2\r\n"}, []string{"1", "2"}},
		{"within the line end CRLF", []string{"data: 1\r\n\r\ndata: 2\r"}, []string{"1", "2"}},
		{"within the event's end CRLF", []string{"data: 1\r\n\r"}, []string{"1"}},
		{"within a comment", []string{"data: 1\n\n: keep-ali"}, []string{"1"}},
		{"behind the name of an event", []string{"event: x\n"}, nil},
		{"after one byte", []string{"d"}, nil},
		{"after an empty line", []string{"\n"}, nil},
		{"byte by byte", strings.Split("data: 12\n\nda", ""), []string{"12"}},
		{"after the end's event", []string{"data: 1\n\n", "data: [DONE]\n\n"}, []string{"1", "[DONE]"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := start(t, chunked(t, eventStreamHead, test.pieces...))
			res := s.post("/x", "{}")
			if !errors.Is(res.err, io.ErrUnexpectedEOF) {
				t.Errorf("the stream ends with %v", res.err)
			}
			sent := strings.Join(test.pieces, "")
			if !strings.HasPrefix(res.body, sent) || strings.Count(res.body, brokenFrame) != 1 || !strings.HasSuffix(res.body, brokenFrame) {
				t.Errorf("the client got %q", res.body)
			}
			events := parseEvents(res.body)
			if len(events) == 0 || fmt.Sprint(events[:len(events)-1]) != fmt.Sprint(test.events) {
				t.Fatalf("the client parsed %q", events)
			}
			assertBrokenEvent(t, events[len(events)-1])
			if n := s.metric("entra_sidecar_broken_streams_total", "route", "/"); n != 1 {
				t.Errorf("%v broken streams counted", n)
			}
			if line := s.accessLog(); line["broken"] != true || line["level"] != "warn" || line["status"] != int64(200) {
				t.Errorf("logged as %v", line)
			}
		})
	}
}

func assertBrokenEvent(t *testing.T, data string) {
	t.Helper()
	var event struct {
		Error               struct{ Code, Message, Type string }
		Type, Code, Message string
	}
	if err := json.Unmarshal([]byte(data), &event); err != nil {
		t.Fatalf("%q: %v", data, err)
	}
	if event.Error.Code != "upstream_stream_broken" || event.Error.Type != "entra_sidecar_error" || event.Error.Message == "" {
		t.Errorf("the last event is %+v", event)
	}
	if event.Type != "error" || event.Code != event.Error.Code || event.Message != event.Error.Message {
		t.Errorf("to other readers than those of chat completions it is %+v", event)
	}
	assertNoTriggers(t, data)
}

// parseEvents reads a stream as a browser would: any of the three line ends,
// and an event at each empty line that follows data.
func parseEvents(stream string) (events []string) {
	stream = strings.ReplaceAll(strings.ReplaceAll(stream, "\r\n", "\n"), "\r", "\n")
	var data []string
	for line := range strings.SplitSeq(stream, "\n") {
		if value, ok := strings.CutPrefix(line, "data:"); ok {
			data = append(data, strings.TrimPrefix(value, " "))
		} else if line == "" && data != nil {
			events, data = append(events, strings.Join(data, "\n")), nil
		}
	}
	return events
}

func TestSeparator(t *testing.T) {
	for _, end := range []string{"", "\n", "\n\n", "\r\n", "\r\n\r\n", "\r", "\r\r", "x", "x\n", "x\r\n", "x\r", "x\n\n", "x\n\r\n", "xy"} {
		for _, before := range []string{"", "data: 0\n\n", "data: 0\r\n\r\n"} {
			s := &eventStream{}
			for c := range strings.SplitSeq(before+end, "") {
				s.note([]byte(c))
			}
			events := parseEvents(before + end + s.separator() + brokenFrame)
			if last := events[len(events)-1]; !strings.HasPrefix(last, `{"error"`) {
				t.Errorf("behind %q the error is %q", before+end, last)
			}
		}
	}
}

// The frame must come out whole whatever the buffer of the one who reads, and
// the end only after the client had time to take it.
func TestABrokenStreamInAnyPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(200) {
			random := rand.New(rand.NewPCG(seed, 2))
			sent := strings.Repeat("data: x\n\n", random.IntN(4)) + "data: y"[:random.IntN(8)]
			broken := 0
			s := &eventStream{
				ReadCloser: io.NopCloser(io.MultiReader(&noEnd{chunks{[]byte(sent), random}}, iotest.ErrReader(io.ErrUnexpectedEOF))),
				broken:     func() { broken++ },
			}
			var got []byte
			began := time.Now()
			for {
				p := make([]byte, 1+random.IntN(30))
				n, err := s.Read(p)
				got = append(got, p[:n]...)
				if err == nil {
					continue
				}
				if !strings.HasPrefix(string(got), sent) || !strings.HasSuffix(string(got), brokenFrame) || err != io.ErrUnexpectedEOF || broken != 1 {
					t.Fatalf("seed %d: %q, %v, broken %d times", seed, got, err, broken)
				}
				break
			}
			if took := time.Since(began); took != abortDelay {
				t.Fatalf("seed %d: the end came after %v", seed, took)
			}
		}
	})
}

// noEnd gives all of its chunks and then (0, nil), never an end of its own.
type noEnd struct{ chunks }

func (r *noEnd) Read(p []byte) (int, error) {
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	n, _ := r.chunks.Read(p)
	return n, nil
}

func TestAStreamThatEndsWellIsPassedByteForByte(t *testing.T) {
	for _, stream := range []string{
		"", "data: 1\n\ndata: [DONE]\n\n", "data: 1\r\n\r\n: comment\r\ndata: [DONE]\r\n\r\n", "data: no end",
		"\ufeffdata: ä\n\n", "data: \xff\x00\n\n", strings.Repeat("data: "+strings.Repeat("x", 5000)+"\n\n", 50),
	} {
		s := start(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, stream)
		})
		if res := s.post("/x", "{}"); res.body != stream || res.err != nil {
			t.Errorf("%.80q became %.80q, %v", stream, res.body, res.err)
		}
		if n := s.metric("entra_sidecar_broken_streams_total"); n != 0 {
			t.Errorf("%v broken streams counted", n)
		}
	}
}

func gzipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, s)
	_ = w.Close()
	return b.String()
}

func TestACompressedStreamIsLeftAlone(t *testing.T) {
	stream := gzipped("data: 1\n\ndata: 2\n\n")
	t.Run("whole", func(t *testing.T) {
		s := start(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, stream)
		})
		if res := s.post("/x", "{}"); res.body != stream || res.err != nil || res.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("%q, %v", res.body, res.err)
		}
	})
	t.Run("broken", func(t *testing.T) {
		s := start(t, chunked(t, eventStreamHead+"Content-Encoding: gzip\r\n", stream[:10]))
		if res := s.post("/x", "{}"); res.body != stream[:10] || !errors.Is(res.err, io.ErrUnexpectedEOF) {
			t.Errorf("%q, %v", res.body, res.err)
		}
		if line := s.accessLog(); line["broken"] != true || line["level"] != "warn" {
			t.Errorf("logged as %v", line)
		}
	})
}

func TestOtherBodiesCutShortDoNotLookComplete(t *testing.T) {
	json := "Content-Type: application/json\n"
	tests := map[string]string{
		"known length":                     json + "Content-Length: 100\n\n{\"choices\":[",
		"known length, valid so far":       json + "Content-Length: 100\n\n{\"choices\":[]}",
		"known length, nothing came":       json + "Content-Length: 100\n\n",
		"known length, large":              json + "Content-Length: 1000000\n\n" + strings.Repeat("x", 200_000),
		"chunked":                          json + "Transfer-Encoding: chunked\n\n5\n{\"a\":\n",
		"chunked, valid so far":            json + "Transfer-Encoding: chunked\n\n2\n{}\n",
		"chunked, within a chunk":          json + "Transfer-Encoding: chunked\n\nff\n{}",
		"chunked, nothing came":            json + "Transfer-Encoding: chunked\n\n",
		"chunked, before the trailers end": json + "Transfer-Encoding: chunked\nTrailer: X\n\n2\n{}\n0\n",
		"an image":                         "Content-Type: image/png\nContent-Length: 9\n\nxx",
		"a stream of known length":         "Content-Type: text/event-stream\nContent-Length: 99\n\ndata: 1\n\n",
	}
	for name, answer := range tests {
		t.Run(name, func(t *testing.T) {
			s := start(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				writeRaw(t, w, "HTTP/1.1 200 OK\n"+answer)
			})
			res, err := s.client.Do(s.request("POST", "/x", strings.NewReader("{}")))
			if err == nil {
				_, err = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
			if err == nil {
				t.Error("the client takes it for complete")
			}
			if line := s.accessLog(); line["broken"] != true || line["level"] != "warn" || line["status"] != int64(200) {
				t.Errorf("logged as %v", line)
			}
		})
	}
}

func TestAClientThatLeavesAStreamIsNoBrokenStream(t *testing.T) {
	over := make(chan time.Time, 1)
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, "data: 1\n\n")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(5 * time.Millisecond)
		}
		over <- time.Now()
	})
	ctx, leave := context.WithCancel(t.Context())
	res, err := s.client.Do(s.request("POST", "/x", strings.NewReader("{}")).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = res.Body.Read(make([]byte, 5))
	left := time.Now()
	leave()
	_ = res.Body.Close()
	select {
	case at := <-over:
		if took := at.Sub(left); took > time.Second {
			t.Errorf("the upstream heard of it after %v", took)
		}
	case <-time.After(5 * time.Second):
		t.Error("the upstream never heard of it")
	}
	line := s.accessLog()
	if line["status"] != int64(statusClientGone) || line["broken"] != nil || line["level"] != "info" {
		t.Errorf("logged as %v", line)
	}
	if n := s.metric("entra_sidecar_broken_streams_total"); n != 0 {
		t.Errorf("%v broken streams counted", n)
	}
	if n := s.metric("entra_sidecar_requests_total", "code", "499"); n != 1 {
		t.Errorf("%v requests counted as 499", n)
	}
}

// BenchmarkProxyStream counts one event of 150 bytes as one operation.
func BenchmarkProxyStream(b *testing.B) {
	event := "data: " + strings.Repeat("x", 142) + "\n\n"
	s := start(b, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, event)
			_ = http.NewResponseController(w).Flush()
		}
	}, func(c *setup) { c.Logger = nil })
	res, err := s.client.Do(s.request("GET", "/x", nil))
	if err != nil {
		b.Fatal(err)
	}
	defer res.Body.Close()
	b.SetBytes(int64(len(event)))
	b.ReportAllocs()
	for buf := make([]byte, len(event)); b.Loop(); {
		if _, err := io.ReadFull(res.Body, buf); err != nil {
			b.Fatal(err)
		}
	}
}
