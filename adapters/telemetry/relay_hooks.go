package telemetry

import (
	"time"

	"github.com/millrace-go/millrace/outbox"
)

// Hooks count on behalf of a relay, and then call next's.
func (m *RelayMetrics) Hooks(next outbox.Hooks) outbox.Hooks {
	own := outbox.Hooks{
		Leading:   func(int64) { m.gapAges.start(time.Now()) },
		Read:      m.read,
		Acked:     m.topics.acked,
		Delivered: m.delivered,
		Saved: func(c outbox.Cursor, took time.Duration) {
			m.saveDuration.Observe(took.Seconds())
			m.gapAges.saw(c.Gaps, time.Now())
		},
		Parked:      func(outbox.Parked) { m.parked.Inc() },
		HandingOver: func(outbox.Member) { m.handedOver.Inc() },
		Unsaved:     func(rows int) { m.unsaved.Add(float64(rows)) },
		Retrying:    func(err error, _ time.Duration) { m.errors.WithLabelValues(errorKind(err)).Inc() },
	}
	return outbox.Hooks{
		Leading:     then(own.Leading, next.Leading),
		Stopped:     next.Stopped,
		Waiting:     next.Waiting,
		HandingOver: then(own.HandingOver, next.HandingOver),
		Read:        then(own.Read, next.Read),
		Acked:       then2(own.Acked, next.Acked),
		Delivered:   then2(own.Delivered, next.Delivered),
		Saved:       then2(own.Saved, next.Saved),
		Unsaved:     then(own.Unsaved, next.Unsaved),
		Parked:      then(own.Parked, next.Parked),
		Retrying:    then2(own.Retrying, next.Retrying),
	}
}

func then[A any](first, next func(A)) func(A) {
	if next == nil {
		return first
	}
	return func(a A) { first(a); next(a) }
}

func then2[A, B any](first, next func(A, B)) func(A, B) {
	if next == nil {
		return first
	}
	return func(a A, b B) { first(a, b); next(a, b) }
}

func (m *RelayMetrics) read(i outbox.ReadInfo) {
	m.reads.WithLabelValues(string(i.Wake)).Inc()
	m.readTime.Observe(i.Took.Seconds())
	m.payload.Add(float64(i.Bytes))
	if i.Rows > 0 {
		m.batch.Observe(float64(i.Rows))
	}
}

func (m *RelayMetrics) delivered(_ int, took time.Duration) {
	m.publishTime.Observe(took.Seconds())
	m.acked.Store(time.Now().UnixNano())
}
