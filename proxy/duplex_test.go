package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// golang/go#40747: when the head and the body of a request arrive apart and the
// answer streams, net/http's server may close the request's body while the
// transport still reads it, which cuts the answer.
func TestNoStreamIsCutWhenHeadAndBodyArriveApart(t *testing.T) {
	const clients, each, events = 10, 40, 5
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range events {
			_, _ = fmt.Fprintf(w, "data: {\"n\":%d}\n\n", i)
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	})
	var cut sync.Map
	var all sync.WaitGroup
	for range clients {
		w := s.dial()
		all.Go(func() {
			for i := range each {
				body := strings.Repeat("x", 100)
				_, _ = io.WriteString(w, "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n")
				time.Sleep(time.Duration(i%4) * time.Millisecond)
				_, _ = io.WriteString(w, body)
				res, err := http.ReadResponse(w.in, nil)
				if err != nil {
					cut.Store(fmt.Sprintf("%p/%d", w, i), err)
					return
				}
				answer, err := io.ReadAll(res.Body)
				if err != nil || strings.Count(string(answer), "data: ") != events+1 || !strings.HasSuffix(string(answer), "[DONE]\n\n") {
					cut.Store(fmt.Sprintf("%p/%d", w, i), fmt.Sprint(err, ": ", string(answer)))
					return
				}
			}
		})
	}
	all.Wait()
	cut.Range(func(_, why any) bool {
		t.Errorf("a stream was cut: %v", why)
		return true
	})
	if n := s.metric("entra_sidecar_requests_total", "code", "200"); n != clients*each {
		t.Errorf("%v requests counted", n)
	}
}

func TestARequestStreamsToTheUpstreamWhileTheAnswerStreamsBack(t *testing.T) {
	for _, framing := range []string{"chunked", "known length"} {
		t.Run(framing, func(t *testing.T) {
			s := start(t, echoLines)
			w := s.dial()
			if framing == "chunked" {
				w.send("POST /x HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n\n")
			} else {
				w.send("POST /x HTTP/1.1\nHost: localhost\nContent-Length: 50\n\n")
			}
			var res *http.Response
			var lines *bufio.Scanner
			for i := range 10 {
				line := fmt.Sprintf("line%d", i)
				if framing == "chunked" {
					w.send("5\n" + line + "\n")
				} else {
					w.send(line)
				}
				if res == nil {
					var err error
					if res, err = http.ReadResponse(w.in, nil); err != nil {
						t.Fatal(err)
					}
					lines = bufio.NewScanner(res.Body)
				}
				if !lines.Scan() || lines.Text() != line { // before the next one is sent
					t.Fatalf("%q, want %q: %v", lines.Text(), line, lines.Err())
				}
			}
			if framing == "chunked" {
				w.send("0\n\n")
			}
			if lines.Scan() || lines.Err() != nil {
				t.Errorf("more: %q, %v", lines.Text(), lines.Err())
			}
		})
	}
}

// echoLines sends every five bytes back as a line, as soon as they come.
func echoLines(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	_ = rc.EnableFullDuplex()
	for buf := make([]byte, 5); ; {
		if _, err := io.ReadFull(r.Body, buf); err != nil {
			return
		}
		_, _ = fmt.Fprintf(w, "%s\n", buf)
		_ = rc.Flush()
	}
}

// An answer may come, whole, long before the request's body does.
func TestAnAnswerThatDoesNotWaitForTheBody(t *testing.T) {
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		_, _ = io.WriteString(w, "too large")
	})
	w := s.dial()
	w.send("POST /x HTTP/1.1\nHost: localhost\nContent-Length: 100000000\n\nbegin")
	res := w.answer("POST")
	if res.StatusCode != 413 || res.body != "too large" || res.err != nil {
		t.Errorf("status %d, %q, %v", res.StatusCode, res.body, res.err)
	}
}

func TestALargeBodyPassesWithoutBeingHeld(t *testing.T) {
	const size = 20 << 20
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, n, err)
	})
	for _, length := range []int64{size, -1} {
		r := s.request("POST", "/x", io.LimitReader(zeros{}, size))
		r.ContentLength = length
		if res := s.do(r); res.body != fmt.Sprint(size, nil) {
			t.Errorf("length %d: the upstream read %s", length, res.body)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
