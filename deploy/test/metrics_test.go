package deploy

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"sigs.k8s.io/yaml"
)

const (
	dashboardFile = root + "/deploy/grafana/entra-sidecar.json"
	alertsFile    = root + "/deploy/prometheus/alerts.yaml"
	operatorDir   = root + "/deploy/prometheus/operator"
)

// An alert is a rule of deploy/prometheus.
type alert struct {
	Alert  string            `json:"alert"`
	Expr   string            `json:"expr"`
	Labels map[string]string `json:"labels"`
}

func alerts(t *testing.T) (all []alert) {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []alert `json:"rules"`
		} `json:"groups"`
	}
	if err := yaml.Unmarshal(read(t, alertsFile), &file); err != nil {
		t.Fatal(err)
	}
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	return all
}

// A dashboard is Grafana's, as far as these tests look.
type dashboard struct {
	Panels []struct {
		ID      int                                   `json:"id"`
		Type    string                                `json:"type"`
		Title   string                                `json:"title"`
		GridPos struct{ X, Y, W, H int }              `json:"gridPos"`
		Targets []struct{ Expr, LegendFormat string } `json:"targets"`
	} `json:"panels"`
	Templating struct {
		List []struct {
			Name       string `json:"name"`
			Type       string `json:"type"`
			Definition string `json:"definition"`
		} `json:"list"`
	} `json:"templating"`
}

func loadDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal(read(t, dashboardFile), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d dashboard) queries() (queries []string) {
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			queries = append(queries, target.Expr)
		}
	}
	return queries
}

func TestPromtoolFindsEveryAlertRaisedAndSilentWhenItShould(t *testing.T) {
	promtool := tool(t, "promtool", "prometheus")
	run(t, nil, promtool, "check", "rules", alertsFile)
	run(t, nil, promtool, "test", "rules", filepath.Join(filepath.Dir(alertsFile), "alerts_test.yaml"))
}

