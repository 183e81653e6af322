package telemetry_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	"github.com/millrace-go/millrace/test/harness"
)

// What docs/observability.md shows begins here.

func observed(ctx context.Context, store *pgstore.Store, pub message.Publisher, reg prometheus.Registerer, tracer oteltrace.Tracer) (*outbox.Relay, outbox.Appender, error) {
	metrics, err := telemetry.NewRelayMetrics(reg, "relay")
	if err != nil {
		return nil, nil, err
	}
	cfg := outbox.RelayConfig{Name: "relay", Hooks: metrics.Hooks(outbox.Hooks{})}
	relay, err := outbox.NewRelay(store, telemetry.TracePublisher(pub, tracer), cfg)
	if err != nil {
		return nil, nil, err
	}
	metrics.Follow(relay.Status)
	go metrics.WatchLag(ctx, func(ctx context.Context) (outbox.Lag, error) { return store.LagOf(ctx, cfg.Name) }, 0)
	return relay, telemetry.TraceAppender(store, tracer), nil
}

// And here it ends.

func TestDocs_WiringIsThatOfThePage(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("wiring_test.go")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(source), "begins here.\n\n")
	require.True(t, ok)
	shown, _, ok := strings.Cut(rest, "\n// And here it ends.")
	require.True(t, ok)
	page, err := os.ReadFile("../../docs/observability.md")
	require.NoError(t, err)
	require.Contains(t, string(page), "```go\n"+shown+"```\n")
}

func TestWiring_MeasuresAndTracesARelayFromPostgresToKafka(t *testing.T) {
	t.Parallel()
	db, brokers, topic := harness.NewDatabase(t), harness.Brokers(t), harness.Topic(t, 1)
	tracer, spans := sdk(t)
	reg := prometheus.NewRegistry()
	store, err := pgstore.New(db.DB, pgstore.Config{})
	require.NoError(t, err)
	pub, err := kafka.NewPublisher(kafka.Config{Brokers: brokers})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	relay, appender, err := observed(ctx, store, pub, reg, tracer)
	require.NoError(t, err)
	var running sync.WaitGroup
	running.Go(func() { require.NoError(t, relay.Run(ctx)) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		require.NoError(t, errors.Join(pub.Close(), store.Close()))
	})

	tx, err := db.DB.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, writer(t, appender).Append(t.Context(), tx, outbox.Message{Topic: topic, Key: "a", Payload: []byte("x")}))
	require.NoError(t, tx.Commit())
	relay.Wake()
	var create, send string
	require.Eventually(t, func() bool {
		for _, s := range spans.GetSpans() {
			switch s.Name {
			case "create " + topic:
				create = "00-" + s.SpanContext.TraceID().String() + "-" + s.SpanContext.SpanID().String() + "-01"
			case "send " + topic:
				send = "00-" + links(s)[0] + "-01"
			}
		}
		return send != "" && testutil.CollectAndCount(reg, "relay_end_to_end_latency_seconds") == 1
	}, 2*time.Minute, 10*time.Millisecond)
	records := harness.ReadTopic(t, brokers, topic)
	require.Len(t, records, 1)
	require.Equal(t, create, records[0].Header("traceparent"))
	require.Equal(t, create, send)
}
