package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// Publish sends messages to topic at once and returns when the broker has made all
// of them durable. A message's key, headers and partition are those of the
// record.Record its context carries. Otherwise the key is the metadata
// outbox.MetadataKey, and the other metadata are the headers; the event id is the
// message's UUID if the metadata has none.
//
// It retries for as long as the messages' contexts live. An error that is
// outbox.ErrUnpublishable is final; after any other error some of the messages
// may be stored.
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	ctx, cancel := joined(messages)
	defer cancel()
	todo := messages
	for len(todo) > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		again, err := p.publishOnce(ctx, topic, todo)
		if err != nil {
			return fmt.Errorf("publish to %s: %w", topic, err)
		}
		todo = again
	}
	return nil
}

// publishOnce returns the messages that were given up through no fault of their own.
func (p *Publisher) publishOnce(ctx context.Context, topic string, messages []*message.Message) (again []*message.Message, err error) {
	known := p.reported()
	info := p.topics.view(ctx, topic)
	errs := make([]error, len(messages))
	done := make(chan struct{}, len(messages))
	b := &batch{messages: make([]outgoing, len(messages)), ack: func(i int, err error) {
		errs[i] = err
		done <- struct{}{}
	}}
	for i, m := range messages {
		out := &b.messages[i]
		*out = outgoing{batch: b, index: i, limit: info.limit}
		if out.wanted, err = p.marshaler.marshal(&out.wire, topic, m); err != nil {
			return nil, err
		}
		if err := info.verdict(out.size()); err != nil {
			return nil, fmt.Errorf("message %q: %w", m.UUID, err)
		}
		out.msg.Metadata = out
	}
	p.send(ctx, b, known)
	for range messages {
		<-done
	}
	for i, err := range errs {
		switch {
		case err == nil:
		case errors.Is(err, ErrGaveUp) && p.over(ctx) == nil:
			again = append(again, messages[i])
		default:
			return nil, err
		}
	}
	return again, nil
}

// joined returns a context that ends with the first of the messages' contexts.
func joined(messages []*message.Message) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	var stops []func() bool
	var last context.Context
	for _, m := range messages {
		mc := m.Context()
		if mc.Done() == nil || mc == last {
			continue
		}
		last = mc
		stops = append(stops, context.AfterFunc(mc, func() { cancel(context.Cause(mc)) }))
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel(nil)
	}
}

// PublishBatch implements outbox.BatchPublisher. While the broker cannot be reached
// or the queue is full it waits, until ctx ends. When ctx ends, every message in
// flight in this publisher is given up.
func (p *Publisher) PublishBatch(ctx context.Context, entries []outbox.Entry, ack func(i int, err error)) {
	if ctx.Err() != nil {
		for i := range entries {
			ack(i, context.Cause(ctx))
		}
		return
	}
	known := p.reported()
	p.send(ctx, p.encode(ctx, entries, ack), known)
}

// Vet implements outbox.Vetter: it refuses a message whose topic does not exist or
// may not be written, or that is larger than its topic allows. It waits only for the
// first answer about a topic, or to see whether a limit has been raised. While no
// broker can be reached it refuses nothing that it did not refuse before.
func (p *Publisher) Vet(ctx context.Context, e *outbox.Entry) error {
	size := entrySize(e)
	err := p.topics.view(ctx, e.Topic).verdict(size)
	if err != nil && p.topics.doubt(e.Topic) {
		err = p.topics.view(ctx, e.Topic).verdict(size)
	}
	return err
}

// encode makes a batch of the entries. An entry that its topic would refuse is
// answered with the verdict at once, and later entries of its key are given up.
func (p *Publisher) encode(ctx context.Context, entries []outbox.Entry, ack func(i int, err error)) *batch {
	b := &batch{messages: make([]outgoing, len(entries)), ack: ack}
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
		out := &b.messages[n]
		*out = outgoing{batch: b, index: i, wanted: record.PartitionByKey, limit: info.limit}
		a.entry(&out.wire, e)
		if err := info.verdict(out.size()); err != nil {
			if refused == nil {
				refused = map[outbox.ParkedKey]bool{}
			}
			refused[key] = true
			ack(i, err)
			continue
		}
		out.msg.Metadata = out
		n++
	}
	b.messages = b.messages[:n]
	return b
}

// reported returns how many producers have failed messages and have answered every
// caller since.
func (p *Publisher) reported() int64 {
	if pr, _ := p.current(); pr != nil && pr.allAnswered() {
		<-pr.ended
	}
	return p.failedProducers.Load()
}

// send hands b to a producer, or fails all of it. It fails b if a producer failed
// messages after the caller read known: the caller began before it had those errors,
// so b may hold later messages of the same keys.
func (p *Publisher) send(ctx context.Context, b *batch, known int64) {
	if len(b.messages) == 0 {
		return
	}
	for {
		pr, err := p.acquire(ctx)
		switch {
		case err == nil && ctx.Err() != nil:
			err = context.Cause(ctx)
		case err == nil && p.failedProducers.Load() != known:
			err = gaveUp(errEarlierFailed)
		}
		if err != nil {
			b.fail(err)
			return
		}
		if pr.admit(ctx, b) {
			pr.feed(b)
			return
		}
		select {
		case <-pr.ended:
		case <-ctx.Done():
			b.fail(context.Cause(ctx))
			return
		}
	}
}
