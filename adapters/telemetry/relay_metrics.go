package telemetry

import (
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace-go/millrace/adapters/telemetry/internal/prom"
	"github.com/millrace-go/millrace/outbox"
)

// RelayMetrics are the Prometheus metrics of one relay; docs/metrics.md lists
// them. Give Hooks to the relay's config, then the relay's Status to Follow, and
// run WatchLag beside the relay. It is safe for concurrent use.
type RelayMetrics struct {
	topics *topicMetrics

	parked, payload, handedOver, unsaved       prometheus.Counter
	errors, reads                              *prometheus.CounterVec
	batch, readTime, publishTime, saveDuration prometheus.Histogram

	status  atomic.Pointer[func() outbox.Status]
	lag     atomic.Pointer[measuredLag]
	acked   atomic.Int64 // Unix nanoseconds; 0 is never
	gapAges gapAges
}

// endToEnd has further buckets for catching up after an outage.
var endToEnd = append(slices.Clone(prom.Seconds[1:]), 30, 60, 300, 1800)

// NewRelayMetrics registers the metrics of a relay. Each carries the name of the
// relay as the label "relay", so that one process can have several; an empty name
// leaves the label out. It returns an error, having registered nothing, if reg
// has metrics of these names already.
func NewRelayMetrics(reg prometheus.Registerer, relay string) (*RelayMetrics, error) {
	if reg != nil && relay != "" {
		reg = prometheus.WrapRegistererWith(prometheus.Labels{"relay": relay}, reg)
	}
	m := &RelayMetrics{
		topics: newTopicMetrics(),
		parked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "relay_messages_parked_total", Help: "Messages set aside because the broker will never take them, or behind such a one of their key."}),
		handedOver: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "relay_handovers_total", Help: "Times that this process stepped down in favour of another of its fleet that led fewer outboxes."}),
		unsaved: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "relay_messages_unsaved_total", Help: "Messages read and not covered by the saved cursor when a lead broke off: no more than these came twice for it."}),
		payload: prometheus.NewCounter(prometheus.CounterOpts{Name: "relay_payload_bytes_total", Help: "Payload of the messages read."}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "relay_errors_total", Help: "Errors after which the relay tried again, by what did not work."}, []string{"kind"}),
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "relay_reads_total", Help: "Reads that found messages or closed gaps, by what made the relay read."}, []string{"wake"}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "relay_batch_size", Help: "Messages of one read that found any.", Buckets: prometheus.ExponentialBuckets(1, 4, 8)}),
		readTime:     timing("relay_read_duration_seconds", "Time of one read of the log that found messages or closed gaps."),
		publishTime:  timing("relay_publish_duration_seconds", "Time from the start of a read to its last acknowledgement by the broker."),
		saveDuration: timing("relay_save_duration_seconds", "Time to make the cursor durable."),
	}
	for _, kind := range errorKinds {
		m.errors.WithLabelValues(kind)
	}
	for _, source := range []outbox.WakeSource{outbox.WakeNone, outbox.WakePoll, outbox.WakeCall, outbox.WakeNotify} {
		m.reads.WithLabelValues(string(source))
	}
	return m, prom.Register(reg, "relay metrics", m.topics.published, m.topics.latency, m.parked, m.handedOver, m.unsaved, m.payload,
		m.errors, m.reads, m.batch, m.readTime, m.publishTime, m.saveDuration, stateCollector{m})
}

func timing(name, help string) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: prom.Seconds})
}

// Follow makes the metrics show what status, a Relay's Status, returns at each
// scrape. Until then there are no gauges of it.
func (m *RelayMetrics) Follow(status func() outbox.Status) { m.status.Store(&status) }

// The kinds of relay_errors_total.
const (
	errorPublish = "publish" // the publisher gave up
	errorLease   = "lease"   // the lead was lost
	errorUnsafe  = "unsafe"  // the log cannot be read safely
	errorLog     = "log"     // a call to the database
	errorLag     = "lag"     // counting the backlog
)

var errorKinds = []string{errorPublish, errorLease, errorUnsafe, errorLog, errorLag}

func errorKind(err error) string {
	switch {
	case errors.Is(err, outbox.ErrPublish):
		return errorPublish
	case errors.Is(err, outbox.ErrLeaseLost):
		return errorLease
	case errors.Is(err, outbox.ErrUnsafeLog):
		return errorUnsafe
	}
	return errorLog
}

// age is the time since t, and 0 for the zero time or a clock set back.
func age(now, t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return max(0, now.Sub(t).Seconds())
}
