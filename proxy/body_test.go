package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

func bodyOf(src io.Reader, length, limit, room int64) *body {
	return newBody(&http.Request{Body: io.NopCloser(src), ContentLength: length}, limit, &budget{max: room})
}

func TestABodyCanBeReadAgainFromItsBeginning(t *testing.T) {
	b := bodyOf(strings.NewReader("0123456789"), 10, 10, 10)
	first := b.open(nil)
	half := make([]byte, 5)
	_, _ = io.ReadFull(first, half)
	_ = first.Close()
	for range 3 {
		r, err := b.reopen(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); string(got) != "0123456789" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	b.forget()
	if _, err := b.reopen(nil); err == nil {
		t.Error("read again after it was forgotten")
	}
	if used := b.budget.used.Load(); used != 0 {
		t.Errorf("%d bytes still used", used)
	}
}

func TestABodyIsHeldWithinItsLimits(t *testing.T) {
	tests := []struct {
		name                string
		length, limit, room int64
		read                int
		held                bool
	}{
		{"within the limit", 10, 10, 10, 10, true},
		{"within the limit, chunked", -1, 10, 10, 10, true},
		{"announced over the limit", 11, 10, 20, 0, false},
		{"over the limit, chunked", -1, 9, 20, 10, false},
		{"not yet over the limit, chunked", -1, 9, 20, 9, true},
		{"over the budget", 10, 10, 9, 0, false},
		{"over the budget, chunked", -1, 10, 9, 10, false},
		{"nothing may be held", 10, 0, 20, 0, false},
		{"nothing may be held, chunked", -1, 0, 20, 1, false},
		{"nothing there to be held", 0, 0, 0, 0, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := bodyOf(iotest.OneByteReader(strings.NewReader("0123456789")), test.length, test.limit, test.room)
			_, _ = io.ReadFull(b.open(nil), make([]byte, test.read))
			if _, err := b.reopen(nil); (err == nil) != test.held {
				t.Errorf("reopen: %v", err)
			}
			if used := b.budget.used.Load(); used > test.room || !test.held && used != 0 {
				t.Errorf("%d of %d bytes used", used, test.room)
			}
			b.release()
			if used := b.budget.used.Load(); used != 0 {
				t.Errorf("%d bytes used at the end", used)
			}
		})
	}
}

func TestAReaderThatIsClosedTakesNothingAway(t *testing.T) {
	client, sender := io.Pipe()
	b := bodyOf(client, -1, 100, 100)
	first := b.open(nil)
	result := make(chan error)
	go func() {
		n, err := first.Read(make([]byte, 10))
		result <- fmt.Errorf("%d, %w", n, err)
	}()
	second, err := b.reopen(nil)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first reader to wait", func() bool {
		if b.reading.TryLock() {
			b.reading.Unlock()
			return false
		}
		return true
	})
	_ = first.Close()
	go func() {
		_, _ = io.WriteString(sender, "abc")
		_, _ = io.WriteString(sender, "def")
		_ = sender.Close()
	}()
	if err := <-result; !errors.Is(err, errBodyClosed) || !strings.HasPrefix(err.Error(), "0,") {
		t.Errorf("the closed reader: %v", err)
	}
	if got, err := io.ReadAll(second); string(got) != "abcdef" || err != nil {
		t.Errorf("the second reader: %q, %v", got, err)
	}
}

