package kafka

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox"
)

// delivery is what is handed out at once: one record, or a batch of them. It is
// settled when each of its messages has been answered.
type delivery struct {
	records  []*record
	messages []*message.Message
	origin   []*outbox.Record
	acked    []bool
	answered []bool

	ctx    context.Context
	cancel context.CancelFunc
	batch  *Batch    // nil where single messages are delivered
	since  time.Time // when it was handed over
	report time.Time // when it is next reported as stuck
}

// newDelivery makes messages of taken records; nil of none.
func (c *claim) newDelivery(taken []*record) *delivery {
	if len(taken) == 0 {
		return nil
	}
	d := &delivery{
		records:  taken,
		messages: make([]*message.Message, len(taken)),
		origin:   make([]*outbox.Record, len(taken)),
		acked:    make([]bool, len(taken)),
		answered: make([]bool, len(taken)),
	}
	d.ctx, d.cancel = context.WithCancel(c.ctx)
	for i, r := range taken {
		d.messages[i], d.origin[i] = c.sub.receive(d.ctx, r.msg)
	}
	if c.sub.batches != nil {
		d.batch = &Batch{Topic: c.topic, Partition: c.partition, Messages: d.messages, ctx: d.ctx}
	}
	return d
}

// message is the single message of d, nil of no delivery.
func (d *delivery) message() *message.Message {
	if d == nil {
		return nil
	}
	return d.messages[0]
}

// asBatch is d as a batch, nil of no delivery and where single messages are
// delivered.
func (d *delivery) asBatch() *Batch {
	if d == nil {
		return nil
	}
	return d.batch
}

// outlets returns the channels that the next delivery can go to.
func (c *claim) outlets() (chan<- *message.Message, chan<- *Batch) {
	if c.next == nil || c.held {
		return nil, nil
	}
	return c.sub.messages, c.sub.batches
}

// handOver begins the wait for the answers to the delivery that was just sent.
func (c *claim) handOver() {
	d := c.next
	c.next, c.unread = nil, nil
	c.window.handedOver(d.records)
	d.since = time.Now()
	d.report = d.since.Add(c.sub.cfg.StuckAfter)
	c.outstanding[d] = struct{}{}
	c.waiters.Go(func() { c.await(d) })
}

// await waits for every answer, in order. It leaves when the claim ends: an
// answer that comes later belongs to a claim that is no longer ours.
func (c *claim) await(d *delivery) {
	defer d.cancel()
	for _, m := range d.messages {
		select {
		case <-m.Acked():
		case <-m.Nacked():
		case <-c.ctx.Done():
			return
		}
	}
	select {
	case c.settled <- d:
	case <-c.ctx.Done():
	}
}

// sweep notes which messages have been answered. Only the claim's loop calls it.
func (d *delivery) sweep() {
	for i, m := range d.messages {
		select {
		case <-m.Acked():
			d.acked[i], d.answered[i] = true, true
		case <-m.Nacked():
			d.answered[i] = true
		default:
		}
	}
}

func (d *delivery) unanswered() []*outbox.Record {
	var left []*outbox.Record
	for i, rec := range d.origin {
		if !d.answered[i] {
			left = append(left, rec)
		}
	}
	return left
}

func (c *claim) reportStuck() {
	now := time.Now()
	for d := range c.outstanding {
		if d.report.After(now) {
			continue
		}
		d.report = now.Add(c.sub.cfg.StuckAfter)
		d.sweep()
		for _, rec := range d.unanswered() {
			c.sub.cfg.Hooks.Stuck(rec, now.Sub(d.since))
		}
	}
}
