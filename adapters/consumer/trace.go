package consumer

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// Tracer continues the trace of a record; package telemetry has one.
type Tracer interface {
	// Continue returns a context with a child span of the trace in the W3C
	// header; a header that is absent or malformed starts a new trace.
	Continue(ctx context.Context, traceparent string) context.Context
	// Traceparent is the header for what ctx causes; empty without a trace.
	Traceparent(ctx context.Context) string
}

// Trace is a middleware that gives the message's context the trace of its record.
// The error of a message that is not acknowledged then has a method Traceparent,
// with which telemetry.WatermillLogger logs the router's line about it under that
// trace.
func Trace(t Tracer) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			before := msg.Context()
			defer msg.SetContext(before)
			ctx := t.Continue(before, msg.Metadata.Get(outbox.HeaderTraceparent))
			msg.SetContext(ctx)
			out, err := next(msg)
			if err != nil {
				err = &tracedError{error: err, parent: t.Traceparent(ctx)}
			}
			return out, err
		}
	}
}

// tracedError is an error with the trace that it happened in.
type tracedError struct {
	error
	parent string
}

// Unwrap returns the error itself.
func (e *tracedError) Unwrap() error { return e.error }

// Traceparent is the W3C header of the trace; empty if there was none.
func (e *tracedError) Traceparent() string { return e.parent }

// newTargetGroup is a middleware that acknowledges, without handling them, records
// that were replayed for another consumer group. group is ours where the record
// does not say it.
func newTargetGroup(group string) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			if !forOthers(msg, group) {
				return next(msg)
			}
			deliveryFrom(msg.Context()).Outcome = OutcomeSkipped
			return nil, nil
		}
	}
}

// forOthers reports that msg was replayed for another group than its receiver's.
func forOthers(msg *message.Message, group string) bool {
	if r, ok := record.From(msg.Context()); ok && r.Group != "" {
		group = r.Group
	}
	target := msg.Metadata.Get(deadletter.HeaderTargetGroup)
	return target != "" && group != "" && target != group
}
