package pipeline

import (
	"database/sql"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/adapters/telemetry/cachemetrics"
	"github.com/millrace-go/millrace/adapters/telemetry/consumermetrics"
	"github.com/millrace-go/millrace/adapters/telemetry/jobmetrics"
)

// metrics are those of every part. They are kept apart from the registry of the
// service until New has succeeded, so that a failed New leaves nothing behind.
type metrics struct {
	own       *prometheus.Registry
	relay     *telemetry.RelayMetrics
	consumers *consumermetrics.Metrics
	cache     *cachemetrics.Metrics
	jobs      *jobmetrics.Metrics
}

func newMetrics(db *sql.DB, relay string) (*metrics, error) {
	m := &metrics{own: prometheus.NewRegistry()}
	var errs [5]error
	m.relay, errs[0] = telemetry.NewRelayMetrics(m.own, relay)
	m.consumers, errs[1] = consumermetrics.New(m.own)
	m.cache, errs[2] = cachemetrics.New(m.own)
	m.jobs, errs[3] = jobmetrics.New(m.own)
	errs[4] = m.own.Register(collectors.NewDBStatsCollector(db, "postgres"))
	return m, errors.Join(errs[:]...)
}

// register shows the metrics in reg, with those of the process unless it has them.
func (m *metrics) register(reg *prometheus.Registry) error {
	if err := reg.Register(m.own); err != nil {
		return err
	}
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		err := reg.Register(c)
		if _, there := errors.AsType[prometheus.AlreadyRegisteredError](err); err != nil && !there {
			return err
		}
	}
	return nil
}
