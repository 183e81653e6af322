package telemetry_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/outbox"
)

// The benchmarks show what tracing costs a program that sets no SDK.

type nowhere struct{ broker }

func (*nowhere) PublishBatch(_ context.Context, entries []outbox.Entry, ack func(int, error)) {
	for i := range entries {
		ack(i, nil)
	}
}

func (*nowhere) Append(context.Context, *sql.Tx, []outbox.Message) error { return nil }

func BenchmarkWithoutSDK_PublishBatch1000(b *testing.B) {
	for name, traceparent := range map[string]string{"rows without trace": "", "rows with trace": parent} {
		entries := make([]outbox.Entry, 1000)
		for i := range entries {
			entries[i] = entry("orders", traceparent)
		}
		for face, pub := range map[string]message.Publisher{"bare": &nowhere{}, "traced": telemetry.TracePublisher(&nowhere{}, nil)} {
			b.Run(name+"/"+face, func(b *testing.B) {
				b.ReportAllocs()
				batch := pub.(outbox.BatchPublisher)
				ack := func(int, error) {}
				for b.Loop() {
					batch.PublishBatch(b.Context(), entries, ack)
				}
			})
		}
	}
}

func BenchmarkWithoutSDK_Append(b *testing.B) {
	msgs := []outbox.Message{entry("orders", "").Message}
	for face, store := range map[string]outbox.Appender{"bare": &nowhere{}, "traced": telemetry.TraceAppender(&nowhere{}, nil)} {
		b.Run(face, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				require.NoError(b, store.Append(b.Context(), nil, msgs))
			}
		})
	}
}

func BenchmarkWithoutSDK_Process(b *testing.B) {
	handle := message.HandlerFunc(func(*message.Message) ([]*message.Message, error) { return nil, nil })
	for face, h := range map[string]message.HandlerFunc{"bare": handle, "traced": telemetry.TraceProcess(nil, telemetry.ProcessConfig{})(handle)} {
		b.Run(face, func(b *testing.B) {
			m := received(b.Context(), map[string]string{"traceparent": parent})
			b.ReportAllocs()
			for b.Loop() {
				_, err := h(m)
				require.NoError(b, err)
			}
		})
	}
}
