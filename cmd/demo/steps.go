package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"entra-sidecar/test/azure"
)

const (
	apiVersion     = "2024-10-21"
	chatPath       = "/openai/deployments/gpt-4o/chat/completions?api-version=" + apiVersion
	embeddingsPath = "/openai/deployments/text-embedding-3-small/embeddings?api-version=" + apiVersion
	realtimePath   = "/openai/realtime?api-version=2024-10-01-preview&deployment=gpt-4o-realtime-preview"

	// signature is what users of LiteLLM find in their logs.
	signature = "Access denied due to invalid subscription key or wrong API endpoint"
)

type object = map[string]any

func question(text string) object {
	return object{"model": "gpt-4o", "messages": []object{{"role": "user", "content": text}}}
}

// send makes a request as LiteLLM does: with a dummy key, since it wants one.
func (d *demo) send(ctx context.Context, method, url string, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, content)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("api-key", "sidecar")
	return d.client.Do(req)
}

// post returns status and body.
func (d *demo) post(ctx context.Context, url string, body any) (int, string, error) {
	res, err := d.send(ctx, http.MethodPost, url, body)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	return res.StatusCode, string(answer), err
}

func (d *demo) withoutSidecar(ctx context.Context) error {
	status, answer, err := d.post(ctx, d.azure.URL+chatPath, question("Say hello."))
	if err != nil {
		return err
	}
	d.show.refused(status, answer)
	if status != http.StatusUnauthorized || !strings.Contains(answer, signature) {
		return errors.New("this should have been Azure's 401")
	}
	d.show.remark("LiteLLM reports it as litellm.AuthenticationError: AzureException AuthenticationError")
	return nil
}

func (d *demo) throughSidecar(ctx context.Context) error {
	status, answer, err := d.post(ctx, d.sidecar+chatPath, question("Say hello."))
	if err != nil {
		return err
	}
	var completion struct {
		Choices []struct{ Message struct{ Content string } }
	}
	if err := json.Unmarshal([]byte(answer), &completion); err != nil || status != http.StatusOK || len(completion.Choices) == 0 {
		return fmt.Errorf("status %d: %s", status, answer)
	}
	d.show.answered(status, completion.Choices[0].Message.Content)

	sent := d.azure.Requests()
	last := sent[len(sent)-1]
	if last.Header.Get("Api-Key") != "" || last.Token == nil {
		return errors.New("the dummy key reached Azure, or no token did")
	}
	d.show.remark("Azure saw no key, but a token for " + last.Token.Audience + ", object id " + last.Token.ObjectID)
	return nil
}

