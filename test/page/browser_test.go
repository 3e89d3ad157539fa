package page

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// A browser is a running Chromium, spoken to over a pipe in its DevTools
// protocol: JSON messages, each ended by a zero byte. The part that is needed
// here is this file, which is less than any of the libraries for it.
type browser struct {
	commands io.Writer

	mu      sync.Mutex
	lastID  int
	replies map[int]chan reply
	tabs    map[string]*tab // by session
}

type reply struct {
	Result json.RawMessage
	Error  *struct{ Message string }
}

type message struct {
	ID        int
	SessionID string
	Method    string
	Params    json.RawMessage
	reply
}

// startBrowser skips the test where there is no Chromium, but not in CI: there
// the page must be looked at.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	switch {
	case err != nil && os.Getenv("CI") == "true":
		t.Fatal("no chromium in CI: install Debian's package chromium")
	case err != nil:
		t.Skip("no chromium here: install Debian's package chromium to test the page in a browser")
	}
	theirIn, ourOut := pipe(t)
	ourIn, theirOut := pipe(t)
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
		"--host-resolver-rules=MAP sidecar.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
		"--user-data-dir="+t.TempDir(), "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{theirIn, theirOut} // its descriptors 3 and 4
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirIn.Close()
	theirOut.Close()
	b := &browser{commands: ourOut, replies: make(map[int]chan reply), tabs: make(map[string]*tab)}
	var reading sync.WaitGroup
	reading.Go(func() { b.read(ourIn) })
	t.Cleanup(func() {
		b.call(t, "", "Browser.close", nil)
		_ = cmd.Wait()
		reading.Wait()
	})
	return b
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// read hands out what the browser says until it ends.
func (b *browser) read(r io.Reader) {
	for in := bufio.NewReader(r); ; {
		line, err := in.ReadBytes(0)
		if err != nil {
			return
		}
		var m message
		if json.Unmarshal(bytes.TrimRight(line, "\x00"), &m) != nil {
			continue
		}
		b.mu.Lock()
		answer, tab := b.replies[m.ID], b.tabs[m.SessionID]
		b.mu.Unlock()
		switch {
		case m.ID != 0 && answer != nil:
			answer <- m.reply
		case m.ID == 0 && tab != nil:
			tab.event(m)
		}
	}
}

// call returns the result of a method.
func (b *browser) call(t *testing.T, session, method string, params any) json.RawMessage {
	t.Helper()
	answer := make(chan reply, 1)
	b.mu.Lock()
	b.lastID++
	id := b.lastID
	b.replies[id] = answer
	m := map[string]any{"id": id, "method": method}
	if session != "" {
		m["sessionId"] = session
	}
	if params != nil {
		m["params"] = params
	}
	line, err := json.Marshal(m)
	if err == nil {
		_, err = b.commands.Write(append(line, 0))
	}
	b.mu.Unlock()
	if err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	select {
	case r := <-answer:
		if r.Error != nil {
			t.Fatalf("%s: %s", method, r.Error.Message)
		}
		return r.Result
	case <-time.After(30 * time.Second):
		t.Fatalf("%s: no answer from the browser", method)
		return nil
	}
}

// A tab is a page in a profile of its own.
type tab struct {
	t        *testing.T
	b        *browser
	session  string
	profile  string
	mu       sync.Mutex
	requests []string // every URL that was asked for
	problems []string // errors in the console, exceptions, violations of the policy
}

func (b *browser) open(t *testing.T) *tab {
	t.Helper()
	var profile struct{ BrowserContextID string }
	decode(t, b.call(t, "", "Target.createBrowserContext", nil), &profile)
	var target struct{ TargetID string }
	decode(t, b.call(t, "", "Target.createTarget", map[string]any{"url": "about:blank", "browserContextId": profile.BrowserContextID}), &target)
	var session struct{ SessionID string }
	decode(t, b.call(t, "", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}), &session)
	p := &tab{t: t, b: b, session: session.SessionID, profile: profile.BrowserContextID}
	b.mu.Lock()
	b.tabs[p.session] = p
	b.mu.Unlock()
	for _, domain := range []string{"Page", "Runtime", "Network", "Log"} {
		p.call(domain+".enable", nil)
	}
	// Several tabs at a time believe that the user looks at them.
	p.call("Emulation.setFocusEmulationEnabled", map[string]any{"enabled": true})
	t.Cleanup(func() {
		b.call(t, "", "Target.disposeBrowserContext", map[string]any{"browserContextId": profile.BrowserContextID})
	})
	return p
}

