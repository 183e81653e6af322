package telemetry

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ConsumerMetrics are the Prometheus metrics of the consumers of a process. Call
// its methods from the hooks of the router and of the inbox:
//
//	consumer.Hooks{
//		Delivered: func(d consumer.Delivery) {
//			m.Delivered(d.Topic, d.Group, string(d.Outcome), string(d.Disposition), d.Duration)
//		},
//		Retrying:         func(r consumer.RetryInfo) { m.Retried(r.Delivery.Topic, r.Delivery.Group) },
//		DeadLetterFailed: func(r consumer.RetryInfo) { m.DeadLetterRefused(r.Delivery.Topic, r.Delivery.Group) },
//		Paused:           func(b consumer.BreakerStatus) { m.Paused(b.Topic, b.Group, b.Partition, true) },
//		Resumed:          func(b consumer.BreakerStatus) { m.Paused(b.Topic, b.Group, b.Partition, false) },
//	}
//	inbox.Hooks{Committed: func(c inbox.Commit) { m.Committed(c.Topic, c.Group, c.Applied, c.Duplicates, c.Failed, c.CommitTook) }}
//
// It is safe for concurrent use.
type ConsumerMetrics struct {
	records, retries, letters, refused, events *prometheus.CounterVec
	handling, commits, batches                 *prometheus.HistogramVec
	paused                                     *prometheus.GaugeVec
}

// NewConsumerMetrics registers the metrics. It returns an error, having
// registered nothing, if reg has metrics of these names already.
func NewConsumerMetrics(reg prometheus.Registerer) (*ConsumerMetrics, error) {
	if reg == nil {
		return nil, errors.New("consumer metrics: registerer: is nil")
	}
	m := &ConsumerMetrics{
		records:  consumerCounter("consumer_records_total", "Deliveries that ended, by outcome: done, dead_lettered, skipped, unfinished.", "outcome"),
		retries:  consumerCounter("consumer_retry_total", "Attempts that failed and were followed by another."),
		letters:  consumerCounter("dlt_records_total", "Dead letters written, by why: decode, fatal, exhausted, panic, timeout, quarantined.", "disposition"),
		refused:  consumerCounter("dlt_publish_failures_total", "Dead letters that could not be written at once."),
		events:   consumerCounter("inbox_events_total", "Events of committed transactions: applied, duplicate (done before), left_out (for an error).", "result"),
		handling: consumerTiming("consumer_handling_seconds", "Time of one delivery, its retries included.", seconds),
		commits:  consumerTiming("inbox_commit_seconds", "Time of COMMIT.", seconds),
		paused: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "consumer_paused", Help: "1 while the breaker of a partition is open."},
			[]string{"topic", "group", "partition"}),
		batches: consumerTiming("inbox_batch_size", "Events of one committed transaction.", prometheus.ExponentialBuckets(1, 2, 11)),
	}
	var done []prometheus.Collector
	for _, c := range []prometheus.Collector{m.records, m.retries, m.letters, m.refused, m.events, m.handling, m.commits, m.batches, m.paused} {
		if err := reg.Register(c); err != nil {
			for _, d := range done {
				reg.Unregister(d)
			}
			return nil, fmt.Errorf("consumer metrics: %w", err)
		}
		done = append(done, c)
	}
	return m, nil
}

func consumerCounter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"topic", "group"}, labels...))
}

func consumerTiming(name, help string, buckets []float64) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, []string{"topic", "group"})
}

// Delivered counts the end of one delivery.
func (m *ConsumerMetrics) Delivered(topic, group, outcome, disposition string, took time.Duration) {
	m.records.WithLabelValues(topic, group, outcome).Inc()
	m.handling.WithLabelValues(topic, group).Observe(took.Seconds())
	if outcome == "dead_lettered" {
		m.letters.WithLabelValues(topic, group, disposition).Inc()
	}
}

// Retried counts a failed attempt that is followed by another.
func (m *ConsumerMetrics) Retried(topic, group string) { m.retries.WithLabelValues(topic, group).Inc() }

// DeadLetterRefused counts a dead letter that could not be written.
func (m *ConsumerMetrics) DeadLetterRefused(topic, group string) {
	m.refused.WithLabelValues(topic, group).Inc()
}

// Committed counts the events of one transaction of an inbox. A transaction that
// found nothing to do has no COMMIT.
func (m *ConsumerMetrics) Committed(topic, group string, applied, duplicates, leftOut int, commit time.Duration) {
	for result, n := range map[string]int{"applied": applied, "duplicate": duplicates, "left_out": leftOut} {
		if n > 0 {
			m.events.WithLabelValues(topic, group, result).Add(float64(n))
		}
	}
	if applied > 0 {
		m.batches.WithLabelValues(topic, group).Observe(float64(applied))
		m.commits.WithLabelValues(topic, group).Observe(commit.Seconds())
	}
}

// Paused notes whether the breaker of a partition is open.
func (m *ConsumerMetrics) Paused(topic, group string, partition int32, paused bool) {
	value := 0.0
	if paused {
		value = 1
	}
	m.paused.WithLabelValues(topic, group, strconv.Itoa(int(partition))).Set(value)
}
