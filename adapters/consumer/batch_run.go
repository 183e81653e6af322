package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// defaultParallel is how many messages of broken batches a handler has at once.
const defaultParallel = 16

// batchHandler is a batch handler of a session.
type batchHandler struct {
	*handler
	s      *session
	hard   context.Context //nolint:containedctx // the session's, which ends every delivery
	tracer Tracer
	alone  message.HandlerFunc         // the whole chain, for one message
	seen   []message.HandlerMiddleware // Around and Inside
}

// wireBatches subscribes h, which runs beside Watermill's router.
func (s *session) wireBatches(soft, hard context.Context, h *handler, chain []message.HandlerMiddleware) error {
	in, err := h.batches.SubscribeBatches(soft, h.topic)
	if err != nil {
		return fmt.Errorf("handler %q: subscribe %s: %w", h.name, h.topic, err)
	}
	b := &batchHandler{handler: h, s: s, hard: hard, tracer: s.router.cfg.Tracer}
	if len(h.around)+len(h.inside) > 0 {
		b.seen = slices.Concat(h.around, []message.HandlerMiddleware{untried}, h.inside)
	}
	b.alone = through(chain, func(msg *message.Message) error { return h.fn(msg) })
	s.pumps.Go(func() { b.pump(in) })
	return nil
}

// through puts middlewares, outermost first, around fn.
func through(chain []message.HandlerMiddleware, fn message.NoPublishHandlerFunc) message.HandlerFunc {
	next := func(msg *message.Message) ([]*message.Message, error) { return nil, fn(msg) }
	for i := len(chain) - 1; i >= 0; i-- {
		next = chain[i](next)
	}
	return next
}

// pump takes batches until the subscription is closed or the session is over.
func (b *batchHandler) pump(in <-chan *record.Batch) {
	for {
		select {
		case <-b.s.over:
			return
		case batch, ok := <-in:
			if !ok {
				b.s.tellEnded(b.handler)
				return
			}
			b.s.router.inflight.add(b.name, len(batch.Messages))
			b.s.batches.Go(func() { b.run(batch) })
		}
	}
}

// try is one message of a batch on its way.
type try struct {
	msg    *message.Message
	d      *state
	before context.Context //nolint:containedctx // the message's, to be given back
	key    string
	keyed  bool

	arrived bool  // it came through the middlewares in time,
	late    bool  // or too late,
	gone    bool  // or it did not,
	kept    bool  // for an error of theirs
	done    bool  // the function was successful with it
	settled bool  // it is answered
	first   error // its failure within the batch, if that is known
}

// run handles one batch: together, and what is then left by itself.
func (b *batchHandler) run(batch *record.Batch) {
	ctx, cancel := context.WithCancel(batch.Context())
	defer cancel()
	defer context.AfterFunc(b.hard, cancel)()
	tries := make([]*try, len(batch.Messages))
	for i, msg := range batch.Messages {
		tries[i] = b.begin(ctx, msg)
	}
	b.together(ctx, batch, tries)
	left := tries[:0]
	for _, t := range tries {
		t.msg.SetContext(t.before)
		if !t.settled {
			left = append(left, t)
		}
	}
	if len(left) == 0 {
		return
	}
	batch.Release()
	b.apart(ctx, batch, left)
}

// begin makes a delivery of one message of a batch.
func (b *batchHandler) begin(ctx context.Context, msg *message.Message) *try {
	t := &try{msg: msg, d: b.s.newDelivery(b.handler, msg), before: msg.Context()}
	t.key, t.keyed = Key(msg)
	own := withDelivery(t.before, t.d)
	if b.tracer != nil {
		own = b.tracer.Continue(own, msg.Metadata.Get(outbox.HeaderTraceparent))
	}
	msg.SetContext(within{ctx, own})
	return t
}

// settle answers a message that is done, or needs nothing done.
func (b *batchHandler) settle(t *try) {
	t.msg.SetContext(t.before)
	t.settled = true
	b.s.finish(b.handler, t.msg, t.d, nil)
}

// abandon leaves a message to whoever gets it next.
func (b *batchHandler) abandon(t *try) {
	t.msg.SetContext(t.before)
	t.settled = true
	b.s.finish(b.handler, t.msg, t.d, ErrUnfinished)
}

// together lets the messages pass what stands before the function, calls it for
// those that come through, and answers those that are done.
func (b *batchHandler) together(ctx context.Context, batch *record.Batch, tries []*try) {
	for _, t := range tries {
		if forOthers(t.msg, b.group) {
			t.d.Outcome = OutcomeSkipped
			b.settle(t)
		}
	}
	if len(b.seen) > 0 {
		b.gather(ctx, batch, tries)
		return
	}
	var part []*try
	for _, t := range tries {
		if !t.settled {
			t.arrived = true
			part = append(part, t)
		}
	}
	b.call(ctx, batch, part)
	for _, t := range part {
		if t.done {
			b.settle(t)
		}
	}
}

// call gives part to the handler's function and notes in it what became of each.
func (b *batchHandler) call(ctx context.Context, batch *record.Batch, part []*try) {
	if len(part) == 0 {
		return
	}
	timed, cancel := ctx, context.CancelFunc(func() {})
	if b.timeout > 0 {
		timed, cancel = context.WithTimeout(ctx, b.timeout)
		if after := b.s.router.cfg.HangAfter; after > 0 {
			defer watch(part[0].d, b.timeout+after)()
		}
	}
	defer cancel()
	msgs := make([]*message.Message, len(part))
	for i, t := range part {
		msgs[i] = t.msg
		outer := t.msg.Context()
		t.msg.SetContext(within{timed, outer})
		defer t.msg.SetContext(outer)
		t.d.Attempts = 1
	}
	err := guarded(func() error { return b.batch(record.NewBatch(timed, batch.Topic, batch.Partition, msgs, nil)) })
	b.note(part, err, timed.Err() != nil || errors.Is(err, ErrUnfinished))
}

// note takes the function's verdict. When time was up, failures of single
// messages say nothing about them.
func (b *batchHandler) note(part []*try, err error, late bool) {
	if err == nil {
		for _, t := range part {
			t.done = true
		}
		return
	}
	failed, partly := errors.AsType[*BatchError](err)
	if p, ok := errors.AsType[*PanicError](err); ok && !partly {
		b.s.router.cfg.Hooks.panicked(part[0].d.Delivery, p)
	}
	for i := range part {
		if !partly || len(failed.Failed) == 0 {
			continue
		}
		why, has := failed.Failed[i]
		part[i].done = !has
		if has && !late {
			part[i].first = why
		}
	}
}

// within is a message's context while its batch is at work: the values of its
// own, and the end of the batch's.
type within struct {
	context.Context                 //nolint:containedctx // the batch's
	own             context.Context //nolint:containedctx // the message's
}

// Value looks in the message's own context.
func (w within) Value(key any) any { return w.own.Value(key) }
