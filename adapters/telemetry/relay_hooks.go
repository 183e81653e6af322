package telemetry

import (
	"time"

	"github.com/millrace-go/millrace/adapters/internal/hook"
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
		Leading:     hook.Tee1(own.Leading, next.Leading),
		Stopped:     next.Stopped,
		Waiting:     next.Waiting,
		HandingOver: hook.Tee1(own.HandingOver, next.HandingOver),
		Read:        hook.Tee1(own.Read, next.Read),
		Acked:       hook.Tee2(own.Acked, next.Acked),
		Delivered:   hook.Tee2(own.Delivered, next.Delivered),
		Saved:       hook.Tee2(own.Saved, next.Saved),
		Unsaved:     hook.Tee1(own.Unsaved, next.Unsaved),
		Parked:      hook.Tee1(own.Parked, next.Parked),
		Retrying:    hook.Tee2(own.Retrying, next.Retrying),
	}
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
