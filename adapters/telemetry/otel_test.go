package telemetry_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
	"github.com/millrace-go/millrace/test/outboxtest"
)

// sdk returns a tracer of an SDK, and what it exports.
func sdk(t *testing.T, opts ...sdktrace.TracerProviderOption) (oteltrace.Tracer, *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(append(opts, sdktrace.WithSyncer(spans))...)
	t.Cleanup(func() { require.NoError(t, provider.Shutdown(context.WithoutCancel(t.Context()))) })
	return provider.Tracer("test"), spans
}

// attrs of a span as text.
func attrs(span tracetest.SpanStub) map[string]string {
	out := map[string]string{}
	for _, kv := range span.Attributes {
		out[string(kv.Key)] = kv.Value.String()
	}
	return out
}

func links(span tracetest.SpanStub) []string {
	var out []string
	for _, l := range span.Links {
		out = append(out, l.SpanContext.TraceID().String()+"-"+l.SpanContext.SpanID().String())
	}
	return out
}

// kept is an Appender that keeps what it got.
type kept struct {
	msgs []outbox.Message
	err  error
}

func (k *kept) Append(_ context.Context, _ *sql.Tx, msgs []outbox.Message) error {
	k.msgs = append(k.msgs, msgs...)
	return k.err
}

func writer(t *testing.T, store outbox.Appender) *outbox.Writer {
	t.Helper()
	w, err := outbox.NewWriter(store, outbox.WriterConfig{})
	require.NoError(t, err)
	return w
}

func TestTraceAppender_WritesTheCreateSpanIntoTheMessage(t *testing.T) {
	t.Parallel()
	tracer, spans := sdk(t)
	state, err := oteltrace.ParseTraceState("vendor=x")
	require.NoError(t, err)
	from := oteltrace.NewSpanContext(oteltrace.SpanContextConfig{TraceID: oteltrace.TraceID{1}, SpanID: oteltrace.SpanID{2}, TraceFlags: 1, TraceState: state})
	ctx, business := tracer.Start(oteltrace.ContextWithSpanContext(t.Context(), from), "order")
	store := &kept{}
	headers := map[string]string{outbox.HeaderCorrelationID: "c1"}
	msgs := []outbox.Message{
		{ID: uuid.Max, Topic: "orders", Key: "a", Headers: headers},
		{ID: uuid.New(), Topic: "bills", Key: "b", Payload: []byte("x")},
		{ID: uuid.New(), Topic: "orders", Key: "c", Headers: map[string]string{"traceparent": parent, "tracestate": "own=1"}},
	}
	require.NoError(t, writer(t, telemetry.TraceAppender(store, tracer)).Append(ctx, nil, msgs...))

	got := spans.GetSpans()
	require.Len(t, got, 2)
	for i, span := range got {
		require.Equal(t, "create "+msgs[i].Topic, span.Name)
		require.Equal(t, oteltrace.SpanKindProducer, span.SpanKind)
		require.Equal(t, business.SpanContext().SpanID(), span.Parent.SpanID())
		sc := span.SpanContext
		require.Equal(t, fmt.Sprintf("00-%s-%s-01", sc.TraceID(), sc.SpanID()), store.msgs[i].Headers["traceparent"])
		require.Equal(t, "vendor=x", store.msgs[i].Headers["tracestate"])
	}
	require.Equal(t, map[string]string{
		"messaging.system": "kafka", "messaging.destination.name": "orders", "messaging.operation.name": "create", "messaging.operation.type": "create",
		"messaging.message.id": uuid.Max.String(), "messaging.kafka.message.key": "a", "messaging.kafka.message.tombstone": "true",
		"messaging.message.conversation_id": "c1",
	}, attrs(got[0]))
	require.Equal(t, msgs[2].Headers, store.msgs[2].Headers, "the caller's own context stays")
	require.Equal(t, map[string]string{outbox.HeaderCorrelationID: "c1"}, headers, "the caller's map is not written to")
	require.Equal(t, "c1", store.msgs[0].Headers[outbox.HeaderCorrelationID])
	require.Nil(t, msgs[1].Headers)
}

func TestTraceAppender_MarksARefusedAppend(t *testing.T) {
	t.Parallel()
	tracer, spans := sdk(t)
	store := &kept{err: errors.New("connection refused")}
	require.Error(t, writer(t, telemetry.TraceAppender(store, tracer)).Append(t.Context(), nil, outbox.Message{Topic: "orders", Key: "a"}))
	require.Equal(t, sdktrace.Status{Code: codes.Error, Description: "connection refused"}, spans.GetSpans()[0].Status)
	require.Contains(t, attrs(spans.GetSpans()[0]), "error.type")
}

