package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Publish sends messages to topic in one go and returns when the broker has made
// all of them durable. A message's key, headers and partition are those of the
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
		rest, err := p.publishOnce(ctx, topic, todo)
		if err != nil {
			return fmt.Errorf("publish to %s: %w", topic, err)
		}
		todo = rest
	}
	return nil
}

// publishOnce returns the messages that were given up for no fault of theirs.
func (p *Publisher) publishOnce(ctx context.Context, topic string, messages []*message.Message) (rest []*message.Message, err error) {
	known := p.known()
	info := p.topics.view(ctx, topic)
	errs := make([]error, len(messages))
	done := make(chan struct{}, len(messages))
	b := &batch{slots: make([]slot, len(messages)), ack: func(i int, err error) {
		errs[i] = err
		done <- struct{}{}
	}}
	for i, m := range messages {
		s := &b.slots[i]
		*s = slot{batch: b, index: i, limit: info.limit}
		if s.place, err = p.marshaler.marshal(&s.wire, topic, m); err != nil {
			return nil, err
		}
		if err := info.verdict(s.size()); err != nil {
			return nil, fmt.Errorf("message %q: %w", m.UUID, err)
		}
		s.msg.Metadata = s
	}
	p.send(ctx, b, known)
	for range messages {
		<-done
	}
	for i, err := range errs {
		switch {
		case err == nil:
		case errors.Is(err, ErrGaveUp) && p.over(ctx) == nil:
			rest = append(rest, messages[i])
		default:
			return nil, err
		}
	}
	return rest, nil
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
