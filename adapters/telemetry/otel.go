package telemetry

import (
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/millrace-go/millrace/outbox"
)

// HeaderTracestate is the name of the W3C header that goes with traceparent.
const HeaderTracestate = "tracestate"

// scope names our spans' instrumentation.
const scope = "github.com/millrace-go/millrace"

// tracerOr returns t, or the global provider's tracer if t is nil: that does
// nothing until the program sets an SDK.
func tracerOr(t oteltrace.Tracer) oteltrace.Tracer {
	if t == nil {
		return otel.Tracer(scope)
	}
	return t
}

// spanContextOf reads the trace context of a message's headers; it is not valid
// if they have none. What of tracestate cannot be read is left out.
func spanContextOf(headers map[string]string) oteltrace.SpanContext {
	t, ok := ParseTraceparent(headers[HeaderTraceparent])
	if !ok {
		return oteltrace.SpanContext{}
	}
	cfg := oteltrace.SpanContextConfig{TraceID: t.TraceID, SpanID: t.SpanID, TraceFlags: oteltrace.TraceFlags(t.Flags), Remote: true}
	if text := headers[HeaderTracestate]; text != "" {
		if state, err := oteltrace.ParseTraceState(text); err == nil {
			cfg.TraceState = state
		}
	}
	return oteltrace.NewSpanContext(cfg)
}

// traceOf returns sc as a Trace.
func traceOf(sc oteltrace.SpanContext) Trace {
	return Trace{TraceID: sc.TraceID(), SpanID: sc.SpanID(), Flags: byte(sc.TraceFlags()) & Sampled}
}

// fail marks a span as failed.
func fail(span oteltrace.Span, err error) {
	span.SetStatus(codes.Error, capText(err.Error()))
	span.SetAttributes(semconv.ErrorType(err))
}

// messageAttrs describe one message.
func messageAttrs(m *outbox.Message) []attribute.KeyValue {
	attrs := []attribute.KeyValue{semconv.MessagingMessageID(m.ID.String()), semconv.MessagingKafkaMessageKey(m.Key)}
	if m.Payload == nil {
		attrs = append(attrs, semconv.MessagingKafkaMessageTombstone(true))
	}
	if id := m.Headers[outbox.HeaderCorrelationID]; id != "" {
		attrs = append(attrs, semconv.MessagingMessageConversationID(id))
	}
	return attrs
}
