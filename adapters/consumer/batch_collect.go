package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox/record"
)

// errSingle is what middlewares see of a message that will be handled by itself.
var errSingle = fmt.Errorf("to be handled by itself: %w", ErrUnfinished)

// collectTimeout is how long a batch waits, after a message came through the
// middlewares, for the next one. Without a limit, a middleware that holds back all
// but one message until that one is done would wait forever.
const collectTimeout = 50 * time.Millisecond

// collection gathers the messages of a batch behind middlewares that see one
// message at a time. mu guards the states of the attempts too.
type collection struct {
	mu      sync.Mutex
	open    int           // messages that are passing
	ready   int           // messages that came through
	closed  bool          // the function is being called: a message that comes now is late
	changed chan struct{} // open or ready changed
	result  chan struct{} // closed when the function's result is recorded
}

// collect calls the function for the messages that come through the middlewares,
// and answers those that are done.
func (b *batchHandler) collect(ctx context.Context, batch *record.Batch, attempts []*attempt) {
	c := &collection{changed: make(chan struct{}, 1), result: make(chan struct{})}
	var open []*attempt
	for _, a := range attempts {
		if a.state != answered {
			open = append(open, a)
		}
	}
	c.open = len(open)
	var running sync.WaitGroup
	for _, a := range open {
		running.Go(func() { b.pass(c, a) })
	}
	c.wait(ctx)
	b.call(ctx, batch, c.close(open))
	close(c.result)
	running.Wait()
}

// pass takes a through the middlewares and answers it if nothing remains to be done.
func (b *batchHandler) pass(c *collection, a *attempt) {
	chain := through(b.collected, func(*message.Message) error { return c.arrived(a) })
	err := recovered(func() error {
		_, err := chain(a.msg)
		return err
	})
	if p, ok := errors.AsType[*PanicError](err); ok {
		b.run.router.cfg.Hooks.Panicked(a.d.Delivery, p)
	}
	if c.returned(a, err) {
		b.answer(a, nil)
	}
}

// arrived records that a came through the middlewares, and waits for its result.
func (c *collection) arrived(a *attempt) error {
	c.mu.Lock()
	if a.state == passing && !c.closed {
		a.state = ready
		c.open--
		c.ready++
		c.wake()
	}
	if a.state == passing {
		a.state = late
	}
	isLate := a.state == late
	c.mu.Unlock()
	if isLate {
		return errSingle
	}
	<-c.result
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.state == done {
		return nil
	}
	return errSingle
}

// returned records that the middlewares are finished with a, and reports whether it
// is to be acknowledged.
func (c *collection) returned(a *attempt, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.state == passing { // a middleware did not pass it on
		c.open--
		c.wake()
		a.state = kept
	} else if a.state != done {
		return false
	}
	if err != nil {
		return false
	}
	a.state = answered
	return true
}

// hideFailure stands between WithAround's and WithInside's middlewares: a failure
// inside is not the end of the delivery, since no retry has seen it yet.
func hideFailure(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		out, err := next(msg)
		if err != nil {
			err = errSingle
		}
		return out, err
	}
}

// close returns the messages for the function: those that came through, without
// followers of one of their key that is still passing or was kept.
func (c *collection) close(open []*attempt) (part []*attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	behind := map[string]bool{}
	for _, a := range open {
		switch {
		case a.state == answered:
		case a.state != ready || a.keyed && behind[a.key]:
			behind[a.key] = true
		default:
			part = append(part, a)
		}
	}
	return part
}

// wake wakes wait. The caller holds mu.
func (c *collection) wake() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// wait returns when no message is passing any more, or no other comes through soon.
func (c *collection) wait(ctx context.Context) {
	for {
		c.mu.Lock()
		open, ready := c.open, c.ready
		c.mu.Unlock()
		if open == 0 {
			return
		}
		var timeout <-chan time.Time
		if ready > 0 {
			timeout = time.After(collectTimeout)
		}
		select {
		case <-c.changed:
		case <-timeout:
			return
		case <-ctx.Done():
			return
		}
	}
}
