// Package consumermetrics has the Prometheus metrics of the consumers of a process,
// of their dead letters, breakers and inboxes.
package consumermetrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/inbox"
	"github.com/millrace-go/millrace/adapters/telemetry/internal/prom"
)

// Metrics are the metrics of all consumers of a process. Give what Hooks returns to
// the routers, and what InboxHooks returns to the inboxes. They are safe for
// concurrent use.
type Metrics struct {
	records, retries, deadLetters, refused, events *prometheus.CounterVec
	handling, commits, batches                     *prometheus.HistogramVec
	paused                                         *prometheus.GaugeVec
}

// New registers the metrics. It returns an error, having
// registered nothing, if reg has metrics of these names already.
func New(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		records:     counter("consumer_records_total", "Deliveries that ended, by outcome: done, dead_lettered, skipped, unfinished.", "outcome"),
		retries:     counter("consumer_retry_total", "Attempts that failed and were followed by another."),
		deadLetters: counter("dlt_records_total", "Dead letters written, by why: decode, fatal, exhausted, panic, timeout, quarantined.", "disposition"),
		refused:     counter("dlt_publish_failures_total", "Dead letters that could not be written at once."),
		events:      counter("inbox_events_total", "Events of committed transactions: applied, duplicate (done before), left_out (for an error).", "result"),
		handling:    timing("consumer_handling_seconds", "Time of one delivery, its retries included.", prom.Seconds),
		commits:     timing("inbox_commit_seconds", "Time of COMMIT.", prom.Seconds),
		paused: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "consumer_paused", Help: "1 while the breaker of a partition is open."},
			[]string{"topic", "group", "partition"}),
		batches: timing("inbox_batch_size", "Events of one committed transaction.", prometheus.ExponentialBuckets(1, 2, 11)),
	}
	return m, prom.Register(reg, "consumer metrics", m.records, m.retries, m.deadLetters, m.refused, m.events, m.handling, m.commits, m.batches, m.paused)
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"topic", "group"}, labels...))
}

func timing(name, help string, buckets []float64) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, []string{"topic", "group"})
}

// Hooks returns hooks that count what becomes of deliveries, and show which
// partitions are paused.
func (m *Metrics) Hooks() consumer.Hooks {
	return consumer.Hooks{
		Delivered: func(d consumer.Delivery) {
			m.records.WithLabelValues(d.Topic, d.Group, string(d.Outcome)).Inc()
			m.handling.WithLabelValues(d.Topic, d.Group).Observe(d.Duration.Seconds())
			if d.Outcome == consumer.OutcomeDeadLettered {
				m.deadLetters.WithLabelValues(d.Topic, d.Group, string(d.Disposition)).Inc()
			}
		},
		Retrying: func(r consumer.RetryInfo) {
			m.retries.WithLabelValues(r.Delivery.Topic, r.Delivery.Group).Inc()
		},
		DeadLetterFailed: func(r consumer.RetryInfo) {
			m.refused.WithLabelValues(r.Delivery.Topic, r.Delivery.Group).Inc()
		},
		Paused:  func(b consumer.BreakerStatus) { m.pausedOf(b).Set(1) },
		Resumed: func(b consumer.BreakerStatus) { m.pausedOf(b).Set(0) },
	}
}

// InboxHooks returns hooks that count the events of transactions. A transaction
// that found nothing to do has no COMMIT.
func (m *Metrics) InboxHooks() inbox.Hooks {
	return inbox.Hooks{Committed: func(c inbox.Commit) {
		for result, n := range map[string]int{"applied": c.Applied, "duplicate": c.Duplicates, "left_out": c.Failed} {
			if n > 0 {
				m.events.WithLabelValues(c.Topic, c.Group, result).Add(float64(n))
			}
		}
		if c.Applied > 0 {
			m.batches.WithLabelValues(c.Topic, c.Group).Observe(float64(c.Applied))
			m.commits.WithLabelValues(c.Topic, c.Group).Observe(c.CommitTook.Seconds())
		}
	}}
}

func (m *Metrics) pausedOf(b consumer.BreakerStatus) prometheus.Gauge {
	return m.paused.WithLabelValues(b.Topic, b.Group, strconv.Itoa(int(b.Partition)))
}
