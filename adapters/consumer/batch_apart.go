package consumer

import (
	"context"
	"errors"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox/record"
)

// apart handles what is left of a batch message by message: each key's one after
// the other, the keys beside each other.
func (b *batchHandler) apart(ctx context.Context, batch *record.Batch, left []*try) {
	var lanes [][]*try
	lane := map[string]int{}
	for _, t := range left {
		i, known := lane[t.key]
		if !known || !t.keyed {
			i = len(lanes)
			lanes = append(lanes, nil)
		}
		if t.keyed {
			lane[t.key] = i
		}
		lanes[i] = append(lanes[i], t)
	}
	var wg sync.WaitGroup
	for _, l := range lanes {
		wg.Go(func() {
			b.inOrder(ctx, l)
			batch.Release()
		})
	}
	wg.Wait()
}

// inOrder handles the messages of one key. After one that is left unfinished the
// others are left too: they would overtake it.
func (b *batchHandler) inOrder(ctx context.Context, lane []*try) {
	unfinished := false
	for _, t := range lane {
		if unfinished = unfinished || ctx.Err() != nil; unfinished {
			b.abandon(t)
			continue
		}
		if p, ok := errors.AsType[*PanicError](t.first); ok {
			b.s.router.cfg.Hooks.panicked(t.d.Delivery, p)
		}
		unfinished = b.s.handle(b.hard, b.handler, b.alone, t.msg, t.first) != nil
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
