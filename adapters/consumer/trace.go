package consumer

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox"
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
func Trace(t Tracer) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			before := msg.Context()
			defer msg.SetContext(before)
			msg.SetContext(t.Continue(before, msg.Metadata.Get(outbox.HeaderTraceparent)))
			return next(msg)
		}
	}
}

// TargetGroup is a middleware that acknowledges, without handling them, records
// that were replayed for another consumer group. group names ours where the
// record does not tell it.
func TargetGroup(group string) message.HandlerMiddleware {
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
	if r, ok := outbox.RecordFrom(msg.Context()); ok && r.Group != "" {
		group = r.Group
	}
	target := msg.Metadata.Get(HeaderTargetGroup)
	return target != "" && group != "" && target != group
}
