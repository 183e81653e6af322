package telemetry

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace-go/millrace/outbox"
)

const (
	// MaxTopics is how many topics RelayMetrics shows by name.
	MaxTopics = 200
	// OtherTopics is the topic label of those beyond MaxTopics.
	OtherTopics = "(other)"
)

// topicMetrics count by topic.
type topicMetrics struct {
	published *prometheus.CounterVec
	latency   *prometheus.HistogramVec

	mu    sync.RWMutex
	known map[string]*topicMetric
}

type topicMetric struct {
	published prometheus.Counter
	latency   prometheus.Observer
}

func newTopicMetrics() *topicMetrics {
	return &topicMetrics{
		known: map[string]*topicMetric{},
		published: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "relay_messages_published_total", Help: "Messages acknowledged by the broker."}, []string{"topic"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "relay_end_to_end_latency_seconds", Buckets: endToEnd,
			Help: "Time from a message's insertion, by the database's clock, to the acknowledgement of its batch, by the relay's.",
		}, []string{"topic"}),
	}
}

// acked counts the entries that were not parked. Entries of one topic mostly
// come in a row, so the topic is looked up once for each row of them.
func (m *topicMetrics) acked(entries []outbox.Entry, parked []outbox.Parked) {
	now := time.Now()
	var aside map[int64]bool
	if len(parked) > 0 {
		aside = make(map[int64]bool, len(parked))
		for i := range parked {
			aside[parked[i].Position] = true
		}
	}
	var t *topicMetric
	topic, n := "", 0
	for i := range entries {
		e := &entries[i]
		if aside[e.Position] {
			continue
		}
		if t == nil || e.Topic != topic {
			t.add(n)
			t, topic, n = m.topic(e.Topic), e.Topic, 0
		}
		t.latency.Observe(age(now, e.CreatedAt))
		n++
	}
	t.add(n)
}

func (t *topicMetric) add(n int) {
	if n > 0 {
		t.published.Add(float64(n))
	}
}

func (m *topicMetrics) topic(name string) *topicMetric {
	m.mu.RLock()
	t := m.known[name]
	m.mu.RUnlock()
	if t != nil {
		return t
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known[name] == nil && len(m.known) >= MaxTopics {
		name = OtherTopics
	}
	if m.known[name] == nil {
		m.known[name] = &topicMetric{m.published.WithLabelValues(name), m.latency.WithLabelValues(name)}
	}
	return m.known[name]
}
