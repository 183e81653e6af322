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
// subscriptions, handles what they still deliver while they drain, with live
// contexts, and closes the subscribers. After DrainTimeout the contexts of the
// handlers still at work end too. Waits of more than a second, before a retry or
// for a dead letter, end at once: such messages are delivered again later. Run
// returns nil on such a stop.
//
// It returns an error if the wiring is wrong, a topic cannot be subscribed, a
// subscription ends by itself (ErrSubscriptionEnded), or a handler ignores the end
// of its context: while the router runs for HangAfter (ErrHung), or at the stop
// (ErrStillRunning).
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
	run := &run{router: r, stop: make(chan struct{}), over: make(chan struct{}), failed: make(chan error, 1)}
	return run.do(ctx)
}

// run is one run of a router. Watermill, left to itself, cancels contexts and closes
// subscribers at the moment of its Close, and stops waiting while messages are on
// their way to their handlers; run prevents that.
type run struct {
	router *Router
	stop   chan struct{} // closed when the stop begins
	over   chan struct{} // closed when no message is taken any more
	failed chan error    // the first error that ends the run
	pumps  sync.WaitGroup

	singles int            // handlers on Watermill's router
	batches sync.WaitGroup // batches at work
}

func (r *run) do(ctx context.Context) error {
	base := context.WithoutCancel(ctx)
	deliveries, endDeliveries := context.WithCancel(base)
	defer endDeliveries()
	subscriptions, endSubscriptions := context.WithCancel(base)
	defer endSubscriptions()
	wm, err := r.wire(subscriptions, deliveries)
	if err != nil {
		endSubscriptions()
		close(r.over)
		r.pumps.Wait()
		return errors.Join(err, r.closeSubscribers())
	}
	routed := make(chan error, 1)
	go func() {
		if r.singles > 0 { // a router without handlers would not end
			err = wm.Run(subscriptions)
		}
		routed <- err
	}()
	close(r.router.running)

	var cause error
	select {
	case <-ctx.Done():
	case cause = <-r.failed:
	}
	close(r.stop)
	endSubscriptions()
	stuck := r.drain(endDeliveries)
	cause = errors.Join(cause, stuck, r.closeSubscribers())
	if stuck == nil {
		r.batches.Wait() // their messages are finished already
		cause = errors.Join(cause, <-routed)
	}
	if cause != nil {
		return fmt.Errorf("consumer: %w", cause)
	}
	return nil
}

// drain waits until the subscriptions are closed and all handlers have finished,
// and ends their contexts when the drain timeout is over.
func (r *run) drain(endDeliveries func()) error {
	f := &r.router.inflight
	deadline := time.Now().Add(r.router.cfg.DrainTimeout)
	pumped := make(chan struct{})
	go func() {
		r.pumps.Wait()
		close(pumped)
	}()
	timer := time.NewTimer(r.router.cfg.DrainTimeout)
	defer timer.Stop()
	select {
	case <-pumped:
	case <-timer.C:
	}
	finished := f.wait(time.Until(deadline))
	close(r.over)
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

// wire subscribes every handler and puts it on a Watermill router. The context
// subscriptions ends the subscriptions, deliveries all deliveries.
func (r *run) wire(subscriptions, deliveries context.Context) (*message.Router, error) {
	cfg := &r.router.cfg
	wm, err := message.NewRouter(message.RouterConfig{CloseTimeout: cfg.DrainTimeout + 2*hardStop}, cfg.Logger)
	if err != nil {
		return nil, err
	}
	for _, h := range r.router.handlers {
		chain := h.chain(r.router.deadLetters, cfg)
		if h.isBatch {
			if err := r.wireBatches(subscriptions, deliveries, h, chain); err != nil {
				return nil, err
			}
			continue
		}
		r.singles++
		in, err := h.sub.Subscribe(subscriptions, h.topic)
		if err != nil {
			return nil, fmt.Errorf("handler %q: subscribe %s: %w", h.name, h.topic, err)
		}
		intake := make(chan *message.Message)
		r.pumps.Go(func() { r.pump(h, in, intake) })
		wm.AddConsumerHandler(h.name, h.topic, subscribed(intake), h.fn).
			AddMiddleware(append([]message.HandlerMiddleware{r.deliver(deliveries, h)}, chain...)...)
	}
	return wm, nil
}

// pump hands messages to Watermill until the subscription is closed or the run is
// over.
func (r *run) pump(h *handler, in <-chan *message.Message, out chan<- *message.Message) {
	defer close(out)
	for {
		select {
		case <-r.over:
			return
		case msg, ok := <-in:
			if !ok {
				r.subscriptionEnded(h)
				return
			}
			r.router.inflight.add(h.name, 1)
			select {
			case out <- msg:
			case <-r.over:
				msg.Nack()
				r.router.inflight.done(h.name, 1)
				return
			}
		}
	}
}

// subscriptionEnded ends the run, unless it is stopping: a subscription was closed
// by its subscriber.
func (r *run) subscriptionEnded(h *handler) {
	select {
	case <-r.stop:
	default:
		r.giveUp(fmt.Errorf("handler %q: topic %s: %w", h.name, h.topic, ErrSubscriptionEnded))
	}
}

// giveUp ends the run because of err. The first error counts.
func (r *run) giveUp(err error) {
	select {
	case r.failed <- err:
	default:
	}
}

// deliver is the outermost middleware, which makes a delivery of a message.
func (r *run) deliver(deliveries context.Context, h *handler) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			return nil, r.handle(deliveries, h, next, msg, nil)
		}
	}
}

// handle answers one message and calls the hooks. first is the failure of an
// attempt that was made with a batch, if any. It ends the message's context with
// deliveries, because subscribers may let contexts live on while they drain.
func (r *run) handle(deliveries context.Context, h *handler, next message.HandlerFunc, msg *message.Message, first error) error {
	original := msg.Context()
	d := r.newDelivery(h, msg)
	d.first = first
	ctx, cancel := context.WithCancel(withDelivery(original, d))
	defer cancel()
	defer context.AfterFunc(deliveries, cancel)()
	msg.SetContext(ctx)
	err := recovered(func() error {
		out, err := next(msg)
		if err == nil && len(out) > 0 {
			err = message.ErrOutputInNoPublisherHandler
		}
		return err
	})
	msg.SetContext(original)
	r.finish(h, msg, d, err)
	return err
}

func (r *run) newDelivery(h *handler, msg *message.Message) *state {
	d := &state{Delivery: describe(h.name, h.topic, msg), began: time.Now(), stop: r.stop, blocked: &r.router.blocked, giveUp: r.giveUp}
	if d.Group == "" {
		d.Group = h.group
	}
	return d
}

// finish answers the message, which ends its delivery.
func (r *run) finish(h *handler, msg *message.Message, d *state, err error) {
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
	r.router.cfg.Hooks.Delivered(d.Delivery)
	r.router.inflight.done(h.name, 1)
}

func (r *run) closeSubscribers() error {
	var errs []error
	for _, h := range r.router.handlers {
		if err := h.closer().Close(); err != nil {
			errs = append(errs, fmt.Errorf("close subscriber of %q: %w", h.name, err))
		}
	}
	return errors.Join(errs...)
}

// subscribed is a subscription that exists already, in the shape that Watermill
// wants. The run closes its subscriber.
type subscribed <-chan *message.Message

// Subscribe returns the messages.
func (s subscribed) Subscribe(context.Context, string) (<-chan *message.Message, error) {
	return s, nil
}

// Close does nothing.
func (s subscribed) Close() error { return nil }
