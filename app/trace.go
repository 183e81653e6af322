package app

import (
	"context"

	"github.com/millrace-go/millrace/domain"
)

type traceKey struct{}

// WithTrace returns a context whose use cases record their events under t.
func WithTrace(ctx context.Context, t domain.Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

// TraceFrom returns what WithTrace put into ctx, or the empty trace.
func TraceFrom(ctx context.Context) domain.Trace {
	t, _ := ctx.Value(traceKey{}).(domain.Trace)
	return t
}
