package telemetry

import (
	"context"
	"encoding/hex"
	"math/rand/v2"

	oteltrace "go.opentelemetry.io/otel/trace"
)

// HeaderTraceparent is the name of the W3C header, on HTTP and on Kafka.
const HeaderTraceparent = "traceparent"

// Sampled is the only flag that W3C trace context version 00 defines.
const Sampled byte = 0x01

// traceparentLen is the length of version 00: 00-<32 hex>-<16 hex>-<2 hex>.
const traceparentLen = 55

// Trace is one span of a distributed trace. The zero value is no trace.
type Trace struct {
	TraceID [16]byte
	SpanID  [8]byte
	Flags   byte
}

// NewTrace starts a trace with random ids, marked as sampled.
func NewTrace() Trace {
	t := Trace{Flags: Sampled}
	for t.TraceID == ([16]byte{}) {
		putUint64(t.TraceID[:8], rand.Uint64())
		putUint64(t.TraceID[8:], rand.Uint64())
	}
	t.SpanID = newSpanID()
	return t
}

// Child returns a new span of the same trace.
func (t Trace) Child() Trace {
	t.SpanID = newSpanID()
	return t
}

// Valid reports that neither id is all zero.
func (t Trace) Valid() bool {
	return t.TraceID != [16]byte{} && t.SpanID != [8]byte{}
}

// ID is the trace id as 32 lowercase hex digits.
func (t Trace) ID() string { return hex.EncodeToString(t.TraceID[:]) }

// Span is the span id as 16 lowercase hex digits.
func (t Trace) Span() string { return hex.EncodeToString(t.SpanID[:]) }

// Traceparent is the W3C header value, version 00; empty for no trace.
func (t Trace) Traceparent() string {
	if !t.Valid() {
		return ""
	}
	b := make([]byte, 0, traceparentLen)
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, t.TraceID[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, t.SpanID[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, []byte{t.Flags})
	return string(b)
}

// ParseTraceparent reads a traceparent header as W3C Trace Context level 1 asks:
// lowercase hex only, ids not all zero, version ff refused, later versions read
// by their version 00 prefix. It returns false for anything else.
func ParseTraceparent(s string) (Trace, bool) {
	var version, flags [1]byte
	var t Trace
	if len(s) < traceparentLen || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return Trace{}, false
	}
	if !decodeHex(version[:], s[:2]) || !decodeHex(t.TraceID[:], s[3:35]) ||
		!decodeHex(t.SpanID[:], s[36:52]) || !decodeHex(flags[:], s[53:55]) {
		return Trace{}, false
	}
	switch {
	case version[0] == 0xff, !t.Valid():
		return Trace{}, false
	case version[0] == 0 && len(s) != traceparentLen:
		return Trace{}, false
	case len(s) > traceparentLen && s[traceparentLen] != '-':
		return Trace{}, false
	}
	t.Flags = flags[0] & Sampled
	return t, true
}

// ContextWithTrace returns a context that carries t, as OpenTelemetry does: a span
// started from it is a child of t.
func ContextWithTrace(ctx context.Context, t Trace) context.Context {
	return oteltrace.ContextWithSpanContext(ctx, oteltrace.NewSpanContext(oteltrace.SpanContextConfig{
		TraceID: t.TraceID, SpanID: t.SpanID, TraceFlags: oteltrace.TraceFlags(t.Flags),
	}))
}

// TraceFrom returns the trace that ctx carries, if any: that of the innermost
// span, whether we or an OpenTelemetry SDK started it.
func TraceFrom(ctx context.Context) (Trace, bool) {
	t := traceOf(oteltrace.SpanContextFromContext(ctx))
	return t, t.Valid()
}

// StartSpan returns a context with a child span of the trace in ctx, or with a
// new trace if there is none. Give each parallel piece of work its own.
func StartSpan(ctx context.Context) context.Context {
	if t, ok := TraceFrom(ctx); ok {
		return ContextWithTrace(ctx, t.Child())
	}
	return ContextWithTrace(ctx, NewTrace())
}

// Tracer continues traces across a wire. The zero value is ready for use; it
// serves as the Tracer of package consumer.
type Tracer struct{}

// Continue returns a context with a child span of the trace that the header
// names. An absent, malformed or all-zero header starts a new trace.
func (Tracer) Continue(ctx context.Context, traceparent string) context.Context {
	if t, ok := ParseTraceparent(traceparent); ok {
		return ContextWithTrace(ctx, t.Child())
	}
	return ContextWithTrace(ctx, NewTrace())
}

// Traceparent is the header value for work that ctx causes elsewhere; empty if
// ctx carries no trace.
func (Tracer) Traceparent(ctx context.Context) string {
	t, _ := TraceFrom(ctx)
	return t.Traceparent()
}

func newSpanID() (id [8]byte) {
	for id == ([8]byte{}) {
		putUint64(id[:], rand.Uint64())
	}
	return id
}

func putUint64(b []byte, v uint64) {
	for i := range 8 {
		b[i] = byte(v >> (8 * i))
	}
}

// decodeHex is hex.Decode for lowercase digits only; s is twice as long as dst.
func decodeHex(dst []byte, s string) bool {
	for i := range dst {
		hi, lo := nibble(s[2*i]), nibble(s[2*i+1])
		if hi|lo > 0x0f {
			return false
		}
		dst[i] = hi<<4 | lo
	}
	return true
}

func nibble(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}
