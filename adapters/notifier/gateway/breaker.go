package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/millrace-go/millrace/app"
)

// breaker spares a gateway that is in trouble. It counts recipients, not
// requests: one whose deliveries always fail says nothing of the gateway.
type breaker struct {
	cb  *gobreaker.CircuitBreaker[struct{}]
	cfg Config

	mu     sync.Mutex
	failed map[string]struct{} // recipients since the last success
}

func newBreaker(cfg Config) *breaker {
	b := &breaker{cfg: cfg, failed: map[string]struct{}{}}
	b.cb = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name:          "gateway",
		Timeout:       cfg.BreakFor,
		ReadyToTrip:   func(gobreaker.Counts) bool { return b.trips() },
		IsSuccessful:  healthy,
		IsExcluded:    func(err error) bool { return errors.Is(err, errCallerGone) },
		OnStateChange: func(_ string, from, to gobreaker.State) { b.changed(from, to) },
	})
	return b
}

// errCallerGone marks what ended because the caller ended it.
var errCallerGone = errors.New("the caller is gone")

// healthy reports that an outcome shows a gateway at work: it delivered, or it
// refused the content.
func healthy(err error) bool { return err == nil || errors.Is(err, app.ErrRejected) }

// do calls send unless the breaker is open, which is app.ErrUnavailable.
func (b *breaker) do(ctx context.Context, recipient string, send func() error) error {
	_, err := b.cb.Execute(func() (struct{}, error) {
		err := send()
		if err != nil && errors.Is(ctx.Err(), context.Canceled) {
			return struct{}{}, fmt.Errorf("%w: %w", errCallerGone, err)
		}
		b.note(recipient, healthy(err))
		return struct{}{}, err
	})
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return &restError{after: b.cfg.BreakFor}
	}
	return err
}

func (b *breaker) note(recipient string, healthy bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case healthy:
		clear(b.failed)
	case len(b.failed) < max(b.cfg.BreakAfter, 0):
		b.failed[recipient] = struct{}{}
	}
}

func (b *breaker) trips() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cfg.BreakAfter > 0 && len(b.failed) >= b.cfg.BreakAfter
}

func (b *breaker) changed(from, to gobreaker.State) {
	if to == gobreaker.StateClosed {
		b.mu.Lock()
		clear(b.failed)
		b.mu.Unlock()
	}
	b.cfg.BreakerChanged(from.String(), to.String())
}

// restError is the answer of an open breaker.
type restError struct{ after time.Duration }

func (*restError) Error() string { return app.ErrUnavailable.Error() + ": its breaker is open" }

func (*restError) Unwrap() error { return app.ErrUnavailable }

// RetryAfter is for app.RetryAfter.
func (e *restError) RetryAfter() time.Duration { return e.after }
