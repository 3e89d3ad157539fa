package tokencache

import "github.com/prometheus/client_golang/prometheus"

// NewCollector returns the token metrics of the given caches.
func NewCollector(caches []*Cache) prometheus.Collector { return &collector{caches: caches} }

type collector struct{ caches []*Cache }

func (c *collector) metrics() (expiry, refreshes, waits *prometheus.Desc) {
	cache := []string{"identity", "scope"}
	return prometheus.NewDesc("entra_sidecar_token_expiry_timestamp_seconds",
			"When the current token expires, in seconds since 1970; 0 if there was none yet.", cache, nil),
		prometheus.NewDesc("entra_sidecar_token_refreshes_total",
			"Attempts to obtain a token, by result: success, unchanged (the source returned the same token) or failure.",
			append(cache, "result"), nil),
		prometheus.NewDesc("entra_sidecar_token_waits_total",
			"Requests that found no usable token, and waited or failed.", cache, nil)
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	expiry, refreshes, waits := c.metrics()
	ch <- expiry
	ch <- refreshes
	ch <- waits
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	expiry, refreshes, waits := c.metrics()
	for _, cache := range c.caches {
		s := cache.Status()
		counter := func(d *prometheus.Desc, v uint64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), append([]string{s.Identity, s.Scope}, labels...)...)
		}
		until := 0.0
		if s.Token != nil {
			until = float64(s.Token.ExpiresOn().Unix())
		}
		ch <- prometheus.MustNewConstMetric(expiry, prometheus.GaugeValue, until, s.Identity, s.Scope)
		counter(refreshes, s.Renewals, "success")
		counter(refreshes, s.Unchanged, "unchanged")
		counter(refreshes, s.Failures, "failure")
		counter(waits, s.Waits)
	}
}
