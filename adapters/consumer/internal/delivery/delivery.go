// Package delivery lets the router's own middlewares, in this package's siblings,
// reach the delivery that they are part of. Reference code: no compatibility
// promise.
package delivery

import (
	"context"
	"time"
)

// Delivery is one message on its way through a router.
type Delivery interface {
	// Stopping is closed when the router stops; nil if the router does not say.
	Stopping() <-chan struct{}
	// Skip notes that the message needs no handling: once it is acknowledged, its
	// outcome is "skipped".
	Skip()
}

type key struct{}

// With returns a context that carries d.
func With(ctx context.Context, d Delivery) context.Context { return context.WithValue(ctx, key{}, d) }

// From returns the delivery of ctx, nil if it has none.
func From(ctx context.Context) Delivery {
	d, _ := ctx.Value(key{}).(Delivery)
	return d
}

// Skip notes that the message of ctx needs no handling. Call it in a middleware
// that then returns nil without calling the next one.
func Skip(ctx context.Context) {
	if d := From(ctx); d != nil {
		d.Skip()
	}
}

// longWait is the longest wait that a stopping router still sits out.
const longWait = time.Second

// Sleep waits for d and reports true, or false as soon as ctx ends. A wait of more
// than a second also ends when the router that delivered the message stops.
func Sleep(ctx context.Context, d time.Duration) bool {
	var stopping <-chan struct{}
	if from := From(ctx); from != nil && d > longWait {
		stopping = from.Stopping()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	case <-stopping:
		return false
	}
}
