// Package telemetry carries W3C trace context through requests, messages and
// jobs, writes it into the log, and measures a relay.
//
// [Handler] wraps any slog.Handler and adds trace_id, span_id and trace_flags of
// the context at the top level of every line. [Tracer] is what the other parts
// of Millrace take to continue a trace from a header and to pass it on. No
// OpenTelemetry SDK is needed; with one, [TraceAppender], [TracePublisher] and
// [TraceProcess] make spans. [RelayMetrics] are Prometheus's.
package telemetry
