package kafka

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"github.com/millrace-go/millrace/adapters/internal/backoff"
)

// unreadLimit is how long a stop waits for a reader of the channel, which may be
// gone.
const unreadLimit = time.Second

// claim is one partition while this member of the group owns it. Its loop, run,
// owns the window; everything else talks to the loop through channels.
//
// The loop never stops reading the claim's messages: in a cooperative rebalance the
// end of their channel is the only sign that the partition moves away. To hold
// records back the claim pauses the fetching of the partition instead.
type claim struct {
	sub       *subscription
	number    int64 // among all claims of the process, see record.Record
	session   sarama.ConsumerGroupSession
	topic     string
	partition int32
	window    *window
	highWater func() int64 // the partition's end, as of the last fetch

	ctx    context.Context //nolint:containedctx // ends with the claim; parent of every message's context
	cancel context.CancelFunc

	answered chan *delivery // completely
	released chan *delivery // partly, see record.Batch.Release
	control  chan func()
	done     chan struct{}
	waiters  sync.WaitGroup

	next        *delivery // taken from the window, not handed over yet
	outstanding map[*delivery]struct{}
	paused      bool // paused on request
	fetchPaused bool // the partition is paused at the consumer

	seekTo        *int64 // where the group goes on after this claim, if it was asked to
	stopping      bool
	drainTimeout  <-chan time.Time // when stopping: ends the contexts of the messages; nil once it has
	unreadTimeout <-chan time.Time // when stopping: nobody reads what is ready to be handed over
	wake          *time.Timer
	wakeAt        time.Time
}

var claims atomic.Int64

func newClaim(sub *subscription, session sarama.ConsumerGroupSession, sc sarama.ConsumerGroupClaim) *claim {
	cfg := sub.cfg
	ctx, cancel := context.WithCancel(sub.handlerCtx)
	return &claim{
		sub: sub, number: claims.Add(1), session: session, topic: sc.Topic(), partition: sc.Partition(), highWater: sc.HighWaterMarkOffset,
		window: newWindow(cfg.Concurrency, cfg.MaxAhead, cfg.Buffer, backoff.Doubling{First: cfg.NackBackOff, Max: cfg.NackBackOffMax}),
		ctx:    ctx, cancel: cancel,
		answered: make(chan *delivery, cfg.Concurrency), released: make(chan *delivery),
		control: make(chan func()), done: make(chan struct{}),
		outstanding: make(map[*delivery]struct{}, cfg.Concurrency),
		wake:        time.NewTimer(time.Hour),
	}
}

// run consumes until the claim is over. After it has returned, nothing of this claim
// is handed over, marked or waited for.
func (c *claim) run(messages <-chan *sarama.ConsumerMessage) {
	defer c.end()
	watchdog, stopWatchdog := newTicker(c.sub.cfg.StuckAfter / 4)
	defer stopWatchdog()
	stopped, lost := c.sub.ctx.Done(), c.session.Context().Done()

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
		case d := <-c.answered:
			c.finish(d)
		case d := <-c.released:
			c.finishReleased(d)
		case <-c.wake.C:
			c.wakeAt = time.Time{}
		case f := <-c.control:
			f()
		case <-watchdog:
			c.reportStuck()
		case <-stopped:
			stopped, messages = nil, nil
			c.stopWithin(c.grace())
		case <-lost:
			lost, messages = nil, nil
			c.stopWithin(c.grace())
		case <-c.drainTimeout:
			c.drainTimeout = nil
		case <-c.unreadTimeout:
			c.drainTimeout = nil
		}
	}
}

// readOn adds what has already arrived, so that batches fill up.
func (c *claim) readOn(messages <-chan *sarama.ConsumerMessage) {
	for !c.window.full() {
		select {
		case msg, ok := <-messages:
			if !ok {
				return // the loop sees it too
			}
			c.window.add(msg)
		default:
			return
		}
	}
}

// prepare takes the next delivery and sets flow control and the wake-up timer.
func (c *claim) prepare() {
	if c.next == nil && !c.paused {
		c.next = c.newDelivery(c.window.take(c.sub.maxBatch, time.Now()))
	}
	if c.stopping {
		if c.next != nil && len(c.outstanding) == 0 && c.unreadTimeout == nil {
			c.unreadTimeout = time.After(unreadLimit)
		}
		return
	}
	switch pause := c.paused || c.window.full(); {
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

// over reports that the claim is stopping and either everything is answered or the
// time for it is up.
func (c *claim) over() bool {
	return c.stopping && (c.drainTimeout == nil || c.next == nil && len(c.outstanding) == 0)
}

// stopWithin ends the claim when every message that was handed over is answered,
// and after grace at the latest. Of two stops the first counts, unless the second
// leaves no time at all.
func (c *claim) stopWithin(grace time.Duration) {
	if !c.stopping {
		c.drainTimeout = time.After(grace)
		if c.next != nil {
			c.window.putBack(c.next.records)
			c.next.cancel()
			c.next = nil
		}
		c.window.close()
	}
	if grace <= 0 {
		c.drainTimeout = nil
	}
	c.stopping = true
}

// grace returns how long handlers may continue. It is 0 if the group has expelled
// this member, because another one may own the partition already.
func (c *claim) grace() time.Duration {
	if c.sub.ctx.Err() != nil {
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

// finish passes the answers to d to the window and marks the offset that is reached.
func (c *claim) finish(d *delivery) {
	d.collectAnswers()
	delete(c.outstanding, d)
	before := c.window.lowWater
	if d.released {
		c.window.finishPart(d.records, d.acked, time.Now())
	} else {
		c.window.finish(d.records, d.acked, time.Now())
	}
	c.mark(d, before)
}

// finishReleased does so for the lanes of d in which every message is answered.
func (c *claim) finishReleased(d *delivery) {
	d.collectAnswers()
	if !d.released {
		d.released = true
		c.window.freeSlot()
	}
	done := d.split()
	before := c.window.lowWater
	c.window.finishPart(done.records, done.acked, time.Now())
	c.mark(done, before)
}

// mark marks the low-water mark for the next commit if d has moved it from before,
// and reports the messages of d that were refused.
func (c *claim) mark(d *delivery, before int64) {
	if c.window.lowWater > before {
		c.session.MarkOffset(c.topic, c.partition, c.window.lowWater, "")
	}
	if c.stopping {
		return
	}
	for i, r := range d.records {
		if !d.acked[i] {
			c.sub.conf.Hooks.Nacked(Nack{Record: d.origin[i], Attempt: r.attempt, Again: c.window.backOff.After(r.attempt)})
		}
	}
}

// end counts the answers that are already there, ends the contexts of the other
// messages and waits for the goroutines of the claim.
func (c *claim) end() {
	for d := range c.outstanding {
		c.finish(d)
		for _, rec := range d.unanswered() {
			c.sub.conf.Hooks.Abandoned(rec)
		}
	}
	c.cancel()
	c.waiters.Wait()
	c.wake.Stop()
	if c.seekTo != nil {
		c.session.MarkOffset(c.topic, c.partition, *c.seekTo, "")  // moves forward only
		c.session.ResetOffset(c.topic, c.partition, *c.seekTo, "") // moves back only
	}
	close(c.done)
}

// do runs f in the loop. It returns false if the claim had ended.
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
