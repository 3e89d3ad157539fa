package page

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"entra-sidecar/proxy/admin"
)

// TestPage shares one browser: starting it takes longer than most of what it
// is asked.
func TestPage(t *testing.T) {
	b := startBrowser(t)
	for name, test := range map[string]func(*testing.T, *browser){
		"every state looks right":               testLook,
		"a screen reader finds its way":         testScreenReader,
		"so does the keyboard":                  testKeyboard,
		"it is live":                            testLive,
		"the countdown counts":                  testCountdown,
		"a sidecar that is gone is missed":      testSidecarGone,
		"another version is loaded":             testAnotherVersion,
		"copying copies":                        testCopy,
		"a plot can be read":                    testReadout,
		"hostile text stays text":               testHostileText,
		"it works without JavaScript":           testWithoutJavaScript,
		"nothing moves for those who want that": testNothingMovesForThoseWhoWantThat,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, b)
		})
	}
}

// unreadable lists each text whose contrast with its ground is less than
// WCAG's AA asks for, 4.5:1, and each sign below 3:1.
const unreadable = `(() => {
	const parse = c => (c.match(/[\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
	const luminance = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
	const ground = e => {
		for (; e; e = e.parentElement) {
			const c = parse(getComputedStyle(e).backgroundColor);
			if (c.length === 3 || c[3] > 0) return c;
		}
		return [255, 255, 255];
	};
	const ratio = (a, b) => {
		const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
		return (x + .05) / (y + .05);
	};
	const bad = [];
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walk.nextNode()) {
		const e = walk.currentNode.parentElement;
		if (!walk.currentNode.data.trim() || !e.checkVisibility({ visibilityProperty: true })) continue;
		const r = ratio(parse(getComputedStyle(e).color), ground(e));
		if (r < 4.5) bad.push(r.toFixed(2) + " " + walk.currentNode.data.trim());
	}
	for (const e of document.querySelectorAll(".requests, .errors, .rest, .glyph, .sign, .copy svg")) {
		const r = ratio(parse(getComputedStyle(e).fill), ground(e));
		if (r < 3) bad.push(r.toFixed(2) + " " + (e.getAttribute("class") ?? e.nodeName));
	}
	return bad;
})()`

// testLook visits every kind of state in both schemes, on a desk and on a phone.
func testLook(t *testing.T, b *browser) {
	for _, state := range []struct {
		name, headline string
		start          func(*testing.T) *sidecar
	}{
		{"one route", "Ready", one},
		{"several routes", "Ready, with 2 warnings", several},
		{"many routes", "Ready, with 3 warnings", many},
		{"no token", "Not ready", down},
		{"just begun", "Not ready", fresh},
		{"draining", "Draining", draining},
		{"nothing configured", "Ready", func(t *testing.T) *sidecar { return startSidecar(t, admin.Status{}) }},
	} {
		t.Run(state.name, func(t *testing.T) {
			c, p := state.start(t), b.open(t)
			for _, scheme := range []string{"light", "dark"} {
				for device, width := range map[string]int{"desk": 1280, "phone": 320} {
					p.media("prefers-color-scheme", scheme)
					p.viewport(width, 800)
					p.navigate(c.URL)
					p.looksRight(state.headline)
					p.screenshot(strings.Join([]string{state.name, scheme, device}, ", "))
				}
			}
			p.askedOnly(c.URL + "/")
			p.quiet()
		})
	}
}

func (p *tab) looksRight(headline string) {
	p.t.Helper()
	if got := p.text("h1"); got != headline {
		p.t.Errorf("headline %q, not %q", got, headline)
	}
	for _, text := range eval[[]string](p, unreadable) {
		p.t.Errorf("contrast %s", text)
	}
	if wide := eval[int](p, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); wide > 0 {
		p.t.Errorf("%d pixels too wide", wide)
	}
	if small := eval[[]string](p, `[...document.querySelectorAll("button")].filter(b => { const r = b.getBoundingClientRect(); return b.checkVisibility() && (r.width < 24 || r.height < 24) }).map(b => b.ariaLabel)`); len(small) > 0 {
		p.t.Errorf("too small to touch: %q", small)
	}
}

