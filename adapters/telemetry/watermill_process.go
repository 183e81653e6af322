package telemetry

import (
	"context"
	"strconv"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// ProcessConfig configures TraceProcess. The zero value is usable.
type ProcessConfig struct {
	// NewTrace starts a trace for each message, with a link to the message's
	// context. Default off: the span is a child of the message's context.
	NewTrace bool
}

// TraceProcess is a middleware that makes a span "process <topic>" of each call
// of the handler; a nil tracer is the global one. Given to the consumer's WithAround it
// sees each delivery once, given to WithInside each attempt.
//
// If the message's context has a recording span of another's already, ours is
// its child and linked to the message's. Without an SDK nothing changes.
func TraceProcess(tracer oteltrace.Tracer, cfg ProcessConfig) message.HandlerMiddleware {
	tracer = tracerOr(tracer)
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			before := msg.Context()
			ctx, span := cfg.start(before, tracer, msg)
			if !span.IsRecording() && !started(ctx, msg) {
				span.End()
				return next(msg)
			}
			msg.SetContext(ctx)
			defer span.End()
			defer msg.SetContext(before)
			out, err := next(msg)
			if err != nil {
				fail(span, err)
			}
			return out, err
		}
	}
}

// started reports that ctx carries a span that is not the message's own: one that
// a sampler left out has ids all the same.
func started(ctx context.Context, msg *message.Message) bool {
	now := oteltrace.SpanContextFromContext(ctx)
	return now.IsValid() && now.SpanID() != spanContextOf(msg.Metadata).SpanID() &&
		now.SpanID() != oteltrace.SpanContextFromContext(msg.Context()).SpanID()
}

func (c ProcessConfig) start(ctx context.Context, tracer oteltrace.Tracer, msg *message.Message) (context.Context, oteltrace.Span) {
	topic := message.SubscribeTopicFromCtx(ctx)
	r, ok := record.From(ctx)
	if ok {
		topic = r.Topic
	}
	opts := []oteltrace.SpanStartOption{oteltrace.WithSpanKind(oteltrace.SpanKindConsumer)}
	origin := spanContextOf(msg.Metadata)
	ambient := oteltrace.SpanFromContext(ctx).IsRecording()
	switch {
	case c.NewTrace && !ambient:
		opts = append(opts, oteltrace.WithNewRoot())
	case !ambient && origin.IsValid():
		ctx = oteltrace.ContextWithRemoteSpanContext(ctx, origin)
	}
	if origin.IsValid() && (ambient || c.NewTrace) {
		opts = append(opts, oteltrace.WithLinks(oteltrace.Link{SpanContext: origin}))
	}
	ctx, span := tracer.Start(ctx, "process "+topic, opts...)
	if span.IsRecording() {
		span.SetAttributes(processAttrs(topic, r, msg)...)
	}
	return ctx, span
}

func processAttrs(topic string, r *record.Record, msg *message.Message) []attribute.KeyValue {
	attrs := []attribute.KeyValue{
		semconv.MessagingSystemKafka, semconv.MessagingDestinationName(topic),
		semconv.MessagingOperationName("process"), semconv.MessagingOperationTypeProcess,
		semconv.MessagingMessageID(msg.UUID),
	}
	if id := msg.Metadata.Get(outbox.HeaderCorrelationID); id != "" {
		attrs = append(attrs, semconv.MessagingMessageConversationID(id))
	}
	if msg.Payload == nil {
		attrs = append(attrs, semconv.MessagingKafkaMessageTombstone(true))
	}
	if r == nil {
		return attrs
	}
	if r.Partition >= 0 {
		attrs = append(attrs, semconv.MessagingDestinationPartitionID(strconv.Itoa(int(r.Partition))), semconv.MessagingKafkaOffset(int(r.Offset)))
	}
	if r.Key != nil {
		attrs = append(attrs, semconv.MessagingKafkaMessageKey(string(r.Key)))
	}
	if r.Group != "" {
		attrs = append(attrs, semconv.MessagingConsumerGroupName(r.Group))
	}
	return attrs
}