func (d *demo) streamed(ctx context.Context) error {
	d.azure.Set(func(f *azure.Faults) { f.Pace = azure.Pace{HeadDelay: .12, ChunkDelay: .04} })
	defer d.azure.Set(func(f *azure.Faults) { f.Pace = azure.Pace{} })

	body := question("Tell me, word by word, what a sidecar does.")
	body["stream"] = true
	started := time.Now()
	res, err := d.send(ctx, http.MethodPost, d.sidecar+chatPath, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	d.show.beginStream(res.StatusCode)
	first, err := d.printDeltas(res.Body)
	d.show.endStream()
	if err != nil {
		return err
	}
	total := time.Since(started)
	d.show.remark(fmt.Sprintf("first byte after %d ms, the last after %d ms", first.Sub(started).Milliseconds(), total.Milliseconds()))
	if first.Sub(started) > total/2 {
		return errors.New("the answer came in one piece, not as a stream")
	}
	return nil
}

// printDeltas shows the text as it arrives and returns when the first of it did.
func (d *demo) printDeltas(body io.Reader) (first time.Time, err error) {
	events := bufio.NewScanner(body)
	for events.Scan() {
		data, ok := strings.CutPrefix(events.Text(), "data: ")
		if !ok {
			continue
		}
		if first.IsZero() {
			first = time.Now()
		}
		if data == "[DONE]" {
			return first, nil
		}
		var chunk struct {
			Choices []struct{ Delta struct{ Content string } }
		}
		if err := json.Unmarshal([]byte(data), &chunk); err != nil {
			return first, err
		}
		if len(chunk.Choices) > 0 { // Azure's first event has none
			d.show.delta(chunk.Choices[0].Delta.Content)
		}
	}
	return first, errors.New("the stream ended without [DONE]")
}

func (d *demo) embeddings(ctx context.Context) error {
	status, answer, err := d.post(ctx, d.sidecar+embeddingsPath, object{"input": []string{"a sidecar", "a token"}})
	if err != nil {
		return err
	}
	var list struct {
		Data []struct{ Embedding []float64 }
	}
	if err := json.Unmarshal([]byte(answer), &list); err != nil || status != http.StatusOK || len(list.Data) != 2 {
		return fmt.Errorf("status %d: %s", status, answer)
	}
	d.show.answered(status, fmt.Sprintf("2 vectors of %d dimensions", len(list.Data[0].Embedding)))
	return nil
}

func (d *demo) realtime(ctx context.Context) error {
	ws, res, err := websocket.Dial(ctx, d.sidecar+realtimePath, &websocket.DialOptions{
		HTTPHeader: http.Header{"Api-Key": {"sidecar"}},
	})
	if err != nil {
		return err
	}
	defer ws.CloseNow()
	for _, event := range []object{
		{"type": "conversation.item.create", "item": object{"type": "message", "role": "user", "content": []object{{"type": "input_text", "text": "Hello?"}}}},
		{"type": "response.create"},
	} {
		if err := wsjson.Write(ctx, ws, event); err != nil {
			return err
		}
	}
	var kinds []string
	for !slices.Contains(kinds, "response.done") {
		var event struct{ Type string }
		if err := wsjson.Read(ctx, ws, &event); err != nil {
			return fmt.Errorf("after %v: %w", kinds, err)
		}
		if !slices.Contains(kinds, event.Type) {
			kinds = append(kinds, event.Type)
		}
	}
	d.show.answered(res.StatusCode, strings.Join([]string{kinds[0], "…", kinds[len(kinds)-1]}, " "))
	return ws.Close(websocket.StatusNormalClosure, "")
}

// rotationWorkers send one request after the other, with a pause in between.
const (
	rotationWorkers = 4
	rotationPause   = 5 * time.Millisecond
)

// rotation keeps sending while tokens are replaced.
func (d *demo) rotation(ctx context.Context) error {
	length := rotationLife.Duration() * 3 / 2 // renewal is due at half of a life
	d.show.remark(fmt.Sprintf("requests without a pause for %.0f s, with tokens that live for %.0f s", length.Seconds(), float64(rotationLife)))
	before, err := d.tokenWaits(ctx)
	if err != nil {
		return err
	}
	seen := len(d.azure.Requests())
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	sent, failed := d.traffic(ctx)

	after, err := d.tokenWaits(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	used := map[uint64]int{}
	for _, r := range d.azure.Requests()[min(seen, len(d.azure.Requests())):] {
		if r.Token != nil {
			used[r.Token.Serial]++
		}
	}
	d.show.facts(
		fmt.Sprintf("%d requests", sent), fmt.Sprintf("%d failed", failed),
		fmt.Sprintf("%d tokens", len(used)),
		fmt.Sprintf("%g requests waited for a token", after-before),
	)
	if failed > 0 || len(used) < 2 || after != before {
		return errors.New("a rotation should go unnoticed")
	}
	return nil
}

func (d *demo) traffic(ctx context.Context) (sent, failed int64) {
	var all, bad atomic.Int64
	var workers sync.WaitGroup
	for range rotationWorkers {
		workers.Go(func() {
			for ctx.Err() == nil {
				status, _, err := d.post(context.WithoutCancel(ctx), d.sidecar+embeddingsPath, object{"input": "x", "dimensions": 8})
				all.Add(1)
				if err != nil || status != http.StatusOK {
					bad.Add(1)
				}
				time.Sleep(rotationPause)
			}
		})
	}
	workers.Wait()
	return all.Load(), bad.Load()
}

// tokenWaits reads the sidecar's own count of requests that waited for a token.
func (d *demo) tokenWaits(ctx context.Context) (float64, error) {
	res, err := d.send(ctx, http.MethodGet, d.admin+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "entra_sidecar_token_waits_total{") {
			var waits float64
			_, value, _ := strings.Cut(lines.Text(), "} ")
			_, err := fmt.Sscan(value, &waits)
			return waits, err
		}
	}
	return 0, errors.New("the sidecar has no metric entra_sidecar_token_waits_total")
}
