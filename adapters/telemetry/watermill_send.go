package telemetry

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/millrace-go/millrace/outbox"
)

// MaxLinks is how many messages a span "send <topic>" links to.
const MaxLinks = 128

// TracePublisher returns a publisher for a relay that makes, for each batch and
// topic, a span "send <topic>" in a trace of its own, from the hand-over to the
// broker's last acknowledgement, with links to the contexts in the messages'
// traceparent headers (the first MaxLinks of them). The headers stay as they are.
// A nil tracer is the global one.
//
// The publisher is a BatchPublisher and a Vetter exactly if pub is.
func TracePublisher(pub message.Publisher, tracer oteltrace.Tracer) message.Publisher {
	plain := tracedPublisher{pub, tracerOr(tracer)}
	batch, isBatch := pub.(outbox.BatchPublisher)
	vetter, isVetter := pub.(outbox.Vetter)
	switch {
	case isBatch && isVetter:
		return struct {
			tracedBatches
			outbox.Vetter
		}{tracedBatches{plain, batch}, vetter}
	case isBatch:
		return tracedBatches{plain, batch}
	case isVetter:
		return struct {
			tracedPublisher
			outbox.Vetter
		}{plain, vetter}
	}
	return plain
}

type tracedPublisher struct {
	message.Publisher
	tracer oteltrace.Tracer
}

// Publish publishes msgs in one span.
func (p tracedPublisher) Publish(topic string, msgs ...*message.Message) error {
	var links []oteltrace.Link
	for _, m := range msgs {
		links = link(links, len(msgs), m.Metadata)
	}
	span := p.start(context.Background(), topic, links)
	defer span.End()
	if span.IsRecording() {
		if len(msgs) == 1 {
			m := msgs[0]
			span.SetAttributes(semconv.MessagingMessageID(m.UUID), semconv.MessagingKafkaMessageKey(m.Metadata.Get(outbox.MetadataKey)))
		} else {
			span.SetAttributes(semconv.MessagingBatchMessageCount(len(msgs)))
		}
	}
	err := p.Publisher.Publish(topic, msgs...)
	if err != nil {
		fail(span, err)
	}
	return err
}

// start begins a span in a new trace.
func (p tracedPublisher) start(ctx context.Context, topic string, links []oteltrace.Link) oteltrace.Span {
	_, span := p.tracer.Start(ctx, "send "+topic,
		oteltrace.WithNewRoot(), oteltrace.WithSpanKind(oteltrace.SpanKindClient), oteltrace.WithLinks(links...))
	if span.IsRecording() {
		span.SetAttributes(semconv.MessagingSystemKafka, semconv.MessagingDestinationName(topic),
			semconv.MessagingOperationName("send"), semconv.MessagingOperationTypeSend)
	}
	return span
}

// link adds a link to the context in headers, if there is one and room for it;
// there may be most of them.
func link(links []oteltrace.Link, most int, headers map[string]string) []oteltrace.Link {
	if len(links) == MaxLinks {
		return links
	}
	if sc := spanContextOf(headers); sc.IsValid() {
		if links == nil {
			links = make([]oteltrace.Link, 0, min(most, MaxLinks))
		}
		links = append(links, oteltrace.Link{SpanContext: sc})
	}
	return links
}
