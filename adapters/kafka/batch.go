package kafka

import (
	"context"
	"sync/atomic"

	"github.com/IBM/sarama"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// slot is one message on its way. Sarama carries it as the message's Metadata.
type slot struct {
	wire
	batch   *batch
	index   int   // in the caller's call
	place   int32 // the partition asked for, or negative
	limit   int   // size limit of its topic, which picks its lane
	settled bool  // guarded by session.mu
}

func (s *slot) partition() int32 { return s.place }

// again returns a copy that Sarama has not seen.
func (s *slot) again(b *batch) slot {
	fresh := slot{batch: b, place: s.place, limit: s.limit}
	var key, value []byte
	if s.msg.Key != nil {
		key = s.key
	}
	if s.msg.Value != nil {
		value = s.value
	}
	fresh.set(s.msg.Topic, key, value, s.msg.Headers)
	return fresh
}

// batch is what one call has handed over.
type batch struct {
	slots   []slot
	left    atomic.Int64
	ack     func(i int, err error)
	unwatch func() bool // ends the watch on the caller's context
}

// encode makes a batch of entries, less those that are refused: these are
// acknowledged with the verdict, and later ones of their keys given up, at once.
func (p *Publisher) encode(ctx context.Context, entries []outbox.Entry, ack func(i int, err error)) *batch {
	b := &batch{slots: make([]slot, len(entries)), ack: ack}
	a := newArena(entries)
	var refused map[outbox.ParkedKey]bool
	var topic string
	var info topicView
	n := 0
	for i := range entries {
		e := &entries[i]
		if i == 0 || e.Topic != topic {
			topic, info = e.Topic, p.topics.view(ctx, e.Topic)
		}
		key := outbox.ParkedKey{Topic: e.Topic, Key: e.Key}
		if refused[key] {
			ack(i, errBehindRefused)
			continue
		}
		s := &b.slots[n]
		*s = slot{batch: b, index: i, place: record.PartitionByKey, limit: info.limit}
		a.entry(&s.wire, e)
		if err := info.verdict(s.size()); err != nil {
			if refused == nil {
				refused = map[outbox.ParkedKey]bool{}
			}
			refused[key] = true
			ack(i, err)
			continue
		}
		s.msg.Metadata = s
		n++
	}
	b.slots = b.slots[:n]
	return b
}

// fail acknowledges every message of a batch that no session has taken.
func (b *batch) fail(err error) {
	for i := range b.slots {
		b.ack(b.slots[i].index, err)
	}
}

var _ sarama.Encoder = (*octets)(nil)
