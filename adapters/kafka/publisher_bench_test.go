package kafka_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/harness"
)

// likely makes entries that look like those of a service: JSON of about 300
// bytes that compresses as such do.
func likely(topic string, n int) []outbox.Entry {
	entries := make([]outbox.Entry, n)
	for i := range entries {
		key := fmt.Sprintf("recipient-%d", rand.IntN(1000))
		entries[i] = outbox.Entry{Position: int64(i), CreatedAt: time.Now(), Message: outbox.Message{
			ID: uuid.New(), Topic: topic, Key: key, Type: "notification.requested", AggregateType: "notification",
			AggregateID: uuid.NewString(), AggregateVersion: 1, Headers: map[string]string{outbox.HeaderSchemaVersion: "1"},
			Payload: fmt.Appendf(nil, `{"notification_id":"%s","recipient":"%s","channel":"email","subject":"Your order %d has shipped","body":"Dear customer, your parcel %x is on its way and will be with you within two days.","requested_at":"%s"}`,
				uuid.New(), key, rand.Int32(), rand.Uint64(), time.Now().Format(time.RFC3339Nano)),
		}}
	}
	return entries
}

// BenchmarkPublisher_PublishBatch reports messages a second, batches of 1,000
// following each other without waiting, by compression.
func BenchmarkPublisher_PublishBatch(b *testing.B) {
	for _, codec := range []string{"none", "lz4", "zstd", "snappy"} {
		b.Run(codec, func(b *testing.B) {
			pub := newPublisher(b, harness.Brokers(b), func(c *kafka.Config) { c.Compression = codec })
			entries := likely(harness.Topic(b, 4), 1000)
			var wg sync.WaitGroup
			ack := func(_ int, err error) {
				if err != nil {
					b.Error(err)
				}
				wg.Done()
			}
			wg.Add(len(entries))
			pub.PublishBatch(b.Context(), entries, ack) // connect
			wg.Wait()
			b.ReportAllocs()
			for b.Loop() {
				wg.Add(len(entries))
				pub.PublishBatch(b.Context(), entries, ack)
			}
			wg.Wait()
			b.ReportMetric(float64(b.N*len(entries))/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// BenchmarkSyncProducer sends the same messages one by one, as stock publishers do.
func BenchmarkSyncProducer(b *testing.B) {
	brokers := harness.Brokers(b)
	sc, err := kafka.SaramaConfig(kafka.Config{Brokers: brokers})
	require.NoError(b, err)
	producer, err := sarama.NewSyncProducer(brokers, sc)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, producer.Close()) })
	entries := likely(harness.Topic(b, 4), 1000)
	i := 0
	for b.Loop() {
		_, _, err := producer.SendMessage(kafka.Entry(&entries[i%1000]))
		require.NoError(b, err)
		i++
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}
