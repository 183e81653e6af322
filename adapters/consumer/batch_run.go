package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/consumer/internal/records"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// defaultParallel is how many messages of split batches a handler has at once.
const defaultParallel = 16

// batchHandler is a batch handler of a run.
type batchHandler struct {
	*handler
	run        *run
	deliveries context.Context //nolint:containedctx // the run's, which ends every delivery
	tracer     Tracer
	single     message.HandlerFunc         // the whole chain, for one message
	collected  []message.HandlerMiddleware // those of WithAround and WithInside
}

// wireBatches subscribes h, which runs beside Watermill's router.
func (r *run) wireBatches(subscriptions, deliveries context.Context, h *handler, chain []message.HandlerMiddleware) error {
	in, err := h.batches.SubscribeBatches(subscriptions, h.topic)
	if err != nil {
		return fmt.Errorf("handler %q: subscribe %s: %w", h.name, h.topic, err)
	}
	b := &batchHandler{handler: h, run: r, deliveries: deliveries, tracer: r.router.cfg.Tracer}
	if len(h.around)+len(h.inside) > 0 {
		b.collected = slices.Concat(h.around, []message.HandlerMiddleware{hideFailure}, h.inside)
	}
	b.single = through(chain, h.fn)
	r.pumps.Go(func() { b.pump(in) })
	return nil
}

// through puts middlewares, outermost first, around fn.
func through(chain []message.HandlerMiddleware, fn message.NoPublishHandlerFunc) message.HandlerFunc {
	next := func(msg *message.Message) ([]*message.Message, error) { return nil, fn(msg) } //nolint:unparam // the type is Watermill's
	for _, middleware := range slices.Backward(chain) {
		next = middleware(next)
	}
	return next
}

// pump takes batches until the subscription is closed or the run is over.
func (b *batchHandler) pump(in <-chan *record.Batch) {
	for {
		select {
		case <-b.run.over:
			return
		case batch, ok := <-in:
			if !ok {
				b.run.subscriptionEnded(b.handler)
				return
			}
			b.run.router.inflight.add(b.name, len(batch.Messages))
			b.run.batches.Go(func() { b.handle(batch) })
		}
	}
}

// attempt is one message of a batch.
type attempt struct {
	msg      *message.Message
	d        *state
	original context.Context //nolint:containedctx // the message's, to be given back
	key      string
	keyed    bool

	state attemptState
	first error // its failure within the batch, if that is known
}

type attemptState int

const (
	passing  attemptState = iota // on its way through the middlewares
	ready                        // for the function, as a part of the batch
	late                         // came through after the function was called
	kept                         // by a middleware that returned an error instead of passing it on
	done                         // the function succeeded with it
	answered                     // acknowledged, or left unfinished
)

// handle handles one batch: as a whole, and what remains by itself.
func (b *batchHandler) handle(batch *record.Batch) {
	ctx, cancel := context.WithCancel(batch.Context())
	defer cancel()
	defer context.AfterFunc(b.deliveries, cancel)()
	attempts := make([]*attempt, len(batch.Messages))
	for i, msg := range batch.Messages {
		attempts[i] = b.newAttempt(ctx, msg)
	}
	b.whole(ctx, batch, attempts)
	remaining := slices.DeleteFunc(attempts, func(a *attempt) bool {
		a.msg.SetContext(a.original)
		return a.state == answered
	})
	if len(remaining) > 0 {
		batch.Release()
		b.split(ctx, batch, remaining)
	}
}

// newAttempt makes a delivery of one message of a batch.
func (b *batchHandler) newAttempt(ctx context.Context, msg *message.Message) *attempt {
	a := &attempt{msg: msg, d: b.run.newDelivery(b.handler, msg), original: msg.Context()}
	a.key, a.keyed = records.Key(msg)
	own := withDelivery(a.original, a.d)
	if b.tracer != nil {
		own = b.tracer.Continue(own, msg.Metadata.Get(outbox.HeaderTraceparent))
	}
	msg.SetContext(within{ctx, own})
	return a
}

// answer acknowledges a message, or leaves it unfinished because of err.
func (b *batchHandler) answer(a *attempt, err error) {
	a.msg.SetContext(a.original)
	b.run.finish(b.handler, a.msg, a.d, err)
}

// whole passes the messages through the middlewares, calls the function for those
// that come through, and answers those that are done.
func (b *batchHandler) whole(ctx context.Context, batch *record.Batch, attempts []*attempt) {
	for _, a := range attempts {
		if forOthers(a.msg, b.group) {
			a.d.Outcome, a.state = OutcomeSkipped, answered
			b.answer(a, nil)
		}
	}
	if len(b.collected) > 0 {
		b.collect(ctx, batch, attempts)
		return
	}
	var part []*attempt
	for _, a := range attempts {
		if a.state != answered {
			part = append(part, a)
		}
	}
	b.call(ctx, batch, part)
	for _, a := range part {
		if a.state == done {
			a.state = answered
			b.answer(a, nil)
		}
	}
}

// call gives part to the handler's function and records what became of each.
func (b *batchHandler) call(ctx context.Context, batch *record.Batch, part []*attempt) {
	if len(part) == 0 {
		return
	}
	timed, cancel := ctx, context.CancelFunc(func() {})
	if b.timeout > 0 {
		timed, cancel = context.WithTimeout(ctx, b.timeout)
		if after := b.run.router.cfg.HangAfter; after > 0 {
			defer watch(part[0].d, b.timeout+after)()
		}
	}
	defer cancel()
	msgs := make([]*message.Message, len(part))
	outer := make([]context.Context, len(part))
	for i, a := range part {
		msgs[i], outer[i] = a.msg, a.msg.Context()
		a.msg.SetContext(within{timed, outer[i]})
		a.d.Attempts = 1
	}
	err := recovered(func() error { return b.batch(record.NewBatch(timed, batch.Topic, batch.Partition, msgs, nil)) })
	for i, a := range part {
		a.msg.SetContext(outer[i])
	}
	b.recordResult(part, err, timed.Err() != nil || errors.Is(err, ErrUnfinished))
}

// recordResult records the function's result. If the time was over, failures of
// single messages say nothing about them.
func (b *batchHandler) recordResult(part []*attempt, err error, timeOver bool) {
	if err == nil {
		for _, a := range part {
			a.state = done
		}
		return
	}
	failed, ok := errors.AsType[*BatchError](err)
	if !ok {
		if p, ok := errors.AsType[*PanicError](err); ok {
			b.run.router.cfg.Hooks.Panicked(part[0].d.Delivery, p)
		}
		return
	}
	if len(failed.Failed) == 0 {
		return
	}
	for i, a := range part {
		why, isFailed := failed.Failed[i]
		switch {
		case !isFailed:
			a.state = done
		case !timeOver:
			a.first = why
		}
	}
}

// within is a message's context while its batch is at work: the values of its own
// context, and the end of the batch's.
type within struct {
	context.Context                 //nolint:containedctx // the batch's
	own             context.Context //nolint:containedctx // the message's
}

// Value looks in the message's own context.
func (w within) Value(key any) any { return w.own.Value(key) }
