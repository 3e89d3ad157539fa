package admin

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Run is left alone for a quarter of an hour: the history must hold the last
// ten minutes of it, no more, in samples of five seconds.
func TestRunKeepsTheLastTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.status = serving()
		f.requests.WithLabelValues("/", "POST", "200").Add(1000) // before: in the total, but not in the plot
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if err := f.handler.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		for i := range 180 {
			f.requests.WithLabelValues("/", "POST", "200").Add(float64(i))
			time.Sleep(sampleInterval)
			synctest.Wait()
		}
		d := f.handler.document()
		stop()
		running.Wait()

		got := d.Routes[0].History.Requests
		if len(got) != slots || got[0] != 60 || got[slots-1] != 179 {
			t.Errorf("%d samples: %v", len(got), got)
		}
		if gap := d.History.Times[1].Sub(d.History.Times[0]); gap != sampleInterval {
			t.Errorf("samples are %v apart", gap)
		}
		if want := uint64(1000 + 179*180/2); d.Routes[0].Total.Requests != want {
			t.Errorf("total %d, not %d", d.Routes[0].Total.Requests, want)
		}
		if want := uint64(168+179) * 12 / 2; d.Routes[0].LastMinute.Requests != want {
			t.Errorf("last minute %d, not %d", d.Routes[0].LastMinute.Requests, want)
		}
	})
}

func TestHistoryForgetsWhatAPauseHasMadeOld(t *testing.T) {
	var h history
	start := time.Now()
	for _, at := range []time.Duration{0, 5 * time.Second, time.Hour} {
		h.add(start.Add(at), map[answer]uint64{{"/", 200}: uint64(at / time.Second)})
	}
	samples := h.since(start)
	if len(samples) != 1 || samples[0].answers[answer{"/", 200}] != 3595 {
		t.Errorf("%v", samples)
	}
}

func TestTrafficIsSortedByRouteAndStatus(t *testing.T) {
	f := newFake()
	f.status = serving()
	now := time.Now()
	f.handler.Sample(now.Add(-2 * time.Minute))
	count := func(route, method, code string, n float64) { f.requests.WithLabelValues(route, method, code).Add(n) }
	count("/", "POST", "200", 20)
	count("/", "POST", "401", 2)
	f.handler.Sample(now.Add(-90 * time.Second))
	count("/", "GET", "200", 5)
	count("/", "POST", "101", 1)
	count("/", "POST", "503", 3)
	count("/", "POST", "499", 4)
	count("", "POST", "400", 6)
	f.inflight.WithLabelValues("/").Set(7)
	f.handler.Sample(now)

	d := f.handler.document()
	r := d.Routes[0]
	if want := (counts{35, 5, 4}); r.Total != want || r.Last10 != want {
		t.Errorf("total %v, last ten minutes %v, not %v", r.Total, r.Last10, want)
	}
	if want := (counts{13, 3, 4}); r.LastMinute != want {
		t.Errorf("last minute %v, not %v", r.LastMinute, want)
	}
	if !slices.Equal(r.History.Errors, []uint64{2, 3}) || !slices.Equal(r.History.ClientGone, []uint64{0, 4}) {
		t.Errorf("%v", r.History)
	}
	if r.Codes[200] != 25 || r.Codes[499] != 4 || r.InFlight != 7 {
		t.Errorf("%v, %d in flight", r.Codes, r.InFlight)
	}
	if want := (counts{6, 6, 0}); d.Unmatched.Total != want {
		t.Errorf("unmatched %v, not %v", d.Unmatched.Total, want)
	}
}

func TestErrorShareLeavesOutClientsThatLeft(t *testing.T) {
	tests := []struct {
		name string
		counts
		want float64
	}{
		{"nothing happened", counts{}, 0},
		{"all left", counts{Requests: 3, ClientGone: 3}, 0},
		{"half of those that stayed failed", counts{Requests: 6, Errors: 2, ClientGone: 2}, 0.5},
		{"all failed", counts{Requests: 2, Errors: 2}, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.ErrorShare(); got != test.want {
				t.Errorf("%v, not %v", got, test.want)
			}
		})
	}
}