// quiet fails the test if the console holds anything, such as a violation of
// the content security policy.
func (p *tab) quiet() {
	p.t.Helper()
	for _, problem := range p.Problems() {
		p.t.Errorf("console: %s", problem)
	}
}

func (p *tab) askedOnly(urls ...string) {
	p.t.Helper()
	for _, url := range p.Requests() {
		if !strings.HasPrefix(url, "data:") && !strings.Contains(" "+strings.Join(urls, " ")+" ", " "+url+" ") {
			p.t.Errorf("the page asked for %s", url)
		}
	}
}

func testScreenReader(t *testing.T, b *browser) {
	p := b.open(t)
	p.navigate(several(t).URL)
	for _, width := range []int{1280, 320} { // the table must stay one when it no longer looks like one
		p.viewport(width, 800)
		tree := p.outline()
		for _, want := range []string{
			"banner", "main", "contentinfo", "navigation: For programs",
			"heading: Ready, with 2 warnings", "heading: Routes", "heading: Identities", "heading: Diagnosed failures",
			"table: Routes", "columnheader: Errors of these", "rowheader: /realtime Failing",
			"image: 428 requests in the last ten minutes, 181 errors, at most 6 requests in 5 s",
			"button: Copy the tenant id", "button: Copy the remedy", "status",
		} {
			if !strings.Contains(tree, "\n"+want) {
				t.Errorf("at %d pixels there is no %q in\n%s", width, want, tree)
			}
		}
		if strings.Contains(tree, "\nbutton: \n") || strings.Contains(tree, "\nlink: \n") {
			t.Error("something to press has no name")
		}
	}
}

// outline returns what a screen reader is told, as "role: name" in lines.
func (p *tab) outline() string {
	p.t.Helper()
	p.call("Accessibility.enable", nil)
	var tree struct {
		Nodes []struct {
			Ignored    bool
			Role, Name struct{ Value any }
		}
	}
	decode(p.t, p.call("Accessibility.getFullAXTree", nil), &tree)
	var b strings.Builder
	for _, n := range tree.Nodes {
		if !n.Ignored && n.Role.Value != nil {
			fmt.Fprintf(&b, "\n%v: %v", n.Role.Value, n.Name.Value)
		}
	}
	return b.String() + "\n"
}

// What changes in the sidecar shows within seconds, in the same document:
// scrolling, focus and what was opened stay as they are.
func testLive(t *testing.T, b *browser) {
	c := several(t)
	c.live(t)
	p := b.open(t)
	p.navigate(c.URL)
	eval[bool](p, `window.mark = document.querySelector("[data-key='/eastus']"), document.querySelector(".failure.old summary").click(), document.querySelector(".failure:not(.old) .copy").focus(), true`)

	c.answer("/eastus", 200, 12345)
	c.change(func(s *admin.Status) {
		s.Failures = append([]admin.Failure{missingRole("/spare", 0, 3)}, s.Failures...)
		s.Failures[1].Count = 182
		s.Identities = []admin.Identity{s.Identities[0], ready("team-a", "workload-identity", "WorkloadIdentityCredential")}
	})
	p.wait(`document.querySelector("h1").innerText === "Ready, with 1 warning"`)
	p.wait(`document.querySelector(".facts").innerText.includes("329,")`)
	p.wait(`document.querySelector("[data-key='/eastus'] .codes").innerText.includes("17,1")`) // a new sample
	if got := p.text(".failure h3"); got != "missing-role on /spare" {
		t.Errorf("the latest failure: %s", got)
	}
	if got := p.text(".failure:nth-child(2) .seen"); !strings.HasPrefix(got, "182 times") {
		t.Errorf("counted: %s", got)
	}
	for what, holds := range map[string]string{
		"the document was loaded anew":   `mark === document.querySelector("[data-key='/eastus']")`,
		"focus was lost":                 `document.activeElement === document.querySelector("[data-key='/realtime missing-role'] .copy")`,
		"an opened remedy was closed":    `document.querySelector("[data-key='/eastus wrong-path'] details").open`,
		"the indicator is not live":      `document.querySelector("#pulse").innerText.startsWith("Live")`,
		"the tab does not show it":       `document.title === "Ready, with 1 warning · entra-sidecar"`,
		"a recovered identity looks ill": `document.querySelector("[data-key^='team-a '] .health").innerText === "Ready" && !document.querySelector("[data-key^='team-a '] .trouble")`,
	} {
		if !eval[bool](p, holds) {
			t.Error(what)
		}
	}
	p.quiet()
}

