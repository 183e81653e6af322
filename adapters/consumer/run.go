package consumer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// hardStop bounds the wait for handlers whose contexts have been ended.
const hardStop = 2 * time.Second

// Run subscribes all handlers and blocks until ctx ends. Then it ends the
// subscriptions, handles what they still hand out while they drain, with live
// contexts, and closes the subscribers. After DrainTimeout the contexts of the
// handlers still at work end too. Waits of more than a second, before a retry or
// for a dead letter, end at once: such messages are delivered again later. Run
// returns nil on such a stop.
//
// It returns an error if the wiring is wrong, a topic cannot be subscribed, a
// subscription ends by itself (ErrSubscriptionEnded), or a handler ignores the
// end of its context: while the router runs for HangAfter (ErrHung), or at the
// stop (ErrStillRunning).
func (r *Router) Run(ctx context.Context) error {
	if err := r.Validate(); err != nil {
		return err
	}
	if !r.used.CompareAndSwap(false, true) {
		return ErrUsed
	}
	if err := r.validateTopics(ctx); err != nil {
		return err
	}
	s := &session{router: r, stop: make(chan struct{}), over: make(chan struct{}), ended: make(chan error, len(r.handlers))}
	return s.run(ctx)
}

// session is one run of a router. Watermill, left to itself, cancels contexts and
// closes subscribers in the moment of its Close, and stops waiting while messages
// are on their way to their handlers; the session stands between.
type session struct {
	router *Router
	stop   chan struct{} // closed when the stop begins
	over   chan struct{} // closed when no message is taken any more
	ended  chan error    // subscriptions that ended by themselves
	pumps  sync.WaitGroup

	singles int            // handlers on Watermill's router
	batches sync.WaitGroup // batches at work
}

func (s *session) run(ctx context.Context) error {
	base := context.WithoutCancel(ctx)
	hard, endDeliveries := context.WithCancel(base)
	defer endDeliveries()
	soft, endSubscriptions := context.WithCancel(base)
	defer endSubscriptions()
	wm, err := s.wire(soft, hard)
	if err != nil {
		endSubscriptions()
		close(s.over)
		s.pumps.Wait()
		return errors.Join(err, s.closeSubscribers())
	}
	routed := make(chan error, 1)
	go func() {
		if s.singles > 0 { // a router without handlers would not end
			err = wm.Run(soft)
		}
		routed <- err
	}()
	close(s.router.running)

	var cause error
	select {
	case <-ctx.Done():
	case cause = <-s.ended:
	}
	close(s.stop)
	endSubscriptions()
	stuck := s.drain(endDeliveries)
	cause = errors.Join(cause, stuck, s.closeSubscribers())
	if stuck == nil {
		s.batches.Wait() // their messages are finished already
		cause = errors.Join(cause, <-routed)
	}
	if cause != nil {
		return fmt.Errorf("consumer: %w", cause)
	}
	return nil
}

// drain waits until the subscriptions are closed and all handlers have finished,
// and cuts them off when time is up.
func (s *session) drain(endDeliveries func()) error {
	f := &s.router.inflight
	deadline := time.Now().Add(s.router.cfg.DrainTimeout)
	pumped := make(chan struct{})
	go func() {
		s.pumps.Wait()
		close(pumped)
	}()
	timer := time.NewTimer(s.router.cfg.DrainTimeout)
	defer timer.Stop()
	select {
	case <-pumped:
	case <-timer.C:
	}
	finished := f.wait(time.Until(deadline))
	close(s.over)
	<-pumped
	if finished = finished && f.count() == 0; finished {
		return nil
	}
	endDeliveries()
	if f.wait(hardStop) {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrStillRunning, strings.Join(f.names(), ", "))
}

