package outbox

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// lanes makes a BatchPublisher of any Watermill publisher. Messages of one key share
// a lane; a lane publishes one message at a time and retries until the publisher
// takes it.
type lanes struct {
	pub      message.Publisher
	retryMax time.Duration
	seed     maphash.Seed
	queues   []chan laneItem
	workers  sync.WaitGroup
}

type laneItem struct {
	ctx   context.Context //nolint:containedctx // of the run that the lanes belong to
	entry *Entry
	index int
	ack   func(i int, err error)
}

func newLanes(pub message.Publisher, n int, retryMax time.Duration) *lanes {
	l := &lanes{pub: pub, retryMax: retryMax, seed: maphash.MakeSeed(), queues: make([]chan laneItem, n)}
	for i := range l.queues {
		q := make(chan laneItem, 64)
		l.queues[i] = q
		l.workers.Go(func() { l.work(q) })
	}
	return l
}

// work publishes one item after the other. The relay may have handed over messages
// of a key before it knew that an earlier one was refused: work refuses them too, so
// that they are parked.
func (l *lanes) work(q <-chan laneItem) {
	refused := map[ParkedKey]context.Context{} // in which leadership
	for item := range q {
		key := ParkedKey{item.entry.Topic, item.entry.Key}
		if refused[key] == item.ctx {
			item.ack(item.index, Unpublishable(ReasonBehind, nil))
			continue
		}
		err := l.publish(item.ctx, item.entry)
		if errors.Is(err, ErrUnpublishable) {
			refused[key] = item.ctx
		}
		item.ack(item.index, err)
	}
}

// PublishBatch implements BatchPublisher.
func (l *lanes) PublishBatch(ctx context.Context, entries []Entry, ack func(i int, err error)) {
	for i := range entries {
		e := &entries[i]
		var h maphash.Hash
		h.SetSeed(l.seed)
		h.WriteString(e.Topic)
		h.WriteByte(0)
		h.WriteString(e.Key)
		select {
		case l.queues[h.Sum64()%uint64(len(l.queues))] <- laneItem{ctx, e, i, ack}:
		case <-ctx.Done():
			ack(i, context.Cause(ctx))
		}
	}
}

// publish retries until the broker takes e, refuses it for good, or ctx ends.
func (l *lanes) publish(ctx context.Context, e *Entry) error {
	retry := backoff{max: l.retryMax}
	for ctx.Err() == nil {
		err := l.pub.Publish(e.Topic, ToWatermill(ctx, e))
		var final giveUp
		if err == nil || errors.Is(err, ErrUnpublishable) || errors.As(err, &final) {
			return err
		}
		sleep(ctx, retry.pause())
	}
	return context.Cause(ctx)
}

// close ends the workers; nothing may be published any more.
func (l *lanes) close() {
	for _, q := range l.queues {
		close(q)
	}
	l.workers.Wait()
}