func TestTraceAppender_LeavesMessagesWithoutRoomAlone(t *testing.T) {
	t.Parallel()
	tracer, spans := sdk(t)
	full := map[string]string{}
	for i := range outbox.MaxHeaders - 1 {
		full[fmt.Sprint("h", i)] = ""
	}
	store := &kept{}
	require.NoError(t, writer(t, telemetry.TraceAppender(store, tracer)).Append(t.Context(), nil, outbox.Message{Topic: "orders", Key: "a", Headers: full}))
	require.Len(t, store.msgs[0].Headers, outbox.MaxHeaders-1)
	require.Empty(t, spans.GetSpans())
}

func TestTraceAppender_WithoutAnSDKPassesTheContextsTraceOn(t *testing.T) {
	t.Parallel()
	store := &kept{}
	w := writer(t, telemetry.TraceAppender(store, noop.NewTracerProvider().Tracer("")))
	require.NoError(t, w.Append(t.Context(), nil, outbox.Message{Topic: "orders", Key: "a"}))
	stale := map[string]string{"tracestate": "stale=1"}
	require.NoError(t, w.Append(tracedContext(t), nil, outbox.Message{Topic: "orders", Key: "a", Headers: stale}))
	require.Empty(t, store.msgs[0].Headers)
	require.Equal(t, map[string]string{"traceparent": parent}, store.msgs[1].Headers)
}

func entry(topic, traceparent string) outbox.Entry {
	e := outbox.Entry{Message: outbox.Message{ID: uuid.Max, Topic: topic, Key: "k", Payload: []byte("x")}}
	if traceparent != "" {
		e.Headers = map[string]string{"traceparent": traceparent}
	}
	return e
}

func TestTracePublisher_MakesOneSpanOfABatchAndTopic(t *testing.T) {
	t.Parallel()
	tracer, spans := sdk(t)
	inner := &manual{}
	pub := telemetry.TracePublisher(inner, tracer).(outbox.BatchPublisher)
	entries := []outbox.Entry{entry("orders", parent), entry("bills", ""), entry("orders", ""), entry("orders", "garbage")}
	var acked []int
	ambient, _ := tracer.Start(t.Context(), "ambient")
	pub.PublishBatch(ambient, entries, func(i int, _ error) { acked = append(acked, i) })
	require.Equal(t, ambient, inner.ctx)
	require.Same(t, &entries[0], &inner.entries[0])
	inner.ack(0, nil)
	inner.ack(1, errors.New("broken pipe"))
	inner.ack(3, nil)
	require.Len(t, spans.GetSpans(), 1, "one ack of orders is missing")
	inner.ack(2, nil)
	require.Equal(t, []int{0, 1, 3, 2}, acked)

	bills, orders := spans.GetSpans()[0], spans.GetSpans()[1]
	require.Equal(t, []string{"send orders", "send bills"}, []string{orders.Name, bills.Name})
	require.Equal(t, oteltrace.SpanKindClient, orders.SpanKind)
	require.False(t, orders.Parent.IsValid(), "a trace of its own")
	require.Equal(t, []string{"4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"}, links(orders))
	require.Empty(t, links(bills))
	require.Equal(t, map[string]string{
		"messaging.system": "kafka", "messaging.destination.name": "orders", "messaging.operation.name": "send", "messaging.operation.type": "send",
		"messaging.batch.message_count": "3",
	}, attrs(orders))
	require.Equal(t, codes.Unset, orders.Status.Code)
	require.Equal(t, sdktrace.Status{Code: codes.Error, Description: "broken pipe"}, bills.Status)
	require.Equal(t, uuid.Max.String(), attrs(bills)["messaging.message.id"])
	require.NotContains(t, attrs(bills), "messaging.batch.message_count")
	require.Equal(t, parent, entries[0].Headers["traceparent"], "never rewritten")
}

func TestTracePublisher_CapsItsLinks(t *testing.T) {
	t.Parallel()
	limits := sdktrace.NewSpanLimits()
	limits.LinkCountLimit = -1
	tracer, spans := sdk(t, sdktrace.WithRawSpanLimits(limits))
	inner := &manual{}
	entries := make([]outbox.Entry, 300)
	for i := range entries {
		entries[i] = entry("orders", telemetry.NewTrace().Traceparent())
	}
	telemetry.TracePublisher(inner, tracer).(outbox.BatchPublisher).PublishBatch(t.Context(), entries, func(int, error) {})
	for i := range entries {
		inner.ack(i, nil)
	}
	require.Len(t, spans.GetSpans()[0].Links, telemetry.MaxLinks)
}

