package consumer

import (
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// ErrHung means that a handler ignored the end of its time for Config.HangAfter.
var ErrHung = errors.New("handler hangs")

// watchdog is a middleware that ends the router when an attempt takes so long.
func watchdog(longest time.Duration) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			defer watch(deliveryFrom(msg.Context()), longest)()
			return next(msg)
		}
	}
}

// watch ends the router of d after longest, unless stop is called before.
func watch(d *state, longest time.Duration) (stop func() bool) {
	if d.hung == nil {
		return func() bool { return true }
	}
	at := d.Delivery
	return time.AfterFunc(longest, func() {
		d.hung(fmt.Errorf("handler %q: %w: at work on %s/%d/%d for %s", at.Handler, ErrHung, at.Topic, at.Partition, at.Offset, longest))
	}).Stop
}

// giveUp ends the session because of err. The first error counts.
func (s *session) giveUp(err error) {
	select {
	case s.ended <- err:
	default:
	}
}
