// Package telemetry carries W3C trace context through requests, messages and jobs,
// writes it into log lines, and measures relays.
//
// [NewHandler] wraps any slog.Handler and adds trace_id, span_id and trace_flags of
// the context at the top level of every line. [Tracer] is what the other parts of
// Millrace take to continue a trace from a header and to pass it on. No
// OpenTelemetry SDK is needed; with one, [TraceAppender], [TracePublisher] and
// [TraceProcess] make spans.
//
// [RelayMetrics] are Prometheus metrics of a relay. Those of consumers, dead
// letters and inboxes are in package consumermetrics, those of caches in
// cachemetrics, those of locks and scheduled jobs in jobmetrics: each links only
// what it measures, and its Hooks fit the part as they are.
//
// # For implementers
//
// The router of adapters/consumer calls [Tracer.Continue] and [Tracer.Traceparent].
package telemetry