// wire subscribes every handler and puts it on a Watermill router.
func (s *session) wire(soft, hard context.Context) (*message.Router, error) {
	cfg := &s.router.cfg
	wm, err := message.NewRouter(message.RouterConfig{CloseTimeout: cfg.DrainTimeout + 2*hardStop}, cfg.Logger)
	if err != nil {
		return nil, err
	}
	for _, h := range s.router.handlers {
		chain, err := h.chain(cfg)
		if err != nil {
			return nil, err
		}
		if h.batch != nil {
			if err := s.wireBatches(soft, hard, h, chain); err != nil {
				return nil, err
			}
			continue
		}
		s.singles++
		in, err := h.sub.Subscribe(soft, h.topic)
		if err != nil {
			return nil, fmt.Errorf("handler %q: subscribe %s: %w", h.name, h.topic, err)
		}
		intake := make(chan *message.Message)
		s.pumps.Go(func() { s.pump(h, in, intake) })
		wm.AddConsumerHandler(h.name, h.topic, taken(intake), h.fn).
			AddMiddleware(append([]message.HandlerMiddleware{s.deliver(hard, h)}, chain...)...)
	}
	return wm, nil
}

// pump hands messages to Watermill until the subscription is closed or the
// session is over.
func (s *session) pump(h *handler, in <-chan *message.Message, out chan<- *message.Message) {
	defer close(out)
	for {
		select {
		case <-s.over:
			return
		case msg, ok := <-in:
			if !ok {
				s.tellEnded(h)
				return
			}
			s.router.inflight.add(h.name, 1)
			select {
			case out <- msg:
			case <-s.over:
				msg.Nack()
				s.router.inflight.done(h.name, 1)
				return
			}
		}
	}
}

// tellEnded reports a subscription that was closed without being told to.
func (s *session) tellEnded(h *handler) {
	select {
	case <-s.stop:
	default:
		s.giveUp(fmt.Errorf("handler %q: topic %s: %w", h.name, h.topic, ErrSubscriptionEnded))
	}
}

// deliver is the outermost middleware, which makes a delivery of a message.
func (s *session) deliver(hard context.Context, h *handler) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			return nil, s.handle(hard, h, next, msg, nil)
		}
	}
}

// handle answers one message and tells the hooks. first is the failure of an
// attempt that was made before, if any. It ends the message's context with hard,
// because subscribers may let contexts live on while they drain.
func (s *session) handle(hard context.Context, h *handler, next message.HandlerFunc, msg *message.Message, first error) error {
	before := msg.Context()
	d := s.newDelivery(h, msg)
	d.first = first
	ctx, cancel := context.WithCancel(withDelivery(before, d))
	defer cancel()
	defer context.AfterFunc(hard, cancel)()
	msg.SetContext(ctx)
	err := guarded(func() error {
		out, err := next(msg)
		if err == nil && len(out) > 0 {
			err = message.ErrOutputInNoPublisherHandler
		}
		return err
	})
	msg.SetContext(before)
	s.finish(h, msg, d, err)
	return err
}

func (s *session) newDelivery(h *handler, msg *message.Message) *state {
	d := &state{Delivery: describe(h.name, h.topic, msg), began: time.Now(), stop: s.stop, blocked: &s.router.blocked, hung: s.giveUp}
	if d.Group == "" {
		d.Group = h.group
	}
	return d
}

// finish answers the message, which ends its delivery.
func (s *session) finish(h *handler, msg *message.Message, d *state, err error) {
	switch {
	case err != nil:
		d.Outcome, d.Err = OutcomeUnfinished, err
		msg.Nack()
	case d.Outcome == "":
		d.Outcome = OutcomeDone
		msg.Ack()
	default:
		msg.Ack()
	}
	d.Duration = time.Since(d.began)
	s.router.cfg.Hooks.delivered(d.Delivery)
	s.router.inflight.done(h.name, 1)
}

func (s *session) closeSubscribers() error {
	var errs []error
	for _, h := range s.router.handlers {
		if err := h.closer().Close(); err != nil {
			errs = append(errs, fmt.Errorf("close subscriber of %q: %w", h.name, err))
		}
	}
	return errors.Join(errs...)
}

// taken is a subscription made before, in the shape that Watermill wants. Its
// Close is the session's business.
type taken <-chan *message.Message

// Subscribe returns the messages.
func (t taken) Subscribe(context.Context, string) (<-chan *message.Message, error) { return t, nil }

// Close does nothing.
func (t taken) Close() error { return nil }
