package kafka

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
)

// unreadAfter is how long a stop waits for a reader who may have gone.
const unreadAfter = time.Second

// claim is one partition while this member owns it. Its loop owns the window;
// everything else talks to the loop through channels.
//
// The loop never stops reading the claim's messages, because their channel
// closing is the only sign of a partition being moved away in a cooperative
// rebalance. Fetching is held back by pausing the partition instead.
type claim struct {
	sub       *subscription
	number    int64 // among all claims of the process, see record.Record
	session   sarama.ConsumerGroupSession
	topic     string
	partition int32
	window    *window
	end       func() int64 // the partition's end, as the last fetch told

	ctx    context.Context // ends with the claim; parent of every message's context
	cancel context.CancelFunc

	settled chan *delivery
	parts   chan *delivery // answered in part
	control chan func()
	done    chan struct{}
	waiters sync.WaitGroup

	next        *delivery // taken from the window, not handed over yet
	outstanding map[*delivery]struct{}
	held        bool // paused on request
	fetchPaused bool // the partition is paused at the consumer

	seekTo   *int64 // where the group goes on after this claim, if it was asked to
	stopping bool
	deadline <-chan time.Time // when stopping: handlers lose the claim; nil if they have
	unread   <-chan time.Time // when stopping: nobody reads what is still to be handed out
	wake     *time.Timer
	wakeAt   time.Time
}

var claims atomic.Int64

func newClaim(sub *subscription, session sarama.ConsumerGroupSession, sc sarama.ConsumerGroupClaim) *claim {
	cfg := sub.cfg
	ctx, cancel := context.WithCancel(sub.base)
	return &claim{
		sub: sub, number: claims.Add(1), session: session, topic: sc.Topic(), partition: sc.Partition(), end: sc.HighWaterMarkOffset,
		window: newWindow(cfg.Concurrency, cfg.MaxAhead, cfg.Buffer, backOff(cfg.NackBackOff, cfg.NackBackOffMax)),
		ctx:    ctx, cancel: cancel,
		settled: make(chan *delivery, cfg.Concurrency), parts: make(chan *delivery),
		control: make(chan func()), done: make(chan struct{}),
		outstanding: make(map[*delivery]struct{}, cfg.Concurrency),
		wake:        time.NewTimer(time.Hour),
	}
}

// run consumes until the claim is over. When it returns, nothing of this claim
// is handed out, marked or waited for any more.
func (c *claim) run(messages <-chan *sarama.ConsumerMessage) {
	defer c.finish()
	watchdog, stopWatchdog := newTicker(c.sub.cfg.StuckAfter / 4)
	defer stopWatchdog()
	stop, ended := c.sub.stop.Done(), c.session.Context().Done()

	c.sub.group.Resume(c.partitions()) // Sarama keeps a partition paused over an absence
	for c.prepare(); !c.over(); c.prepare() {
		single, batch := c.outlets()
		select {
		case msg, ok := <-messages:
			if !ok {
				messages = nil
				c.stopWithin(c.grace())
				break
			}
			c.window.add(msg)
			c.readOn(messages)
		case single <- c.next.message():
			c.handOver()
		case batch <- c.next.asBatch():
			c.handOver()
		case d := <-c.settled:
			c.settle(d)
		case d := <-c.parts:
			c.settlePart(d)
		case <-c.wake.C:
			c.wakeAt = time.Time{}
		case f := <-c.control:
			f()
		case <-watchdog:
			c.reportStuck()
		case <-stop:
			stop, messages = nil, nil
			c.stopWithin(c.grace())
		case <-ended:
			ended, messages = nil, nil
			c.stopWithin(c.grace())
		case <-c.deadline:
			c.deadline = nil
		case <-c.unread:
			c.deadline = nil
		}
	}
}

// readOn adds what has already arrived, so that batches fill up.
func (c *claim) readOn(messages <-chan *sarama.ConsumerMessage) {
	for !c.window.full() {
		select {
		case msg, ok := <-messages:
			if !ok {
				return // seen again by the loop
			}
			c.window.add(msg)
		default:
			return
		}
	}
}