func TestWhatAReplayHasYetToReadStaysUntilItHas(t *testing.T) {
	for name, finish := range map[string]func(io.ReadCloser){
		"read":   func(r io.ReadCloser) { _, _ = io.Copy(io.Discard, r) },
		"closed": func(r io.ReadCloser) { _ = r.Close() },
	} {
		b := bodyOf(strings.NewReader("0123456789"), 10, 10, 10)
		_, _ = io.Copy(io.Discard, b.open(nil))
		replay, err := b.reopen(nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadFull(replay, make([]byte, 3))
		b.forget()
		if used := b.budget.used.Load(); used != 10 {
			t.Errorf("%s: %d bytes used before", name, used)
		}
		finish(replay)
		if used := b.budget.used.Load(); used != 0 {
			t.Errorf("%s: %d bytes used after", name, used)
		}
	}
}

func TestEachAttemptHasItsOwnTrailers(t *testing.T) {
	request := &http.Request{ContentLength: -1, Trailer: http.Header{"X-Sum": nil, "Authorization": nil}}
	request.Body = io.NopCloser(&trailing{Reader: strings.NewReader("{}"), request: request})
	b := newBody(request, 100, &budget{max: 100})
	first, second := b.newTrailer(), b.newTrailer()
	var readers sync.WaitGroup
	for _, trailer := range []http.Header{first, second} {
		readers.Go(func() {
			for range trailer { // as the transport does when it writes the head
			}
			_, _ = io.Copy(io.Discard, b.open(trailer))
		})
	}
	readers.Wait()
	for _, trailer := range []http.Header{first, second} {
		if len(trailer) != 1 || trailer.Get("X-Sum") != "7" {
			t.Errorf("trailers: %v", trailer)
		}
	}
}

// trailing sets its request's trailers at the end, as net/http's server does.
type trailing struct {
	io.Reader
	request *http.Request
}

func (r *trailing) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == io.EOF {
		for name, value := range map[string]string{"X-Sum": "7", "Authorization": "canary", "X-Unannounced": "8"} {
			r.request.Trailer[name] = []string{value}
		}
	}
	return n, err
}

// Whatever happens to a body, no reader gets other bytes than the client sent,
// none gets a false end, and the budget is neither exceeded nor leaked.
func TestBodiesUnderRandomUse(t *testing.T) {
	for seed := range uint64(500) {
		random := rand.New(rand.NewPCG(seed, 1))
		sent := make([]byte, random.IntN(200))
		for i := range sent {
			sent[i] = byte(i)
		}
		broken := random.IntN(4) == 0
		src := io.Reader(&chunks{data: sent, random: random})
		if broken {
			src = io.MultiReader(src, iotest.ErrReader(io.ErrUnexpectedEOF))
		}
		length := int64(len(sent))
		if random.IntN(2) == 0 {
			length = -1
		}
		if err := useRandomly(random, bodyOf(src, length, random.Int64N(250), random.Int64N(250)), sent, broken); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func useRandomly(random *rand.Rand, b *body, sent []byte, broken bool) error {
	type reading struct {
		io.ReadCloser
		got []byte
	}
	readers := []*reading{{ReadCloser: b.open(nil)}}
	for range 100 {
		r := readers[random.IntN(len(readers))]
		switch random.IntN(20) {
		case 0:
			_ = r.Close()
		case 1:
			if again, err := b.reopen(nil); err == nil {
				readers = append(readers, &reading{ReadCloser: again})
			}
		case 2:
			if random.IntN(10) == 0 {
				b.forget()
			}
		default:
			p := make([]byte, 1+random.IntN(50))
			n, err := r.Read(p)
			r.got = append(r.got, p[:n]...)
			if !bytes.HasPrefix(sent, r.got) {
				return fmt.Errorf("a reader got %v of %v", r.got, sent)
			}
			if err == io.EOF && (broken || len(r.got) < len(sent)) {
				return fmt.Errorf("a reader came to an end after %d of %d bytes", len(r.got), len(sent))
			}
		}
		if used := b.budget.used.Load(); used > b.budget.max || used != b.taken || int64(len(b.held)) > used {
			return fmt.Errorf("%d bytes held, %d taken, %d of %d used", len(b.held), b.taken, used, b.budget.max)
		}
	}
	b.release()
	if n, err := readers[0].Read(make([]byte, 1)); n != 0 || err == nil {
		return errors.New("a reader reads after the request is over")
	}
	if used := b.budget.used.Load(); used != 0 {
		return fmt.Errorf("%d bytes used at the end", used)
	}
	return nil
}

// chunks gives its data in pieces of any size, and its end with or after the last.
type chunks struct {
	data   []byte
	random *rand.Rand
}

func (c *chunks) Read(p []byte) (int, error) {
	n := min(len(p), len(c.data), 1+c.random.IntN(40))
	copy(p, c.data[:n])
	c.data = c.data[n:]
	if len(c.data) == 0 && (n == 0 || c.random.IntN(2) == 0) {
		return n, io.EOF
	}
	return n, nil
}
