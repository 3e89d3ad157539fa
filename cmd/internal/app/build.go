package app

import (
	"cmp"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

// version and revision may be set with -ldflags "-X entra-sidecar/cmd/internal/app.version=1.2.3"
// where there is no version control to take them from, as in a container build.
var version, revision string

// build says what this binary was made from.
type build struct{ version, revision, goVersion string }

func thisBuild() build {
	b := build{version: version, revision: revision, goVersion: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.version = cmp.Or(b.version, info.Main.Version)
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			b.revision = cmp.Or(b.revision, setting.Value)
		}
	}
	return b
}

// newBuildInfo is always 1; its labels are what it is for.
func newBuildInfo() prometheus.Collector {
	b := thisBuild()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "entra_sidecar_build_info",
		Help:        "What this binary was made from.",
		ConstLabels: prometheus.Labels{"version": b.version, "revision": b.revision, "goversion": b.goVersion},
	})
	info.Set(1)
	return info
}
