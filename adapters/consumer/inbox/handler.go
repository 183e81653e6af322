package inbox

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/internal/missing"
	"github.com/millrace-go/millrace/outbox/record"
)

// Handler makes effect a handler of single messages, one transaction each, for
// consumer.Router or any other Watermill router.
func (i *Inbox) Handler(effect Effect) message.NoPublishHandlerFunc {
	if effect == nil {
		return missing.Handler
	}
	return func(msg *message.Message) error {
		ctx := msg.Context()
		topic := message.SubscribeTopicFromCtx(ctx)
		if r, ok := record.From(ctx); ok {
			topic = r.Topic
		}
		w := &work{topic: topic, make: effect.make, items: []*item{newItem(msg, time.Now())}, single: true}
		if err := i.do(ctx, w); err != nil {
			return err
		}
		return w.items[0].err
	}
}

// cautious is how many batches after a broken one are done with savepoints from
// the start.
const cautious = 64

// Batch makes effect a batch handler: one transaction for a whole batch, with one
// insert for the ids of its events, then effect for each event that is new, in
// order. If effect fails for a message, the others are done without it, and
// without the ones of its key that follow it: these are handled by themselves
// after it.
func (i *Inbox) Batch(effect Effect) consumer.BatchFunc {
	if effect == nil {
		return missing.Batch
	}
	return i.batches(effect.make)
}

// batches is a batch handler whose effects are made by the given function.
func (i *Inbox) batches(effects func(context.Context, *sql.Tx, *work, []*item) error) consumer.BatchFunc {
	var caution atomic.Int64
	return func(b *record.Batch) error {
		w := &work{topic: b.Topic, make: effects, items: make([]*item, len(b.Messages)), single: len(b.Messages) == 1}
		now := time.Now()
		for n, msg := range b.Messages {
			w.items[n] = newItem(msg, now)
		}
		w.careful = !w.single && caution.Add(-1) >= 0
		if err := i.do(b.Context(), w); err != nil {
			return err
		}
		if w.broke {
			caution.Store(cautious)
		}
		return w.result()
	}
}

// result reports to the router what was left out.
func (w *work) result() error {
	failed := map[int]error{}
	for n, it := range w.items {
		if it.failed {
			failed[n] = it.err
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return &consumer.BatchError{Failed: failed}
}

// ended is the error of work whose context ended, nil before.
func ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	return nil
}
