package consumer

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Timeout is a middleware that ends the message's context after d and marks the
// handler's error with ErrTimeout if that is why it failed. A handler that
// ignores its context is not abandoned, since it would run beside its own retry.
// The message's context is restored afterwards.
func Timeout(d time.Duration) message.HandlerMiddleware {
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

// guarded calls f and makes a PanicError of its panic.
func guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}

// Recover is a middleware that turns a panic into a PanicError with its stack.
func Recover(hooks Hooks) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) (out []*message.Message, err error) {
			err = guarded(func() error {
				out, err = next(msg)
				return err
			})
			if p, ok := err.(*PanicError); ok { //nolint:errorlint // one that was wrapped was told of by whoever made it
				hooks.panicked(deliveryFrom(msg.Context()).Delivery, p)
			}
			return out, err
		}
	}
}
