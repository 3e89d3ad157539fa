package tokencache

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// gather returns the metrics by "name{label=value,…}", without the scope.
func gather(t *testing.T, caches ...*Cache) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(NewCollector(caches)); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, m := range family.Metric {
			var labels []string
			for _, l := range m.Label {
				if l.GetName() != "scope" {
					labels = append(labels, l.GetName()+"="+l.GetValue())
				}
			}
			values[family.GetName()+"{"+strings.Join(labels, ",")+"}"] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return values
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		c, idle := start(t, s, Options{Identity: "a"}), New(&source{}, Options{Identity: "idle", Scope: testScope})
		mustToken(t, c)
		before := gather(t, c, idle)
		for _, name := range []string{
			"entra_sidecar_token_expiry_timestamp_seconds{identity=idle}",
			"entra_sidecar_token_refreshes_total{identity=idle,result=success}",
			"entra_sidecar_token_refreshes_total{identity=idle,result=unchanged}",
			"entra_sidecar_token_refreshes_total{identity=idle,result=failure}",
			"entra_sidecar_token_waits_total{identity=idle}",
			"entra_sidecar_token_refreshes_total{identity=a,result=failure}",
		} {
			if v, present := before[name]; !present || v != 0 {
				t.Errorf("%s is %v, present: %v", name, v, present)
			}
		}
		if len(before) != 10 {
			t.Errorf("%v", before)
		}

		time.Sleep(40 * time.Minute) // renewed
		s.same.Store(true)
		time.Sleep(30 * time.Minute) // unchanged
		s.down.Store(true)
		time.Sleep(2 * time.Hour)
		for range 3 {
			_, _ = c.Token(t.Context())
		}
		st, after := c.Status(), gather(t, c)
		for name, want := range map[string]float64{
			"entra_sidecar_token_expiry_timestamp_seconds{identity=a}":         float64(st.Token.ExpiresOn().Unix()),
			"entra_sidecar_token_refreshes_total{identity=a,result=success}":   2,
			"entra_sidecar_token_refreshes_total{identity=a,result=unchanged}": float64(st.Unchanged),
			"entra_sidecar_token_refreshes_total{identity=a,result=failure}":   float64(st.Failures),
			"entra_sidecar_token_waits_total{identity=a}":                      4,
		} {
			if after[name] != want {
				t.Errorf("%s is %v, want %v", name, after[name], want)
			}
		}
		if st.Unchanged == 0 || st.Failures == 0 || st.FailingSince.IsZero() || st.Usable() {
			t.Errorf("%+v", st)
		}
	})
}
