package kafka

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox/record"
)

// delivery is what is handed out at once: one record, or a batch of them. It is
// settled when each of its messages has been answered.
type delivery struct {
	records  []*consumed
	messages []*message.Message
	origin   []*record.Record
	acked    []bool
	answered []bool

	ctx     context.Context
	cancel  context.CancelFunc
	batch   *record.Batch // nil where single messages are delivered
	nudge   chan struct{} // Batch.Settle was called
	gaveWay bool          // it no longer counts as outstanding
	since   time.Time     // when it was handed over
	report  time.Time     // when it is next reported as stuck
}

// newDelivery makes messages of taken records; nil of none.
func (c *claim) newDelivery(taken []*consumed) *delivery {
	if len(taken) == 0 {
		return nil
	}
	d := &delivery{
		records:  taken,
		messages: make([]*message.Message, len(taken)),
		origin:   make([]*record.Record, len(taken)),
		acked:    make([]bool, len(taken)),
		answered: make([]bool, len(taken)),
	}
	d.ctx, d.cancel = context.WithCancel(c.ctx)
	for i, r := range taken {
		d.messages[i], d.origin[i] = received(d.ctx, c.sub.groupID, r.msg)
		d.origin[i].ClaimEpoch = c.number
	}
	if c.sub.batches != nil {
		d.nudge = make(chan struct{}, 1)
		d.batch = record.NewBatch(d.ctx, c.topic, c.partition, d.messages, d.settleEarly)
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
func (d *delivery) asBatch() *record.Batch {
	if d == nil {
		return nil
	}
	return d.batch
}

// outlets returns the channels that the next delivery can go to.
func (c *claim) outlets() (chan<- *message.Message, chan<- *record.Batch) {
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
	messages := d.messages // d gives up those that are settled early
	c.waiters.Go(func() { c.await(d, messages) })
}

// await waits for every answer, in order. It leaves when the claim ends: an
// answer that comes later belongs to a claim that is no longer ours.
func (c *claim) await(d *delivery, messages []*message.Message) {
	defer d.cancel()
	for i := 0; i < len(messages); {
		select {
		case <-messages[i].Acked():
			i++
		case <-messages[i].Nacked():
			i++
		case <-d.nudge:
			select {
			case c.parts <- d:
			case <-c.ctx.Done():
				return
			}
		case <-c.ctx.Done():
			return
		}
	}
	select {
	case c.settled <- d:
	case <-c.ctx.Done():
	}
}

// settleEarly is the batch's Settle.
func (d *delivery) settleEarly() {
	select {
	case d.nudge <- struct{}{}:
	default: // it is about to be looked at
	}
}

// split takes out of d the records of the lanes in which all are answered and
// returns them as a delivery of their own.
func (d *delivery) split() *delivery {
	open := map[*keyQueue]bool{}
	for i, r := range d.records {
		if !d.answered[i] {
			open[r.lane] = true
		}
	}
	done, rest := new(delivery), new(delivery)
	for i, r := range d.records {
		part := done
		if open[r.lane] {
			part = rest
		}
		part.records = append(part.records, r)
		part.messages = append(part.messages, d.messages[i])
		part.origin = append(part.origin, d.origin[i])
		part.acked = append(part.acked, d.acked[i])
		part.answered = append(part.answered, d.answered[i])
	}
	d.records, d.messages, d.origin, d.acked, d.answered = rest.records, rest.messages, rest.origin, rest.acked, rest.answered
	return done
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

func (d *delivery) unanswered() []*record.Record {
	var left []*record.Record
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
			c.sub.conf.Hooks.Stuck(rec, now.Sub(d.since))
		}
	}
}
