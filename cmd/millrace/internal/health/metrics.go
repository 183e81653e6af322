// Package health is what the standalone relay tells about itself over HTTP:
// whether it lives, whether it is ready, and its metrics.
package health

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace-go/millrace/adapters/telemetry"
)

// Metrics are those of the relays, which package telemetry makes, and of the
// process around them.
type Metrics struct{ Registry *prometheus.Registry }

// NewMetrics registers the metrics of the process.
func NewMetrics(version string) (*Metrics, error) {
	reg := prometheus.NewRegistry()
	return &Metrics{reg}, reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "relay_build_info", Help: "Always 1; the label tells the version.", ConstLabels: prometheus.Labels{"version": version},
	}, func() float64 { return 1 }))
}

// of is where the metrics of an outbox are registered: all carry its name as the
// label "outbox", unless the process has only one, which has no name.
func (m *Metrics) of(outbox string) prometheus.Registerer {
	if outbox == "" {
		return m.Registry
	}
	return prometheus.WrapRegistererWith(prometheus.Labels{"outbox": outbox}, m.Registry)
}

// Relay registers the metrics of the named relay of an outbox.
func (m *Metrics) Relay(outbox, relay string) (*telemetry.RelayMetrics, error) {
	return telemetry.NewRelayMetrics(m.of(outbox), relay)
}

// Listener registers the metric of the listener of an outbox's relay.
func (m *Metrics) Listener(outbox string, working func() bool) error {
	return m.of(outbox).Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "relay_listener_working", Help: "1 if wake-ups of writers are known to arrive, 0 if the relay only polls.",
	}, func() float64 {
		if working() {
			return 1
		}
		return 0
	}))
}
