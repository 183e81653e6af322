package kafka

import (
	"sync/atomic"
)

// outgoing is one message on its way to the broker. Sarama carries it as the
// message's Metadata.
type outgoing struct {
	wire
	batch    *batch
	index    int   // in the caller's call
	wanted   int32 // the partition asked for, or negative
	limit    int   // size limit of its topic, which selects its sizedProducer
	answered bool  // has its verdict; guarded by producer.mu
}

func (m *outgoing) partition() int32 { return m.wanted }

// again returns a copy that Sarama has not seen.
func (m *outgoing) again(b *batch) outgoing {
	fresh := outgoing{batch: b, wanted: m.wanted, limit: m.limit}
	var key, value []byte
	if m.msg.Key != nil {
		key = m.key
	}
	if m.msg.Value != nil {
		value = m.value
	}
	fresh.set(m.msg.Topic, key, value, m.msg.Headers)
	return fresh
}

// batch holds the messages of one call.
type batch struct {
	messages []outgoing
	left     atomic.Int64           // messages without a verdict
	ack      func(i int, err error) // the caller's
	unwatch  func() bool            // ends the watch on the caller's context
}

// fail answers every message of a batch that no producer has admitted.
func (b *batch) fail(err error) {
	for i := range b.messages {
		b.ack(b.messages[i].index, err)
	}
}