// The reader learns at once that what is shown is old, and when it no longer is.
func testSidecarGone(t *testing.T, b *browser) {
	for name, fault := range map[string]http.HandlerFunc{
		"the connection breaks":    func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"it hangs":                 func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"something else is broken": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "bad gateway", http.StatusBadGateway) },
		"something else answers":   func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<h1>Sign in</h1>") },
	} {
		t.Run(name, func(t *testing.T) {
			c, p := one(t), b.open(t)
			p.navigate(c.URL)
			c.fail(fault)
			p.wait(`document.querySelector("#lost").checkVisibility()`)
			if got := p.text("#lost"); !regexp.MustCompile(`^The sidecar does not answer\. This is how it was at \d\d:\d\d:\d\d UTC;`).MatchString(got) {
				t.Errorf("banner: %s", got)
			}
			if got := eval[string](p, "document.title"); got != "No answer · entra-sidecar" {
				t.Errorf("title: %s", got)
			}
			for _, text := range eval[[]string](p, unreadable) {
				t.Errorf("contrast %s", text)
			}
			p.screenshot("gone, " + name)
			c.fail(nil)
			p.wait(`!document.querySelector("#lost").checkVisibility() && document.title === "Ready · entra-sidecar"`)
		})
	}
}

// After an update of the sidecar an open page takes its new script and style.
func testAnotherVersion(t *testing.T, b *browser) {
	c, p := one(t), b.open(t)
	p.navigate(c.URL)
	eval[bool](p, "window.old = true")
	c.fail(func(w http.ResponseWriter, r *http.Request) {
		answer := &rewriter{ResponseWriter: w}
		c.handler.ServeHTTP(answer, r)
	})
	p.wait(`!window.old && document.readyState === "complete" && document.documentElement.dataset.assets === "new"`)
	eval[bool](p, "window.stays = true")
	time.Sleep(5 * time.Second)
	if !eval[bool](p, "window.stays === true") {
		t.Error("the page loads itself again and again")
	}
}

type rewriter struct{ http.ResponseWriter }

func (w *rewriter) Write(b []byte) (int, error) {
	page := regexp.MustCompile(`data-assets="[^"]*"`).ReplaceAll(b, []byte(`data-assets="new"`))
	_, err := w.ResponseWriter.Write(page)
	return len(b), err
}

// Copying works where the browser has a clipboard for the page, and where it
// has none: on a page that came by http from another machine.
func testCopy(t *testing.T, b *browser) {
	for name, host := range map[string]string{"from this machine": "127.0.0.1", "from another machine": "sidecar.test"} {
		t.Run(name, func(t *testing.T) {
			c, p := several(t), b.open(t)
			b.call(t, "", "Browser.grantPermissions", map[string]any{"browserContextId": p.profile, "permissions": []string{"clipboardReadWrite", "clipboardSanitizedWrite"}})
			p.navigate(strings.Replace(c.URL, "127.0.0.1", host, 1))
			if secure := eval[bool](p, "isSecureContext"); secure != (host == "127.0.0.1") {
				t.Fatalf("secure: %v", secure)
			}
			eval[bool](p, `document.addEventListener("copy", e => window.copied = e.target.value), true`)
			for selector, want := range map[string]string{
				`[data-what="tenant id"]`:       "8c5e0f7b-3d21-4a96-b1f4-07a9d2c6e853",
				`.failure [data-what="remedy"]`: missingRole("", 0, 0).Remedy,
			} {
				eval[bool](p, fmt.Sprintf("document.querySelector(%q).click(), true", selector))
				p.wait(`document.querySelector("#said").textContent.startsWith("Copied the ")`)
				read := "navigator.clipboard.readText()"
				if host != "127.0.0.1" {
					read = "window.copied"
				}
				if got := eval[string](p, read); got != want {
					t.Errorf("copied %q, not %q", got, want)
				}
				p.wait(`document.querySelector("#said").textContent === ""`)
			}
			p.quiet()
		})
	}
}

