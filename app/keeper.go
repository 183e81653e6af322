package app

import (
	"context"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// keeper stores what acts did to a notification: its row, its events, and when
// it is to be tried again.
type keeper struct {
	newID  func() string
	retry  notification.Policy
	tracer Tracer
}

// envelopes wraps the pending events of n.
func (k keeper) envelopes(ctx context.Context, n *notification.Notification) []domain.Recorded {
	return domain.Envelopes(notification.Aggregate, string(n.ID()), n.Version(), n.Pending(), TraceFrom(ctx), k.newID)
}

// apply lets act decide about n and stores the outcome. A notification that has
// failed is scheduled for another attempt; one that is over is forgotten.
func (k keeper) apply(ctx context.Context, tx Tx, n *notification.Notification, act func(*notification.Notification) error) error {
	before := n.Status()
	if err := k.save(ctx, tx, n, act); err != nil {
		return err
	}
	switch after := n.Status(); {
	case after == notification.StatusFailed:
		return tx.Claims().Schedule(ctx, n.ID(), k.next(ctx, n))
	case before == notification.StatusFailed && after.Final():
		return tx.Claims().Drop(ctx, n.ID())
	}
	return nil
}

// save stores n and its events, and nothing about further attempts.
func (k keeper) save(ctx context.Context, tx Tx, n *notification.Notification, act func(*notification.Notification) error) error {
	if err := act(n); err != nil {
		return err
	}
	events := k.envelopes(ctx, n)
	if err := tx.Notifications().Save(ctx, n); err != nil {
		return err
	}
	return tx.Record(ctx, events...)
}

// next is the attempt that follows n's latest failure.
func (k keeper) next(ctx context.Context, n *notification.Notification) Retry {
	trace := TraceFrom(ctx)
	if parent := k.tracer.Traceparent(ctx); parent != "" {
		trace.Parent = parent
	}
	return Retry{Wait: k.retry.Wait(n.State().Attempts), Trace: trace}
}

// noTracer has no traces.
type noTracer struct{}

func (noTracer) Continue(ctx context.Context, _ string) context.Context { return ctx }
func (noTracer) Traceparent(context.Context) string                     { return "" }
