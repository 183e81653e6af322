package telemetry

import (
	"context"
	"database/sql"
	"maps"
	"slices"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/millrace-go/millrace/outbox"
)

// TraceAppender returns an Appender for outbox.NewWriter that gives each message
// a span "create <topic>", a child of the context's, and writes that span's
// context into the message's traceparent and tracestate headers. A message that
// has a traceparent keeps it, and gets no span. A nil tracer is the global one.
//
// The span lasts as long as the append; whether its transaction commits it does
// not tell. Without an SDK the context's own trace, if any, goes into the headers.
func TraceAppender(store outbox.Appender, tracer oteltrace.Tracer) outbox.Appender {
	return &tracedAppender{store, tracerOr(tracer)}
}

type tracedAppender struct {
	store  outbox.Appender
	tracer oteltrace.Tracer
}

// Append implements outbox.Appender.
func (a *tracedAppender) Append(ctx context.Context, tx *sql.Tx, msgs []outbox.Message) error {
	var spans []oteltrace.Span
	copied := false
	for i := range msgs {
		m := &msgs[i]
		if _, set := m.Headers[HeaderTraceparent]; set || len(m.Headers)+2 > outbox.MaxHeaders {
			continue
		}
		_, span := a.tracer.Start(ctx, "create "+m.Topic, oteltrace.WithSpanKind(oteltrace.SpanKindProducer))
		if span.IsRecording() {
			span.SetAttributes(semconv.MessagingSystemKafka, semconv.MessagingDestinationName(m.Topic),
				semconv.MessagingOperationName("create"), semconv.MessagingOperationTypeCreate)
			span.SetAttributes(messageAttrs(m)...)
			spans = append(spans, span)
		}
		if sc := span.SpanContext(); sc.IsValid() {
			if !copied { // the caller's slice and maps stay as they are
				msgs, copied = slices.Clone(msgs), true
			}
			msgs[i].Headers = withSpanContext(m.Headers, sc)
		}
	}
	err := a.store.Append(ctx, tx, msgs)
	for _, span := range spans {
		if err != nil {
			fail(span, err)
		}
		span.End()
	}
	return err
}

// withSpanContext returns a copy of headers that names sc.
func withSpanContext(headers map[string]string, sc oteltrace.SpanContext) map[string]string {
	out := make(map[string]string, len(headers)+2)
	maps.Copy(out, headers)
	out[HeaderTraceparent] = traceOf(sc).Traceparent()
	delete(out, HeaderTracestate)
	if state := sc.TraceState().String(); state != "" {
		out[HeaderTracestate] = state
	}
	return out
}
