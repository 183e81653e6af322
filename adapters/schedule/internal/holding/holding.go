// Package holding is what package schedule knows of a lock that is held, beyond
// what package lock shows to everybody.
package holding

import "context"

// Holding is one holding of a lock, from its grant to its release.
type Holding interface {
	// Waive lets the lock go as soon as the task ends, whatever its AtLeastFor: the
	// task did nothing.
	Waive()
	// LossCause is why the task was cancelled, if its lock was lost; nil otherwise.
	LossCause() error
	// Contain runs task and turns a panic into a *lock.PanicError.
	Contain(ctx context.Context, task func(context.Context) error) error
	// OutcomeOf tells how a task ended with err; stopping is the context whose end
	// tells it to stop.
	OutcomeOf(err error, stopping context.Context) string
}

type key struct{}

// With returns a context under h.
func With(ctx context.Context, h Holding) context.Context { return context.WithValue(ctx, key{}, h) }

// In returns the innermost holding that ctx is under, nil if there is none.
func In(ctx context.Context) Holding {
	h, _ := ctx.Value(key{}).(Holding)
	return h
}
