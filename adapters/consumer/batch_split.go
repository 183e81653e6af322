package consumer

import (
	"context"
	"errors"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox/record"
)

// split handles what remains of a batch message by message: those of a key one
// after the other, several keys at a time.
func (b *batchHandler) split(ctx context.Context, batch *record.Batch, remaining []*attempt) {
	var lanes [][]*attempt
	laneOf := map[string]int{}
	for _, a := range remaining {
		i, known := laneOf[a.key]
		if !known || !a.keyed {
			i = len(lanes)
			lanes = append(lanes, nil)
		}
		if a.keyed {
			laneOf[a.key] = i
		}
		lanes[i] = append(lanes[i], a)
	}
	var wg sync.WaitGroup
	for _, lane := range lanes {
		wg.Go(func() {
			b.inOrder(ctx, lane)
			batch.Release()
		})
	}
	wg.Wait()
}

// inOrder handles the messages of one key. After one that is left unfinished the
// others are left too: they would overtake it.
func (b *batchHandler) inOrder(ctx context.Context, lane []*attempt) {
	unfinished := false
	for _, a := range lane {
		if unfinished = unfinished || ctx.Err() != nil; unfinished {
			b.answer(a, ErrUnfinished)
			continue
		}
		if p, ok := errors.AsType[*PanicError](a.first); ok {
			b.run.router.cfg.Hooks.Panicked(a.d.Delivery, p)
		}
		unfinished = b.run.handle(b.deliveries, b.handler, b.single, a.msg, a.first) != nil
	}
}

// atMost is a middleware that lets n messages through at a time.
func atMost(n int) message.HandlerMiddleware {
	slots := make(chan struct{}, n)
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			select {
			case slots <- struct{}{}:
			case <-msg.Context().Done():
				return nil, ErrUnfinished
			}
			defer func() { <-slots }()
			return next(msg)
		}
	}
}