// manual is a BatchPublisher whose verdicts the test gives.
type manual struct {
	broker
	ctx     context.Context
	entries []outbox.Entry
	ack     func(int, error)
}

func (m *manual) PublishBatch(ctx context.Context, entries []outbox.Entry, ack func(int, error)) {
	m.ctx, m.entries, m.ack = ctx, entries, ack
}

func TestTracePublisher_KeepsTheFacesOfThePublisher(t *testing.T) {
	t.Parallel()
	plain := struct{ message.Publisher }{&broker{}}
	for name, c := range map[string]struct {
		pub           message.Publisher
		batch, vetter bool
	}{
		"plain": {plain, false, false},
		"batch": {struct {
			message.Publisher
			outbox.BatchPublisher
		}{plain, &broker{}}, true, false},
		"vetter": {struct {
			message.Publisher
			outbox.Vetter
		}{plain, &broker{}}, false, true},
		"both": {&broker{}, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			traced := telemetry.TracePublisher(c.pub, nil)
			_, batch := traced.(outbox.BatchPublisher)
			_, vetter := traced.(outbox.Vetter)
			require.Equal(t, c.batch, batch)
			require.Equal(t, c.vetter, vetter)
			require.NoError(t, traced.Close())
		})
	}
}

func TestTracePublisher_TracesPlainPublishersToo(t *testing.T) {
	t.Parallel()
	tracer, spans := sdk(t)
	e := entry("orders", parent)
	pub := telemetry.TracePublisher(refusing{}, tracer)
	require.Error(t, pub.Publish("orders", outbox.ToWatermill(t.Context(), &e)))
	span := spans.GetSpans()[0]
	require.Equal(t, "send orders", span.Name)
	require.Equal(t, []string{"4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"}, links(span))
	require.Equal(t, codes.Error, span.Status.Code)
	require.Equal(t, "k", attrs(span)["messaging.kafka.message.key"])
}

type refusing struct{}

func (refusing) Publish(string, ...*message.Message) error { return errors.New("no") }
func (refusing) Close() error                              { return nil }

// received is a message as a subscriber hands it out.
func received(ctx context.Context, headers map[string]string) *message.Message {
	m := message.NewMessage("id-1", []byte("x"))
	m.Metadata = headers
	m.SetContext(record.With(ctx, &record.Record{Topic: "orders", Partition: 3, Offset: 42, Key: []byte("k"), Group: "views"}))
	return m
}

// process runs one message through the middleware and returns its handler's context.
func process(t *testing.T, tracer oteltrace.Tracer, cfg telemetry.ProcessConfig, m *message.Message, fails error) context.Context {
	t.Helper()
	before := m.Context()
	var inside context.Context
	_, err := telemetry.TraceProcess(tracer, cfg)(func(m *message.Message) ([]*message.Message, error) {
		inside = m.Context()
		return nil, fails
	})(m)
	require.Equal(t, fails, err)
	require.Equal(t, before, m.Context())
	return inside
}

func TestTraceProcess_ContinuesTheMessagesTrace(t *testing.T) {
	t.Parallel()
	tracer, spans := sdk(t)
	m := received(t.Context(), map[string]string{"traceparent": parent, "tracestate": "vendor=x", "correlation-id": "c1"})
	inside := process(t, tracer, telemetry.ProcessConfig{}, m, nil)

	span := spans.GetSpans()[0]
	require.Equal(t, "process orders", span.Name)
	require.Equal(t, oteltrace.SpanKindConsumer, span.SpanKind)
	require.Equal(t, "00f067aa0ba902b7", span.Parent.SpanID().String())
	require.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", span.SpanContext.TraceID().String())
	require.Equal(t, "vendor=x", span.SpanContext.TraceState().String())
	require.Empty(t, span.Links)
	require.Equal(t, map[string]string{
		"messaging.system": "kafka", "messaging.destination.name": "orders", "messaging.operation.name": "process", "messaging.operation.type": "process",
		"messaging.message.id": "id-1", "messaging.kafka.message.key": "k", "messaging.message.conversation_id": "c1",
		"messaging.destination.partition.id": "3", "messaging.kafka.offset": "42", "messaging.consumer.group.name": "views",
	}, attrs(span))
	trace, ok := telemetry.TraceFrom(inside)
	require.True(t, ok)
	require.Equal(t, span.SpanContext.SpanID().String(), trace.Span(), "log lines carry the span")
}