func decode(t *testing.T, from json.RawMessage, to any) {
	t.Helper()
	if err := json.Unmarshal(from, to); err != nil {
		t.Fatalf("%s: %v", from, err)
	}
}

func (p *tab) call(method string, params map[string]any) json.RawMessage {
	p.t.Helper()
	return p.b.call(p.t, p.session, method, params)
}

func (p *tab) event(m message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch m.Method {
	case "Network.requestWillBeSent":
		var e struct{ Request struct{ URL string } }
		_ = json.Unmarshal(m.Params, &e)
		p.requests = append(p.requests, e.Request.URL)
	case "Runtime.exceptionThrown", "Runtime.consoleAPICalled":
		p.problems = append(p.problems, string(m.Params))
	case "Log.entryAdded":
		var e struct {
			Entry struct{ Level, Text, URL string }
		}
		_ = json.Unmarshal(m.Params, &e)
		p.problems = append(p.problems, fmt.Sprintf("%s: %s (%s)", e.Entry.Level, e.Entry.Text, e.Entry.URL))
	}
}

// Problems returns all that the console holds.
func (p *tab) Problems() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.problems
}

// Requests returns all URLs that were asked for.
func (p *tab) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

func (p *tab) navigate(url string) {
	p.t.Helper()
	p.call("Page.navigate", map[string]any{"url": url})
	p.wait(`document.readyState === "complete" && location.href.startsWith("http")`)
}

// eval returns the value of an expression, or of the promise that it is.
func eval[T any](p *tab, expression string) (value T) {
	p.t.Helper()
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	decode(p.t, p.call("Runtime.evaluate", map[string]any{
		"expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true,
	}), &r)
	if r.ExceptionDetails != nil {
		p.t.Fatalf("%s: %s", expression, r.ExceptionDetails)
	}
	if r.Result.Value != nil {
		decode(p.t, r.Result.Value, &value)
	}
	return value
}

// text returns what a reader sees of an element.
func (p *tab) text(selector string) string {
	p.t.Helper()
	return eval[string](p, fmt.Sprintf("document.querySelector(%q)?.innerText ?? 'no '+%q", selector, selector))
}

// wait gives a condition 30 s to come true.
func (p *tab) wait(condition string) {
	p.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if eval[bool](p, "!!("+condition+")") {
			return
		}
	}
	p.t.Fatalf("did not come true within 30 s: %s", condition)
}

func (p *tab) viewport(width, height int) {
	p.t.Helper()
	p.call("Emulation.setDeviceMetricsOverride", map[string]any{
		"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500,
	})
}

func (p *tab) media(feature, value string) {
	p.t.Helper()
	p.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": feature, "value": value}}})
}

func (p *tab) press(key string, code int) {
	p.t.Helper()
	for _, kind := range []string{"keyDown", "keyUp"} {
		p.call("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": map[string]string{"Enter": "\r"}[key]})
	}
}

// screenshot writes a picture of the whole page, if somebody wants to see it.
func (p *tab) screenshot(name string) {
	p.t.Helper()
	folder := os.Getenv("PAGE_SCREENSHOTS")
	if folder == "" {
		return
	}
	var layout struct {
		CSSContentSize struct{ Width, Height float64 }
	}
	decode(p.t, p.call("Page.getLayoutMetrics", nil), &layout)
	var r struct{ Data string }
	decode(p.t, p.call("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true, "clip": map[string]float64{
		"x": 0, "y": 0, "width": layout.CSSContentSize.Width, "height": layout.CSSContentSize.Height, "scale": 1,
	}}), &r)
	picture, err := base64.StdEncoding.DecodeString(r.Data)
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, name+".png"), picture, 0o644)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}
