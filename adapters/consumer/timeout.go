package consumer

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// newTimeout is a middleware that ends the message's context after d and marks the
// handler's error with ErrTimeout if that is why it failed. A handler that ignores
// its context is not abandoned, since it would run beside its own retry. The
// message's context is restored afterwards.
func newTimeout(d time.Duration) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			parent := msg.Context()
			ctx, cancel := context.WithTimeout(parent, d)
			defer cancel()
			msg.SetContext(ctx)
			defer msg.SetContext(parent)
			out, err := next(msg)
			if err != nil && parent.Err() == nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
				err = fmt.Errorf("%w after %s: %w", ErrTimeout, d, err)
			}
			return out, err
		}
	}
}

// ErrHung means that a handler ignored its timeout for Config.HangAfter.
var ErrHung = errors.New("handler hangs")

// newWatchdog is a middleware that ends the router when an attempt takes longer
// than limit.
func newWatchdog(limit time.Duration) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			defer watch(deliveryFrom(msg.Context()), limit)()
			return next(msg)
		}
	}
}

// watch ends the router of d after limit, unless stop is called before.
func watch(d *state, limit time.Duration) (stop func() bool) {
	if d.giveUp == nil {
		return func() bool { return true }
	}
	at := d.Delivery
	return time.AfterFunc(limit, func() {
		d.giveUp(fmt.Errorf("handler %q: %w: at work on %s/%d/%d for %s", at.Handler, ErrHung, at.Topic, at.Partition, at.Offset, limit))
	}).Stop
}

// recovered calls f and makes a PanicError of its panic.
func recovered(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}

// newRecover is a middleware that turns a panic into a PanicError with its stack.
func newRecover(hooks Hooks) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) (out []*message.Message, err error) {
			err = recovered(func() error {
				out, err = next(msg)
				return err
			})
			if p, ok := err.(*PanicError); ok { //nolint:errorlint // one that is wrapped was reported by the function that wrapped it
				hooks.Panicked(deliveryFrom(msg.Context()).Delivery, p)
			}
			return out, err
		}
	}
}
