package kafka

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox/record"
)

// delivery is what is handed over at once: one message, or a batch of them. It is
// finished when each of its messages has been acked or nacked.
type delivery struct {
	records  []*consumed
	messages []*message.Message
	origin   []*record.Record
	acked    []bool
	answered []bool

	ctx        context.Context //nolint:containedctx // its messages'
	cancel     context.CancelFunc
	batch      *record.Batch // nil where single messages are delivered
	early      chan struct{} // the batch was released
	released   bool          // it no longer counts against Concurrency
	since      time.Time     // when it was handed over
	nextReport time.Time     // when it is reported as stuck next
}

// newDelivery makes messages of the taken records; nil if there are none.
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
		d.early = make(chan struct{}, 1)
		d.batch = record.NewBatch(d.ctx, c.topic, c.partition, d.messages, d.release)
	}
	return d
}

// message returns the only message of d; nil if d is nil.
func (d *delivery) message() *message.Message {
	if d == nil {
		return nil
	}
	return d.messages[0]
}

// asBatch returns d as a batch; nil if d is nil or single messages are delivered.
func (d *delivery) asBatch() *record.Batch {
	if d == nil {
		return nil
	}
	return d.batch
}

// outlets returns the channels that the next delivery may go to; nil ones block.
func (c *claim) outlets() (chan<- *message.Message, chan<- *record.Batch) {
	if c.next == nil || c.paused {
		return nil, nil
	}
	return c.sub.messages, c.sub.batches
}

// handOver starts the wait for the answers to the delivery that was just sent.
func (c *claim) handOver() {
	d := c.next
	c.next, c.unreadTimeout = nil, nil
	c.window.handedOver(d.records)
	d.since = time.Now()
	d.nextReport = d.since.Add(c.sub.cfg.StuckAfter)
	c.outstanding[d] = struct{}{}
	messages := d.messages // finishReleased removes messages from d
	c.waiters.Go(func() { c.await(d, messages) })
}

// await waits for every answer, in order. It returns when the claim ends: a later
// answer is for a claim that is no longer ours, and is ignored.
func (c *claim) await(d *delivery, messages []*message.Message) {
	defer d.cancel()
	for i := 0; i < len(messages); {
		select {
		case <-messages[i].Acked():
			i++
		case <-messages[i].Nacked():
			i++
		case <-d.early:
			select {
			case c.released <- d:
			case <-c.ctx.Done():
				return
			}
		case <-c.ctx.Done():
			return
		}
	}
	select {
	case c.answered <- d:
	case <-c.ctx.Done():
	}
}

// release is called by the batch's Release.
func (d *delivery) release() {
	select {
	case d.early <- struct{}{}:
	default: // await has not seen the last call yet
	}
}

// split removes from d the records of the lanes in which all are answered, and
// returns them as a delivery of their own.
func (d *delivery) split() *delivery {
	open := map[*lane]bool{}
	for i, r := range d.records {
		if !d.answered[i] {
			open[r.lane] = true
		}
	}
	done, remaining := new(delivery), new(delivery)
	for i, r := range d.records {
		part := done
		if open[r.lane] {
			part = remaining
		}
		part.records = append(part.records, r)
		part.messages = append(part.messages, d.messages[i])
		part.origin = append(part.origin, d.origin[i])
		part.acked = append(part.acked, d.acked[i])
		part.answered = append(part.answered, d.answered[i])
	}
	d.records, d.messages, d.origin, d.acked, d.answered = remaining.records, remaining.messages, remaining.origin, remaining.acked, remaining.answered
	return done
}

// collectAnswers records which messages have been answered. Only the claim's loop
// calls it.
func (d *delivery) collectAnswers() {
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

// unanswered returns the records of the messages without an answer.
func (d *delivery) unanswered() []*record.Record {
	var left []*record.Record
	for i, rec := range d.origin {
		if !d.answered[i] {
			left = append(left, rec)
		}
	}
	return left
}

// reportStuck reports the messages that have been unanswered for StuckAfter, and
// again each time as long.
func (c *claim) reportStuck() {
	now := time.Now()
	for d := range c.outstanding {
		if d.nextReport.After(now) {
			continue
		}
		d.nextReport = now.Add(c.sub.cfg.StuckAfter)
		d.collectAnswers()
		for _, rec := range d.unanswered() {
			c.sub.conf.Hooks.Stuck(rec, now.Sub(d.since))
		}
	}
}
