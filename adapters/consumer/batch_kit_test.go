package consumer_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/outbox/record"
)

// batchFeed is a batch subscriber that a test hands batches to.
type batchFeed struct {
	out    chan *record.Batch
	ctx    context.Context // of the subscription, as real subscribers keep it
	closed atomic.Bool
	once   sync.Once
}

func newBatchFeed() *batchFeed { return &batchFeed{out: make(chan *record.Batch)} }

func (f *batchFeed) SubscribeBatches(ctx context.Context, _ string) (<-chan *record.Batch, error) {
	f.ctx = ctx
	context.AfterFunc(ctx, f.end)
	return f.out, nil
}

func (f *batchFeed) end() { f.once.Do(func() { close(f.out) }) }

func (f *batchFeed) Close() error {
	f.closed.Store(true)
	f.end()
	return nil
}

// claimed is a batch that was handed over, and what ends its claim.
type claimed struct {
	*record.Batch
	lose    context.CancelFunc
	settled atomic.Int64 // calls of Settle
}

// give hands over a batch of "key:payload" texts, at offsets from 0 on.
func (f *batchFeed) give(texts ...string) *claimed {
	ctx, lose := context.WithCancel(context.WithoutCancel(f.ctx))
	c := &claimed{lose: lose}
	c.Batch = record.NewBatch(ctx, topic, 3, batchMessages(ctx, texts...), func() { c.settled.Add(1) })
	f.out <- c.Batch
	return c
}

func batchMessages(ctx context.Context, texts ...string) []*message.Message {
	var msgs []*message.Message
	for i, text := range texts {
		key, payload, _ := cut(text)
		rec := &record.Record{Topic: topic, Partition: 3, Offset: int64(i), Group: group, Key: []byte(key)}
		if key == "" {
			rec.Key = nil
		}
		msg := newMessage(ctx, rec, payload)
		msg.UUID = text
		msgs = append(msgs, msg)
	}
	return msgs
}

func cut(text string) (key, payload string, ok bool) {
	for i := range text {
		if text[i] == ':' {
			return text[:i], text[i+1:], true
		}
	}
	return "", text, false
}

// refused lists the messages of a batch that were nacked, open those not answered.
func (c *claimed) refused() (ids []string) {
	for _, m := range c.Messages {
		select {
		case <-m.Nacked():
			ids = append(ids, m.UUID)
		default:
		}
	}
	return ids
}

func (c *claimed) acked() (ids []string) {
	for _, m := range c.Messages {
		if acked(m) {
			ids = append(ids, m.UUID)
		}
	}
	return ids
}

// calls notes what a batch function was given, call by call.
type calls struct {
	mu  sync.Mutex
	ids [][]string
}

func (c *calls) note(b *record.Batch) []string {
	var ids []string
	for _, m := range b.Messages {
		ids = append(ids, m.UUID)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids = append(c.ids, ids)
	return ids
}

func (c *calls) all() [][]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.ids)
}

// of returns how often id was in a call.
func (c *calls) of(id string) (n int) {
	for _, call := range c.all() {
		if slices.Contains(call, id) {
			n++
		}
	}
	return n
}

// outcomes waits for n deliveries and returns them by message id.
func (d deliveries) outcomes(t *testing.T, n int) map[string]consumer.Delivery {
	t.Helper()
	all := map[string]consumer.Delivery{}
	for range n {
		v := d.next(t)
		require.NotContains(t, all, v.MessageID, "reported twice")
		all[v.MessageID] = v
	}
	return all
}

func ids(n int, format string) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf(format, i))
	}
	return all
}
