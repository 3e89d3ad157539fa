package check

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"entra-sidecar/proxy/diagnose"
)

const troubleshooting = "../../deploy/TROUBLESHOOTING.md"

var generated = regexp.MustCompile(`(?s)(<!-- causes: [^>]*-->\n).*(<!-- /causes -->)`)

func TestTroubleshootingHoldsTheTable(t *testing.T) {
	page, err := os.ReadFile(troubleshooting)
	if err != nil {
		t.Fatal(err)
	}
	if !generated.Match(page) {
		t.Fatal("there is no place for the table")
	}
	table := strings.ReplaceAll(diagnose.Markdown(), "$", "$$")
	want := generated.ReplaceAllString(string(page), "${1}\n"+table+"${2}")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(troubleshooting, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(page) != want {
		t.Error("it is not that of proxy/diagnose: UPDATE=1 go test ./test/check -run Troubleshooting")
	}
}

func TestTroubleshootingBeginsWithOurOwnSignature(t *testing.T) {
	page := readTroubleshooting(t)
	first := regexp.MustCompile(`(?m)^### (.*)$`).FindStringSubmatch(page)
	const signature = "`litellm.AuthenticationError: AzureException AuthenticationError - Access denied due to invalid subscription key or wrong API endpoint`"
	if first == nil || first[1] != signature {
		t.Errorf("%q", first)
	}
}

func TestTroubleshootingLeadsSomewhere(t *testing.T) {
	page := readTroubleshooting(t)
	headings := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		headings[anchor(m[1])] = true
	}
	for _, m := range regexp.MustCompile(`\]\(#([^)]*)\)`).FindAllStringSubmatch(page, -1) {
		if !headings[m[1]] {
			t.Errorf("nothing is called #%s", m[1])
		}
	}
	for _, r := range diagnose.Causes() {
		if !headings[anchor(key(r))] {
			t.Errorf("nothing is said of %s", key(r))
		}
	}
}

// Each text of the table that Azure sends is to be found by whoever has it.
func TestTroubleshootingHasTheTextsOfAzure(t *testing.T) {
	page, _, _ := strings.Cut(readTroubleshooting(t), "<!-- causes:")
	for _, text := range []string{
		"Access denied due to invalid subscription key or wrong API endpoint", "Key based authentication is disabled", "audience is incorrect",
		"lacks the required data action", "Principal does not have access", "does not match resource tenant", "custom subdomain for token",
		"Virtual Network/Firewall", "Public access is disabled", "The API deployment for this resource does not exist", "Resource not found",
		"api-version query parameter is not allowed", "missing subscription key",
	} {
		if !strings.Contains(page, text) {
			t.Errorf("no %q", text)
		}
	}
}

func readTroubleshooting(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(troubleshooting)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

var noAnchor = regexp.MustCompile(`[^a-z0-9 _-]`)

// anchor is what a heading can be linked by.
func anchor(heading string) string {
	return strings.ReplaceAll(noAnchor.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}