func TestTraceProcess_LinksInANewTrace(t *testing.T) {
	t.Parallel()
	tracer, spans := sdk(t)
	ctx := telemetry.Tracer{}.Continue(t.Context(), parent) // as the consumer's own trace does
	process(t, tracer, telemetry.ProcessConfig{NewTrace: true}, received(ctx, map[string]string{"traceparent": parent}), errors.New("boom"))
	span := spans.GetSpans()[0]
	require.False(t, span.Parent.IsValid())
	require.Equal(t, []string{"4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"}, links(span))
	require.Equal(t, sdktrace.Status{Code: codes.Error, Description: "boom"}, span.Status)
	require.Contains(t, attrs(span), "error.type")
}

func TestTraceProcess_IsTheChildOfAnAmbientSpan(t *testing.T) {
	t.Parallel()
	tracer, spans := sdk(t)
	for _, cfg := range []telemetry.ProcessConfig{{}, {NewTrace: true}} {
		spans.Reset()
		ctx, ambient := tracer.Start(t.Context(), "poll")
		process(t, tracer, cfg, received(ctx, map[string]string{"traceparent": parent}), nil)
		span := spans.GetSpans()[0]
		require.Equal(t, ambient.SpanContext().SpanID(), span.Parent.SpanID())
		require.Equal(t, []string{"4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"}, links(span))
	}
}

func TestTraceProcess_ChangesNothingWithoutAnSDK(t *testing.T) {
	t.Parallel()
	for name, ctx := range map[string]context.Context{"no trace": t.Context(), "own trace": telemetry.Tracer{}.Continue(t.Context(), parent)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := received(ctx, map[string]string{"traceparent": parent})
			require.Equal(t, m.Context(), process(t, noop.NewTracerProvider().Tracer(""), telemetry.ProcessConfig{}, m, nil))
		})
	}
}

func TestTraceProcess_KeepsTheIDsOfASpanThatIsNotSampled(t *testing.T) {
	t.Parallel()
	tracer, spans := sdk(t, sdktrace.WithSampler(sdktrace.NeverSample()))
	inside := process(t, tracer, telemetry.ProcessConfig{}, received(t.Context(), map[string]string{"traceparent": parent}), nil)
	trace, _ := telemetry.TraceFrom(inside)
	require.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", trace.ID())
	require.NotEqual(t, "00f067aa0ba902b7", trace.Span())
	require.Zero(t, trace.Flags)
	require.Empty(t, spans.GetSpans())
}

func TestTraces_GoFromTheWriterToTheConsumer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tracer, spans := sdk(t)
		log, b := outboxtest.NewMemoryLog(nil), &broker{}
		_, stop := start(t, log, telemetry.TracePublisher(b, tracer), outbox.RelayConfig{})
		w := writer(t, telemetry.TraceAppender(memoryStore{log}, tracer))
		ctx, business := tracer.Start(t.Context(), "place order")
		require.NoError(t, w.Append(ctx, nil, outbox.Message{Topic: "orders", Key: "a", Payload: []byte("x")}))
		business.End()
		time.Sleep(time.Second)
		stop()

		taken := b.taken()
		require.Len(t, taken, 1)
		m := outbox.ToWatermill(t.Context(), &taken[0])
		process(t, tracer, telemetry.ProcessConfig{}, received(t.Context(), m.Metadata), nil)

		byName := map[string]tracetest.SpanStub{}
		for _, s := range spans.GetSpans() {
			byName[s.Name] = s
		}
		create, send, consumed := byName["create orders"], byName["send orders"], byName["process orders"]
		require.Equal(t, business.SpanContext().TraceID(), create.SpanContext.TraceID())
		require.Contains(t, taken[0].Headers["traceparent"], create.SpanContext.SpanID().String())
		require.NotEqual(t, create.SpanContext.TraceID(), send.SpanContext.TraceID())
		require.Equal(t, create.SpanContext.SpanID(), send.Links[0].SpanContext.SpanID())
		require.Equal(t, create.SpanContext.TraceID(), send.Links[0].SpanContext.TraceID())
		require.Equal(t, create.SpanContext.TraceID(), consumed.SpanContext.TraceID())
		require.Equal(t, create.SpanContext.SpanID(), consumed.Parent.SpanID())
	})
}
