package azure

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// eventually waits for what happens after a client has its answer.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

func TestARequestIsRecordedAsItCame(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	// A connection of one's own, since a client library would tidy the target.
	conn, err := tls.Dial("tcp", strings.TrimPrefix(e.URL, "https://"), &tls.Config{
		RootCAs: client(t, e).Transport.(*http.Transport).TLSClientConfig.RootCAs, ServerName: "my.openai.azure.com",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const target = "//openai/deployments/gpt%2D4o%2Fx/chat/completions:odd?api-version=%32&x=a+b&x&&"
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: my.openai.azure.com\r\nAuthorization: Bearer %s\r\nX-Twice: a\r\nX-Twice: b\r\n"+
		"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", target, token(t, e, cognitive))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	got := e.Requests()[0]
	sum := sha256.Sum256([]byte("hello"))
	for name, ok := range map[string]bool{
		"target": got.Target == target, "host": got.Host == "my.openai.azure.com", "SNI": got.ServerName == "my.openai.azure.com",
		"method": got.Method == "POST", "protocol": got.Protocol == "HTTP/1.1", "length": got.ContentLength == -1,
		"headers": len(got.Header["X-Twice"]) == 2, "trailer": got.Trailer.Get("X-Sum") == "1",
		"body": string(got.Body) == "hello" && got.BodySize == 5 && got.BodyComplete, "sum": got.BodySHA256 == hex.EncodeToString(sum[:]),
		"token":  got.Token != nil && got.Token.Audience == cognitive && got.Token.AppID == DefaultPrincipal().ClientID && got.Token.Serial == 1,
		"status": got.Status == 404 && got.Sent == int64(len(notFound)), "number": got.ID == 1,
	} {
		if !ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestTheEndOfAnAnswerIsRecorded(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	do(t, client(t, e), request(t, "POST", e.URL+chatPath, token(t, e, cognitive), hello))
	eventually(t, "the answer ended", func() bool { return !e.Requests()[0].Ended.IsZero() })
	if got := e.Requests()[0]; !got.Cancelled.IsZero() || got.Cut {
		t.Errorf("an ordinary answer: %+v", got)
	}
}

func TestAClientThatGoesAwayIsRecorded(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string]Faults{
		"before the answer":          {Pace: Pace{HeadDelay: 30}},
		"in the middle of a stream":  {Pace: Pace{Chunks: 1000, ChunkDelay: 0.02}},
		"while a refusal is delayed": {Pace: Pace{HeadDelay: 30}, Resource: Resource{Network: Firewall}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := start(t, Options{Faults: faults})
			ctx, cancel := context.WithCancel(t.Context())
			r := request(t, "POST", e.URL+chatPath, token(t, e, cognitive), strings.Replace(hello, "{", `{"stream":true,`, 1)).WithContext(ctx)
			go func() {
				for len(e.Requests()) == 0 {
					time.Sleep(5 * time.Millisecond)
				}
				time.AfterFunc(100*time.Millisecond, cancel)
			}()
			if res, err := client(t, e).Do(r); err == nil {
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
			eventually(t, "the client's leaving was seen", func() bool { return !e.Requests()[0].Cancelled.IsZero() })
			eventually(t, "the answer ended", func() bool { return !e.Requests()[0].Ended.IsZero() })
		})
	}
}

func TestTheJournalIsBounded(t *testing.T) {
	t.Parallel()
	j := journal[int]{limit: 10}
	for range 1000 {
		j.append(func(id int) int { return id })
		if len(j.entries) > 20 {
			t.Fatalf("%d entries are held", len(j.entries))
		}
	}
	if got := j.latest(); len(got) != 10 || got[0] != 991 || got[9] != 1000 {
		t.Errorf("latest %v", got)
	}
	none := journal[int]{limit: -1}
	none.append(func(id int) int { return id })
	if got := none.latest(); len(got) != 0 {
		t.Errorf("a journal of none holds %v", got)
	}
	j.clear()
	if j.append(func(id int) int { return id }); len(j.latest()) != 1 || j.latest()[0] != 1001 {
		t.Errorf("after clearing: %v", j.latest())
	}
}

func TestOldRecordsForgetTheirBodies(t *testing.T) {
	t.Parallel()
	var retired []int
	j := journal[int]{retire: func(id int) { retired = append(retired, id) }}
	for range fresh + 2 {
		j.append(func(id int) int { return id })
	}
	if len(retired) != 2 || retired[1] != 2 {
		t.Errorf("retired %v", retired)
	}
	rec := newRecord(&http.Request{Header: http.Header{}, URL: &url.URL{}, Body: http.NoBody})
	rec.body.WriteString("secret")
	rec.forget()
	if got := rec.snapshot(); len(got.Body) != 0 {
		t.Errorf("body %q", got.Body)
	}
}

func TestOnlyTheBeginningOfALargeBodyIsKept(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	body := strings.Repeat("0123456789abcdef", 1<<16)
	do(t, client(t, e), request(t, "POST", e.URL+chatPath, token(t, e, cognitive), body))
	sum := sha256.Sum256([]byte(body))
	if got := e.Requests()[0]; len(got.Body) != maxKeptBody || got.BodySize != 1<<20 || got.BodySHA256 != hex.EncodeToString(sum[:]) {
		t.Errorf("%d of %d bytes kept, sum %s", len(got.Body), got.BodySize, got.BodySHA256)
	}
}
