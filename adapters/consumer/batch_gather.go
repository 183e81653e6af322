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

// errApart is what middlewares see of a message that is to be handled by itself.
var errApart = fmt.Errorf("to be handled by itself: %w", ErrUnfinished)

// latecomers is how long a batch waits, after a message came through the
// middlewares, for the next one. Without a limit, a middleware that holds back
// all but one message until that one is done would wait for ever.
const latecomers = 50 * time.Millisecond

// gathering brings the messages of a batch together behind middlewares that see
// one message at a time.
type gathering struct {
	mu      sync.Mutex
	open    int           // messages neither here nor gone
	here    int           // messages that came through
	closed  bool          // the function is being called: whoever comes now is late
	changed chan struct{} // open or here changed
	verdict chan struct{} // closed when done is known
}

// gather calls the function for the messages that come through Around and
// Inside, and answers those that are done.
func (b *batchHandler) gather(ctx context.Context, batch *record.Batch, tries []*try) {
	g := &gathering{changed: make(chan struct{}, 1), verdict: make(chan struct{})}
	var passing sync.WaitGroup
	for _, t := range tries {
		if !t.settled {
			g.open++
		}
	}
	for _, t := range tries {
		if !t.settled {
			passing.Go(func() { b.pass(g, t) })
		}
	}
	g.wait(ctx)
	b.call(ctx, batch, g.close(tries))
	close(g.verdict)
	passing.Wait()
}

// pass takes t through the middlewares and answers it if nothing is left to do.
func (b *batchHandler) pass(g *gathering, t *try) {
	chain := through(b.seen, func(*message.Message) error { return g.arrive(t) })
	err := guarded(func() error {
		_, err := chain(t.msg)
		return err
	})
	if p, ok := errors.AsType[*PanicError](err); ok {
		b.s.router.cfg.Hooks.panicked(t.d.Delivery, p)
	}
	if came := g.leave(t, err); err == nil && (t.done || !came) {
		b.settle(t)
	}
}

// arrive waits until it is known what became of t.
func (g *gathering) arrive(t *try) error {
	g.mu.Lock()
	if !g.closed && !t.arrived {
		t.arrived = true
		g.open--
		g.here++
		g.tell()
	}
	t.late = !t.arrived
	g.mu.Unlock()
	if t.late {
		return errApart
	}
	<-g.verdict
	if t.done {
		return nil
	}
	return errApart
}

// untried stands between Around and Inside: a failure inside is no end of the
// delivery, since no retry has seen it yet.
func untried(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		out, err := next(msg)
		if err != nil {
			err = errApart
		}
		return out, err
	}
}

// leave notes that the middlewares are done with t, and reports whether it had
// come to their end.
func (g *gathering) leave(t *try, err error) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.arrived || t.late {
		return true
	}
	t.gone, t.kept = true, err != nil
	g.open--
	g.tell()
	return false
}

// close returns the messages for the function: those that are here, but for
// followers of one of their key that is still on its way or was kept.
func (g *gathering) close(tries []*try) (part []*try) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	behind := map[string]bool{}
	for _, t := range tries {
		switch {
		case t.gone && !t.kept || t.settled:
		case !t.arrived || t.keyed && behind[t.key]:
			behind[t.key] = true
		default:
			part = append(part, t)
		}
	}
	return part
}

// tell wakes wait. The caller holds mu.
func (g *gathering) tell() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// wait returns when all messages are through or gone, or no other follows soon.
func (g *gathering) wait(ctx context.Context) {
	for {
		g.mu.Lock()
		open, here := g.open, g.here
		g.mu.Unlock()
		if open == 0 {
			return
		}
		var late <-chan time.Time
		if here > 0 {
			late = time.After(latecomers)
		}
		select {
		case <-g.changed:
		case <-late:
			return
		case <-ctx.Done():
			return
		}
	}
}