// prepare takes the next delivery and sets flow control and the wake-up timer.
func (c *claim) prepare() {
	if c.next == nil && !c.held {
		c.next = c.newDelivery(c.window.take(c.sub.maxBatch, time.Now()))
	}
	if c.stopping {
		if c.next != nil && len(c.outstanding) == 0 && c.unread == nil {
			c.unread = time.After(unreadAfter)
		}
		return
	}
	switch pause := c.held || c.window.full(); {
	case pause && !c.fetchPaused:
		c.sub.group.Pause(c.partitions())
		c.fetchPaused = true
	case !pause && c.fetchPaused && c.window.low():
		c.sub.group.Resume(c.partitions())
		c.fetchPaused = false
	}
	if at, ok := c.window.nextWake(); ok && !at.Equal(c.wakeAt) {
		c.wakeAt = at
		c.wake.Reset(time.Until(at))
	}
}

func (c *claim) partitions() map[string][]int32 {
	return map[string][]int32{c.topic: {c.partition}}
}

// over reports that a stop has nothing left to wait for, or no time.
func (c *claim) over() bool {
	return c.stopping && (c.deadline == nil || c.next == nil && len(c.outstanding) == 0)
}

// stopWithin ends the claim when what is handed out is finished, and at the
// latest after grace. Of two stops the first counts, unless the second is at once.
func (c *claim) stopWithin(grace time.Duration) {
	if !c.stopping {
		c.deadline = time.After(grace)
		if c.next != nil {
			c.window.putBack(c.next.records)
			c.next.cancel()
			c.next = nil
		}
		c.window.close()
	}
	if grace <= 0 {
		c.deadline = nil
	}
	c.stopping = true
}

// grace tells how long handlers may go on. A session that the group has taken
// away leaves none: another member may have the partition already.
func (c *claim) grace() time.Duration {
	if c.sub.stop.Err() != nil {
		return c.sub.cfg.DrainTimeout
	}
	cause := context.Cause(c.session.Context())
	for _, lost := range []error{
		sarama.ErrUnknownMemberId, sarama.ErrIllegalGeneration, sarama.ErrFencedInstancedId, sarama.ErrRebalanceTimedOut,
	} {
		if errors.Is(cause, lost) {
			return 0
		}
	}
	return c.sub.cfg.RevokeGrace
}

// settle takes the answers to d into the window and marks how far it is done.
func (c *claim) settle(d *delivery) {
	d.sweep()
	delete(c.outstanding, d)
	before := c.window.mark
	settle := c.window.settle
	if d.gaveWay {
		settle = c.window.settleLanes
	}
	settle(d.records, d.acked, time.Now())
	c.note(d, before)
}

// settlePart does so for the keys of d that are answered completely.
func (c *claim) settlePart(d *delivery) {
	d.sweep()
	if !d.gaveWay {
		d.gaveWay = true
		c.window.giveWay()
	}
	done := d.split()
	before := c.window.mark
	c.window.settleLanes(done.records, done.acked, time.Now())
	c.note(done, before)
}

// note marks what d has finished, the mark having been before, and tells of what
// it was refused.
func (c *claim) note(d *delivery, before int64) {
	if c.window.mark > before {
		c.session.MarkOffset(c.topic, c.partition, c.window.mark, "")
	}
	if c.stopping {
		return
	}
	for i, r := range d.records {
		if !d.acked[i] {
			c.sub.conf.Hooks.Nacked(Nack{Record: d.origin[i], Attempt: r.attempt, Again: c.window.backOff(r.attempt)})
		}
	}
}

// finish takes in the answers that are already there, ends the contexts of the
// other messages and waits for the goroutines of the claim.
func (c *claim) finish() {
	for d := range c.outstanding {
		c.settle(d)
		for _, rec := range d.unanswered() {
			c.sub.conf.Hooks.Abandoned(rec)
		}
	}
	c.cancel()
	c.waiters.Wait()
	c.wake.Stop()
	if c.seekTo != nil {
		c.session.MarkOffset(c.topic, c.partition, *c.seekTo, "")  // moves forth only
		c.session.ResetOffset(c.topic, c.partition, *c.seekTo, "") // moves back only
	}
	close(c.done)
}

// do runs f in the loop, and reports whether the claim was still there to do so.
func (c *claim) do(f func()) bool {
	finished := make(chan struct{})
	select {
	case c.control <- func() { f(); close(finished) }:
		<-finished
		return true
	case <-c.done:
		return false
	}
}

// newTicker is a ticker that never ticks when every is not positive.
func newTicker(every time.Duration) (<-chan time.Time, func()) {
	if every <= 0 {
		return nil, func() {}
	}
	t := time.NewTicker(every)
	return t.C, t.Stop
}
