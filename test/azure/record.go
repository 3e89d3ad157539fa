package azure

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Request is what the Azure side received, and how it ended.
type Request struct {
	ID         int         `json:"id"` // counts from 1 in order of arrival
	Time       time.Time   `json:"time"`
	Protocol   string      `json:"protocol"`
	ServerName string      `json:"server_name,omitzero"` // SNI; empty when the client dialled an address
	Remote     string      `json:"remote"`               // tells connections apart
	Method     string      `json:"method"`
	Target     string      `json:"target"` // the request target byte for byte, query included
	Host       string      `json:"host"`
	Header     http.Header `json:"header"`
	Trailer    http.Header `json:"trailer,omitzero"`

	ContentLength int64  `json:"content_length"` // as announced; -1 when it was not
	BodySize      int64  `json:"body_size"`      // bytes read so far
	BodySHA256    string `json:"body_sha256"`    // of these, in hex
	BodyComplete  bool   `json:"body_complete"`  // its end was seen
	Body          []byte `json:"body,omitzero"`  // the first 64 KiB, of the latest 1,000 requests; base64 in JSON

	Token  *TokenClaims `json:"token,omitzero"`  // of a bearer that this emulator issued
	Status int          `json:"status,omitzero"` // 0 while unanswered
	Sent   int64        `json:"sent"`            // bytes of the answer's body
	// Ended is when the answer ended, well or not; zero while it runs.
	Ended time.Time `json:"ended,omitzero"`
	// Cancelled is when the client went away before the answer ended.
	Cancelled time.Time `json:"cancelled,omitzero"`
	// Cut is set when a fault broke the answer off.
	Cut bool `json:"cut,omitzero"`
}

const (
	maxKeptBody  = 64 << 10 // bytes of a body that a record keeps
	defaultLimit = 10_000   // entries that a journal keeps
	fresh        = 1000     // entries that a journal keeps in full
)

// journal holds the latest entries of one kind. The lock is held to append and
// to copy, never while a request is answered.
type journal[T any] struct {
	limit  int     // 0 means defaultLimit, negative none
	retire func(T) // makes an entry smaller that is no longer fresh; may be nil

	mu      sync.Mutex
	seen    int // entries ever appended
	entries []T
}

// append adds what entry returns for its number, which counts from 1.
func (j *journal[T]) append(entry func(id int) T) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seen++
	limit := orElse(j.limit, defaultLimit)
	added := entry(j.seen)
	if limit < 0 {
		return
	}
	// Half as many again are let in before the oldest go, so that an append
	// costs the same however full the journal is.
	if len(j.entries) >= limit+limit/2+1 {
		j.entries = slices.Delete(j.entries, 0, len(j.entries)-limit+1)
	}
	j.entries = append(j.entries, added)
	if old := len(j.entries) - 1 - fresh; old >= 0 && j.retire != nil {
		j.retire(j.entries[old])
	}
}

// latest copies the kept entries, oldest first.
func (j *journal[T]) latest() []T {
	j.mu.Lock()
	defer j.mu.Unlock()
	limit := max(0, orElse(j.limit, defaultLimit))
	return slices.Clone(j.entries[max(0, len(j.entries)-limit):])
}

func (j *journal[T]) clear() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = nil
}

// record is a Request in the making. Its own lock lets it be read while the
// exchange still runs.
type record struct {
	mu   sync.Mutex
	view Request
	sum  hash.Hash
	body bytes.Buffer
}

// newRecord begins the record of r.
func newRecord(r *http.Request) *record {
	rec := &record{sum: sha256.New(), view: Request{
		Time: time.Now(), Protocol: r.Proto, Remote: r.RemoteAddr, Method: r.Method, Target: r.RequestURI,
		Host: r.Host, Header: r.Header.Clone(), ContentLength: r.ContentLength,
	}}
	if r.TLS != nil {
		rec.view.ServerName = r.TLS.ServerName
	}
	rec.view.BodyComplete = r.Body == http.NoBody
	return rec
}

// watchBody returns a copy of r whose body accounts for itself. It is a copy
// because net/http looks at the type of its own request's body to decide
// whether to read on before it answers.
func (rec *record) watchBody(r *http.Request) *http.Request {
	watched := r.WithContext(r.Context())
	watched.Body = &recordedBody{ReadCloser: r.Body, r: r, rec: rec}
	return watched
}

// snapshot is the request as far as it is known now.
func (rec *record) snapshot() Request {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	view := rec.view
	view.BodySHA256 = hex.EncodeToString(rec.sum.Sum(nil))
	view.Body = slices.Clone(rec.body.Bytes())
	return view
}

// forget lets go of the body, but not of its size and sum.
func (rec *record) forget() {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.body = bytes.Buffer{}
}

func (rec *record) update(change func(*Request)) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	change(&rec.view)
}

// watch notes when ctx ends before the returned function is called, which is
// how net/http tells that the client has gone.
func (rec *record) watch(ctx context.Context) (end func()) {
	stop := context.AfterFunc(ctx, func() {
		rec.update(func(v *Request) { v.Cancelled = time.Now() })
	})
	return func() {
		stop()
		rec.update(func(v *Request) { v.Ended = time.Now() })
	}
}

type recordedBody struct {
	io.ReadCloser
	r   *http.Request // the original, which is where trailers appear
	rec *record
}

func (b *recordedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.rec.mu.Lock()
	defer b.rec.mu.Unlock()
	b.rec.sum.Write(p[:n])
	b.rec.view.BodySize += int64(n)
	if room := maxKeptBody - b.rec.body.Len(); room > 0 {
		b.rec.body.Write(p[:min(n, room)])
	}
	if err == io.EOF {
		b.rec.view.BodyComplete = true
		b.rec.view.Trailer = b.r.Trailer.Clone()
	}
	return n, err
}

// recordedWriter notes the status and the size of an answer.
type recordedWriter struct {
	http.ResponseWriter
	rec *record
}

// Unwrap lets http.ResponseController and the WebSocket upgrade reach the connection.
func (w *recordedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recordedWriter) WriteHeader(status int) {
	w.rec.update(func(v *Request) { v.Status = status })
	w.ResponseWriter.WriteHeader(status)
}

func (w *recordedWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.rec.update(func(v *Request) {
		v.Status = orElse(v.Status, http.StatusOK)
		v.Sent += int64(n)
	})
	return n, err
}
