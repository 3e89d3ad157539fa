package page

import "testing"

func TestLook(t *testing.T) {
	b := startBrowser(t)
	for name, start := range map[string]func(*testing.T) *sidecar{"one": one, "several": several, "down": down, "many": many, "fresh": fresh} {
		t.Run(name, func(t *testing.T) {
			c := start(t)
			p := b.open(t)
			for _, scheme := range []string{"light", "dark"} {
				p.media("prefers-color-scheme", scheme)
				for _, width := range []int{1280, 320} {
					p.viewport(width, 800)
					p.navigate(c.URL)
					p.screenshot(name + "-" + scheme + "-" + map[int]string{1280: "wide", 320: "phone"}[width])
				}
			}
			for _, problem := range p.Problems() {
				t.Error(problem)
			}
		})
	}
}