func TestEveryAlertHasATestThatRaisesIt(t *testing.T) {
	var file struct {
		Tests []struct {
			Rules []struct {
				AlertName string `json:"alertname"`
				Expected  []any  `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		} `json:"tests"`
	}
	if err := yaml.Unmarshal(read(t, filepath.Join(filepath.Dir(alertsFile), "alerts_test.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	raised, silent := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, rule := range test.Rules {
			raised[rule.AlertName] = raised[rule.AlertName] || len(rule.Expected) > 0
			silent[rule.AlertName] = silent[rule.AlertName] || len(rule.Expected) == 0
		}
	}
	for _, a := range alerts(t) {
		if !raised[a.Alert] || !silent[a.Alert] {
			t.Errorf("%s is tested raised: %v, silent: %v", a.Alert, raised[a.Alert], silent[a.Alert])
		}
	}
}

func TestTheOperatorGetsTheSameRules(t *testing.T) {
	all, err := decode(slices.Concat(read(t, operatorDir+"/prometheusrule.yaml"), []byte("\n---\n"), read(t, operatorDir+"/podmonitor.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	var want monitoringv1.PrometheusRuleSpec
	if err := yaml.UnmarshalStrict(read(t, alertsFile), &want); err != nil {
		t.Fatal(err)
	}
	if got := one[*monitoringv1.PrometheusRule](t, all).Spec; !reflect.DeepEqual(got, want) {
		t.Error("operator/prometheusrule.yaml has not the rules of alerts.yaml")
	}
	if endpoint := one[*monitoringv1.PodMonitor](t, all).Spec.PodMetricsEndpoints[0]; *endpoint.Port != "entra-admin" {
		t.Errorf("the PodMonitor scrapes the port %s, which no manifest has", *endpoint.Port)
	}
}

func TestNoPanelHidesAnother(t *testing.T) {
	taken, ids := map[[2]int]string{}, map[int]bool{}
	for _, p := range loadDashboard(t).Panels {
		if ids[p.ID] || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s: its id %d is taken, or it is too wide", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if taken[at] != "" {
					t.Fatalf("%s lies on %s", p.Title, taken[at])
				}
				taken[at] = p.Title
			}
		}
	}
}

// An observed sidecar runs against the emulator, has lived through everything
// that the dashboard shows, and is scraped by a real Prometheus.
type observed struct {
	metrics    map[string]bool // names in /metrics
	prometheus string          // URL
}

func observe(t *testing.T) observed {
	t.Helper()
	binary := tool(t, "prometheus", "prometheus")
	control, identity, azure := "127.0.0.1"+freePort(t), "127.0.0.1"+freePort(t), "127.0.0.1"+freePort(t)
	dir := t.TempDir()
	start(t, exec.Command(program(t, "azure-emulator"), "--control-listen="+control, "--identity-listen="+identity, "--listen="+azure,
		"--authority-listen=127.0.0.1:0", "--ca-file="+dir+"/ca.pem", "--token-life=10s", "--faults", faults), nil)
	proxy, admin := "127.0.0.1"+freePort(t), "127.0.0.1"+freePort(t)
	start(t, exec.Command(program(t, "entra-sidecar"), "--listen="+proxy, "--admin-listen="+admin, "--upstream=https://"+azure), []string{
		"IDENTITY_ENDPOINT=http://" + identity + "/msi/token", "IDENTITY_HEADER=emulated", "SSL_CERT_FILE=" + dir + "/ca.pem"})
	awaitStatus(t, "http://"+admin+"/readyz")

	o := observed{prometheus: "http://127.0.0.1" + freePort(t)}
	o.start(t, binary, admin)
	for range 40 { // a scrape every half second sees several of each
		for path, want := range traffic {
			if status, body := post(t, "http://"+proxy+path, chatBody); !slices.Contains(want, status) {
				t.Fatalf("POST %s: %d %s", path, status, body)
			}
		}
		time.Sleep(150 * time.Millisecond)
	}
	_, text := get(t, "http://"+admin+"/metrics")
	o.metrics = metricNames(text)
	return o
}

const chatOf = "/openai/deployments/%s/chat/completions?api-version=2024-10-21"

// traffic and faults make every kind of failure happen to some requests.
// Status 0 is an answer that breaks off.
var (
	traffic = map[string][]int{
		fmt.Sprintf(chatOf, "gpt-4o"):  {200},
		fmt.Sprintf(chatOf, "refused"): {401},
		fmt.Sprintf(chatOf, "broken"):  {500},
		"/nowhere?api-version=x":       {404},
	}
	faults = `{"azure":[
		{"path":"/refused/","answer":{"status":401,"body":"{\"error\":{\"code\":\"PermissionDenied\",\"message\": \"Principal does not have access to API/Operation.\"}}"}},
		{"path":"/broken/","answer":{"status":500,"body":"{ \"statusCode\": 500, \"message\": \"Internal server error\" }"}}]}`
)

// start starts Prometheus with our rules, on a target that is the sidecar.
func (o observed) start(t *testing.T, binary, target string) {
	t.Helper()
	dir := t.TempDir()
	rules, err := filepath.Abs(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/prometheus.yml", fmt.Appendf(nil, `
global: {scrape_interval: 500ms, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs:
- job_name: entra-sidecar
  static_configs: [{targets: [%q]}]
`, rules, target))
	start(t, exec.Command(binary, "--config.file="+dir+"/prometheus.yml", "--storage.tsdb.path="+dir+"/data",
		"--web.listen-address="+strings.TrimPrefix(o.prometheus, "http://")), nil)
	awaitStatus(t, o.prometheus+"/-/ready")
}

func awaitStatus(t *testing.T, url string) {
	t.Helper()
	await(t, 30*time.Second, func() error {
		if status, body := get(t, url); status != 200 {
			return fmt.Errorf("%s: %d %s", url, status, body)
		}
		return nil
	})
}

// metricNames are those of the text format, a histogram's three included.
func metricNames(text string) map[string]bool {
	names := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)`).FindAllStringSubmatch(text, -1) {
		names[m[1]] = true
		if m[2] == "histogram" {
			names[m[1]+"_bucket"], names[m[1]+"_sum"], names[m[1]+"_count"] = true, true, true
		}
	}
	return names
}

// metricsIn are the metrics that a query names.
func metricsIn(query string) []string {
	return regexp.MustCompile(`\b(?:entra_sidecar|process|go)_\w+`).FindAllString(query, -1)
}

// A series is one of an instant query's.
type series struct {
	Metric map[string]string `json:"metric"`
}

func (o observed) query(t *testing.T, query string) (result []series, err error) {
	t.Helper()
	_, body := get(t, o.prometheus+"/api/v1/query?query="+url.QueryEscape(query))
	var answer struct {
		Status string `json:"status"`
		Error  string `json:"error"`
		Data   struct {
			Result []series `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		return nil, fmt.Errorf("%w: %s", err, body)
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("%s", answer.Error)
	}
	return answer.Data.Result, nil
}

// variables stand in for Grafana's, with everything chosen.
var variables = strings.NewReplacer("$__rate_interval", "5s", "$__range", "1m", "$job", ".*", "$instance", ".*", "$route", ".*")

// The sidecar's metrics, the dashboard's queries and the alerts belong together.
func TestEveryQueryFindsItsMetricsInARealPrometheus(t *testing.T) {
	o := observe(t)
	d := loadDashboard(t)
	t.Run("every metric that is named exists", func(t *testing.T) {
		named := d.queries()
		for _, a := range alerts(t) {
			named = append(named, a.Expr)
		}
		for _, query := range named {
			for _, metric := range metricsIn(query) {
				if !o.metrics[metric] {
					t.Errorf("%s does not exist, in\n%s", metric, query)
				}
			}
		}
	})
	t.Run("every metric that exists is shown", func(t *testing.T) {
		shown := strings.Join(d.queries(), "\n")
		for _, metric := range slices.Sorted(maps.Keys(o.metrics)) {
			part := strings.HasSuffix(metric, "_sum") || strings.HasSuffix(metric, "_count")
			if strings.HasPrefix(metric, "entra_sidecar_") && !part && !strings.Contains(shown, metric) {
				t.Errorf("no panel shows %s", metric)
			}
		}
	})
	t.Run("every panel shows something", func(t *testing.T) { o.checkPanels(t, d) })
	t.Run("every variable has values", func(t *testing.T) { o.checkVariables(t, d) })
	t.Run("every alert can be evaluated", o.checkAlerts)
}

func (o observed) checkPanels(t *testing.T, d dashboard) {
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			result, err := o.query(t, variables.Replace(target.Expr))
			if err != nil || len(result) == 0 {
				t.Errorf("%s: %d series, %v, from\n%s", p.Title, len(result), err, target.Expr)
				continue
			}
			for _, label := range regexp.MustCompile(`{{(\w+)}}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				if _, ok := result[0].Metric[label[1]]; !ok {
					t.Errorf("%s: the legend names the label %s, which is not in %v", p.Title, label[1], result[0].Metric)
				}
			}
		}
	}
}

func (o observed) checkVariables(t *testing.T, d dashboard) {
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		m := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`).FindStringSubmatch(v.Definition)
		if m == nil {
			t.Fatalf("$%s is %s", v.Name, v.Definition)
		}
		result, err := o.query(t, variables.Replace(m[1]))
		if err != nil || len(result) == 0 || result[0].Metric[m[2]] == "" {
			t.Errorf("$%s has no values: %v, %v", v.Name, result, err)
		}
	}
}

func (o observed) checkAlerts(t *testing.T) {
	_, body := get(t, o.prometheus+"/api/v1/rules")
	if healthy, all := strings.Count(body, `"health":"ok"`), len(alerts(t)); healthy != all {
		t.Errorf("%d of %d rules are healthy: %s", healthy, all, body)
	}
	result, err := o.query(t, alertNamed(t, "EntraSidecarAuthFailures").Expr)
	if err != nil || len(result) != 1 || result[0].Metric["cause"] != "role-not-effective" {
		t.Errorf("the refused requests raise %v, %v", result, err)
	}
}

func alertNamed(t *testing.T, name string) alert {
	t.Helper()
	all := alerts(t)
	return all[slices.IndexFunc(all, func(a alert) bool { return a.Alert == name })]
}

// A cause that the alert leaves out under a misspelt name would raise it.
func TestTheCausesThatTheAlertLeavesOutExist(t *testing.T) {
	known := run(t, nil, program(t, "azure-emulator"), "--help")
	left := regexp.MustCompile(`cause!~"([^"]+)"`).FindStringSubmatch(alertNamed(t, "EntraSidecarAuthFailures").Expr)
	if left == nil {
		t.Fatal("the alert leaves nothing out")
	}
	for cause := range strings.SplitSeq(left[1], "|") {
		if !strings.Contains(strings.Join(strings.Fields(known), " "), cause) {
			t.Errorf("the emulator knows no cause %s", cause)
		}
	}
}

func TestTheREADMEListsTheAlerts(t *testing.T) {
	readme := string(read(t, filepath.Dir(alertsFile)+"/README.md"))
	for _, a := range alerts(t) {
		if row := fmt.Sprintf("| `%s` | %s |", a.Alert, a.Labels["severity"]); !strings.Contains(readme, row) {
			t.Errorf("README.md lacks the row %s", row)
		}
	}
	if rows, all := strings.Count(readme, "\n| `EntraSidecar"), len(alerts(t)); rows != all {
		t.Errorf("README.md has %d rows for %d alerts", rows, all)
	}
}