func testKeyboard(t *testing.T, b *browser) {
	c, p := several(t), b.open(t)
	p.navigate(c.URL)
	var reached []string
	for range 40 {
		p.press("Tab", 9)
		if !eval[bool](p, "document.activeElement === document.body") {
			reached = append(reached, eval[string](p, "document.activeElement.ariaLabel ?? document.activeElement.innerText"))
		}
		if outline := eval[string](p, "getComputedStyle(document.activeElement).outlineStyle"); outline == "none" && !eval[bool](p, "document.activeElement === document.body") {
			t.Errorf("the focus on %s cannot be seen", reached[len(reached)-1])
		}
	}
	want := "missing-role|Copy the tenant id|Copy the client id|Copy the object id|Copy the tenant id|Copy the client id|Copy the object id|" +
		"Copy the remedy|Remedy|Copy the remedy|Remedy|status.json|metrics|readyz|livez"
	if got := strings.Join(reached, "|"); !strings.HasPrefix(got, want) {
		t.Errorf("tab stops: %s", got)
	}
	eval[bool](p, `document.querySelector("[data-what='client id']").focus(), true`)
	p.press("Enter", 13)
	p.wait(`document.querySelector("#said").textContent === "Copied the client id."`)
}

var (
	exact  = regexp.MustCompile(`^(\d+ s|\d+ min \d+ s|\d+ h \d+ min|\d+ d \d+ h)$`)
	rounds = regexp.MustCompile(`^\d+ (s|min|h|d)$`)
)

// The countdown goes on between the server's answers, and without them, and
// says what the server would say.
func testCountdown(t *testing.T, b *browser) {
	c, p := startSidecar(t, durations()), b.open(t)
	p.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": true})
	p.navigate(c.URL)
	const slow = `[...document.querySelectorAll("time[data-until], time[data-since]")].map(t => t.innerText).filter(s => !/ s$/.test(s)).join()`
	rendered := eval[string](p, slow)
	p.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": false})
	p.navigate(c.URL)
	c.fail(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })

	first := p.text(".count time")
	time.Sleep(2100 * time.Millisecond)
	if second := p.text(".count time"); second == first {
		t.Errorf("%s stands still", first)
	}
	if ticked := eval[string](p, slow); ticked != rendered || strings.Count(ticked, ",") < 4 {
		t.Errorf("ticked %s, rendered %s", ticked, rendered)
	}
	for _, text := range eval[[]string](p, `[...document.querySelectorAll("time[data-until]")].map(t => t.innerText)`) {
		if !exact.MatchString(text) {
			t.Errorf("countdown %q", text)
		}
	}
	for _, text := range eval[[]string](p, `[...document.querySelectorAll("time[data-since]")].map(t => t.innerText)`) {
		if !rounds.MatchString(text) {
			t.Errorf("age %q", text)
		}
	}
	p.wait(`document.querySelector("[data-key^='1 '] .count time").innerText === "0 s"`) // and not below
}

// durations are far from the next unit, so that a few seconds change nothing.
func durations() admin.Status {
	now := time.Now()
	s := admin.Status{Started: now}
	for name, left := range []time.Duration{90 * time.Second, 3 * time.Second, 5*time.Hour + 30*time.Second, 75*time.Hour + 30*time.Minute} {
		i := ready(fmt.Sprint(name), "default", "")
		i.ExpiresAt, i.FailingSince, i.RenewAt = now.Add(left), now.Add(-left-30*time.Second), time.Time{}
		s.Identities = append(s.Identities, i)
	}
	return s
}

