// Package health is what the standalone relay tells about itself over HTTP:
// whether it lives, whether it is ready, and its metrics.
package health

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/outbox"
)

// Metrics are those of the relay, which package telemetry makes, and of the
// process around it.
type Metrics struct {
	*telemetry.RelayMetrics
	Registry *prometheus.Registry
}

// NewMetrics registers the metrics of the named relay, whose state status tells.
func NewMetrics(version, relay string, status func() outbox.Status) (*Metrics, error) {
	reg := prometheus.NewRegistry()
	m, err := telemetry.NewRelayMetrics(reg, relay)
	if err != nil {
		return nil, err
	}
	m.Follow(status)
	return &Metrics{RelayMetrics: m, Registry: reg}, reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "relay_build_info", Help: "Always 1; the label tells the version.", ConstLabels: prometheus.Labels{"version": version},
	}, func() float64 { return 1 }))
}

// Doorbell registers the metric of the relay's doorbell.
func (m *Metrics) Doorbell(working func() bool) {
	m.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "relay_doorbell_working", Help: "1 if wake-ups of writers are known to arrive, 0 if the relay only polls.",
	}, func() float64 {
		if working() {
			return 1
		}
		return 0
	}))
}
