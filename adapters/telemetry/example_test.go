package telemetry_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/outbox"
)

const incoming = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// A log line has the ids of the trace that its context carries.
func ExampleNewHandler() {
	text := slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	log := slog.New(telemetry.NewHandler(text))
	trace, _ := telemetry.ParseTraceparent(incoming)
	ctx := telemetry.ContextWithTrace(context.Background(), trace)
	log.InfoContext(ctx, "order placed", "order", 7)
	log.InfoContext(telemetry.ContextWithAttrs(ctx, slog.String("job", "report")), "order closed", "order", 7)
	// Output:
	// level=INFO msg="order placed" trace_id=0af7651916cd43dd8448eb211c80319c span_id=b7ad6b7169203331 trace_flags=01 order=7
	// level=INFO msg="order closed" trace_id=0af7651916cd43dd8448eb211c80319c span_id=b7ad6b7169203331 trace_flags=01 job=report order=7
}

// A child span has the trace's id and an id of its own.
func ExampleParseTraceparent() {
	trace, ok := telemetry.ParseTraceparent(incoming)
	child := trace.Child()
	fmt.Println(ok, trace.ID() == child.ID(), trace.Span() == child.Span(), trace.Traceparent() == incoming)
	_, ok = telemetry.ParseTraceparent("00-0000-00-01")
	fmt.Println(ok)
	// Output:
	// true true false true
	// false
}

// Continue takes up the trace of a header, and Traceparent passes it on.
func ExampleTracer() {
	var tracer telemetry.Tracer
	ctx := tracer.Continue(context.Background(), incoming)
	outgoing := tracer.Traceparent(ctx)
	fmt.Println(outgoing[:35] == incoming[:35], outgoing == incoming)
	// Output: true false
}

// HTTP answers each request with the id of its trace.
func ExampleHTTP() {
	handler := telemetry.HTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		trace, ok := telemetry.TraceFrom(r.Context())
		fmt.Println(ok, trace.ID())
	}))
	request := httptest.NewRequest(http.MethodGet, "/", nil)
	request.Header.Set(telemetry.HeaderTraceparent, incoming)
	response := httptest.NewRecorder()
	handler.ServeHTTP(response, request)
	fmt.Println(response.Header().Get(telemetry.HeaderTraceID))
	// Output:
	// true 0af7651916cd43dd8448eb211c80319c
	// 0af7651916cd43dd8448eb211c80319c
}

// The line of a job about work that began in an earlier trace names that, too.
func ExampleLink() {
	fmt.Println(telemetry.Link(incoming))
	// Output: link_trace_id=0af7651916cd43dd8448eb211c80319c
}

// Hooks go into a relay's config; WatchLag runs beside the relay.
func ExampleRelayMetrics() {
	registry := prometheus.NewRegistry()
	metrics, err := telemetry.NewRelayMetrics(registry, "relay")
	if err != nil {
		fmt.Println(err)
		return
	}
	hooks := metrics.Hooks(outbox.Hooks{})
	hooks.Parked(outbox.Parked{}) // the relay calls them
	ctx, stop := context.WithCancel(context.Background())
	metrics.WatchLag(ctx, func(context.Context) (outbox.Lag, error) { // pgstore's Store.LagOf
		stop()
		return outbox.Lag{Messages: 12, Age: 3 * time.Second}, nil
	}, time.Minute)
	families, err := registry.Gather()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range families {
		switch f.GetName() {
		case "outbox_pending_messages":
			fmt.Println(f.GetName(), f.GetMetric()[0].GetGauge().GetValue())
		case "relay_messages_parked_total":
			fmt.Println(f.GetName(), f.GetMetric()[0].GetCounter().GetValue())
		}
	}
	// Output:
	// outbox_pending_messages 12
	// relay_messages_parked_total 1
}