func testWithoutJavaScript(t *testing.T, b *browser) {
	c, p := several(t), b.open(t)
	p.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": true})
	p.navigate(c.URL)
	body := p.text("body")
	for _, want := range []string{
		"Ready, with 2 warnings", "Without JavaScript this page stands still", "As of", "/realtime", "The latest 39 requests all failed with 401",
		"8c5e0f7b-3d21-4a96-b1f4-07a9d2c6e853", "az role assignment create", "18 min ",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
	if eval[bool](p, `[...document.querySelectorAll(".copy")].some(b => b.checkVisibility())`) {
		t.Error("there are buttons that do nothing")
	}
	p.screenshot("without JavaScript")
}

// Names and errors come from files, tokens and the network. They are shown as
// they are, when the page is loaded and when it is changed.
func testHostileText(t *testing.T, b *browser) {
	const hostile = `</code></script><script>window.pwned=1</script><img src=x onerror=window.pwned=1> "'><b onmouseover=pwned()>`
	now := time.Now()
	hostileState := admin.Status{
		Version: hostile, Started: now,
		Routes: []admin.Route{{Prefix: hostile, Upstream: hostile, Identity: hostile, Scope: hostile}},
		Identities: []admin.Identity{{
			Name: hostile, Scope: hostile, Credential: hostile, Source: hostile, TenantID: hostile, ClientID: hostile, ObjectID: hostile,
			Audience: hostile, FailingSince: now, Error: hostile, Cause: hostile, Remedy: hostile, Sources: []admin.SourceFailure{{Source: hostile, Reason: hostile}, {Source: hostile, Reason: "other"}},
		}},
		Failures: []admin.Failure{{Route: hostile, Cause: hostile, Sentence: hostile, Remedy: hostile, First: now, Last: now, Count: 1}},
	}
	for name, first := range map[string]admin.Status{"loaded": hostileState, "changed": durations()} {
		t.Run(name, func(t *testing.T) {
			c, p := startSidecar(t, first, hostile), b.open(t)
			c.answer(hostile, 200, 3)
			p.viewport(320, 800)
			p.navigate(c.URL)
			c.change(func(s *admin.Status) { *s = hostileState })
			p.wait(fmt.Sprintf("document.querySelector('.failure h3')?.innerText === %q", hostile+" on "+hostile))
			time.Sleep(2500 * time.Millisecond) // one more update
			if eval[bool](p, `"pwned" in window || !!document.querySelector("main script, main img, main b[onmouseover]")`) {
				t.Error("text has become markup")
			}
			if got := eval[string](p, `document.querySelector("[data-what='tenant id']").dataset.copy`); got != hostile {
				t.Errorf("to copy: %s", got)
			}
			if wide := eval[int](p, "document.documentElement.scrollWidth"); wide > 320 {
				t.Errorf("%d pixels wide", wide)
			}
			p.askedOnly(c.URL + "/")
			p.quiet()
			p.screenshot("hostile, " + name)
		})
	}
}

func testNothingMovesForThoseWhoWantThat(t *testing.T, b *browser) {
	c, p := one(t), b.open(t)
	moving := `document.getAnimations().length > 0`
	p.navigate(c.URL)
	p.wait(moving)
	p.media("prefers-reduced-motion", "reduce")
	p.navigate(c.URL)
	p.wait(`document.querySelector(".beat.now")`)
	if eval[bool](p, moving) {
		t.Error("something moves")
	}
}

// Under the pointer a plot says what happened then.
func testReadout(t *testing.T, b *browser) {
	c, p := several(t), b.open(t)
	p.viewport(1280, 800)
	p.navigate(c.URL)
	box := eval[[]float64](p, `(r => [r.left, r.top, r.width])(document.querySelector("[data-key='/realtime'] .plot").getBoundingClientRect())`)
	p.call("Input.dispatchMouseEvent", map[string]any{"type": "mouseMoved", "x": box[0] + box[2] - 2, "y": box[1] + 10})
	p.wait(`/^\d\d:\d\d:\d\d: \d+ requests, \d+ errors$/.test(document.querySelector("[data-key='/realtime'] .readout").innerText)`)
	p.screenshot("readout")
	p.call("Input.dispatchMouseEvent", map[string]any{"type": "mouseMoved", "x": 5, "y": 5})
	p.wait(`document.querySelector("[data-key='/realtime'] .readout").innerText === "peak 6"`)
	p.quiet()
}
