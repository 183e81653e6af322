package kafka_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/harness"
)

// What fencing by Kafka would cost: a producer with a transactional id, which a
// successor with the same id shuts out, against the idempotent one that we use.
// docs/operations.md has figures.

// fenced is a transactional producer with the safe profile otherwise.
type fenced struct {
	producer sarama.AsyncProducer
	acked    chan int
}

func newFenced(b *testing.B) *fenced {
	b.Helper()
	brokers := harness.Brokers(b)
	sc, err := kafka.SaramaConfig(kafka.Config{Brokers: brokers})
	require.NoError(b, err)
	sc.Producer.Transaction.ID = harness.Group(b)
	producer, err := sarama.NewAsyncProducer(brokers, sc)
	require.NoError(b, err)
	f := &fenced{producer: producer, acked: make(chan int, 1)}
	go func() {
		for err := range producer.Errors() {
			b.Error(err)
		}
	}()
	go func() {
		for range producer.Successes() { // drained, as Sarama demands
		}
	}()
	b.Cleanup(func() { require.NoError(b, producer.Close()) })
	return f
}

// send sends entries as one transaction and returns when it is committed.
func (f *fenced) send(b *testing.B, entries []outbox.Entry) {
	require.NoError(b, f.producer.BeginTxn())
	for i := range entries {
		f.producer.Input() <- kafka.Entry(&entries[i])
	}
	require.NoError(b, f.producer.CommitTxn())
}

// BenchmarkFencing_Throughput reports messages a second, batches of 1,000: ours
// following each other without waiting, transactions one after the other, as one
// producer can have only one.
func BenchmarkFencing_Throughput(b *testing.B) {
	b.Run("idempotent", func(b *testing.B) {
		pub := newPublisher(b, harness.Brokers(b))
		entries := likely(harness.Topic(b, 4), 1000)
		var wg sync.WaitGroup
		ack := func(_ int, err error) {
			if err != nil {
				b.Error(err)
			}
			wg.Done()
		}
		send := func() {
			wg.Add(len(entries))
			pub.PublishBatch(b.Context(), entries, ack)
		}
		send()
		wg.Wait()
		for b.Loop() {
			send()
		}
		wg.Wait()
		b.ReportMetric(float64(b.N*len(entries))/b.Elapsed().Seconds(), "msg/s")
	})
	for _, size := range []int{1000, 10_000} {
		b.Run(fmt.Sprint("transactional-", size), func(b *testing.B) {
			f := newFenced(b)
			entries := likely(harness.Topic(b, 4), size)
			f.send(b, entries)
			for b.Loop() {
				f.send(b, entries)
			}
			b.ReportMetric(float64(b.N*len(entries))/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// BenchmarkFencing_Latency reports how long after it was handed over a message
// reaches a consumer that reads what is committed, at 1,000 messages a second: ours
// at once, transactions over what has come in since the one before.
func BenchmarkFencing_Latency(b *testing.B) {
	b.Run("idempotent", func(b *testing.B) {
		pub := newPublisher(b, harness.Brokers(b))
		paced(b, func(entries []outbox.Entry) {
			pub.PublishBatch(b.Context(), entries, func(_ int, err error) {
				if err != nil {
					b.Error(err)
				}
			})
		})
	})
	b.Run("transactional", func(b *testing.B) {
		f := newFenced(b)
		paced(b, func(entries []outbox.Entry) { f.send(b, entries) })
	})
}

// paced hands over a message each millisecond, together with what became due
// while send was at work, and reports the times to the reader.
func paced(b *testing.B, send func([]outbox.Entry)) {
	topic := harness.Topic(b, 4)
	took := make(chan time.Duration, 1024)
	ctx, cancel := context.WithTimeout(b.Context(), 2*time.Minute)
	defer cancel()
	const warm = 500 // unmeasured: connections, first transactions
	go read(ctx, harness.Brokers(b), topic, took)
	entries := likely(topic, b.N+warm)
	began := time.Now()
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for sent := 0; sent < len(entries); {
			<-tick.C
			due := min(int(time.Since(began)/time.Millisecond), len(entries))
			if due <= sent {
				continue
			}
			for i := sent; i < due; i++ {
				entries[i].CreatedAt = began.Add(time.Duration(i) * time.Millisecond)
			}
			send(entries[sent:due])
			sent = due
		}
	}()
	var all []time.Duration
	for range entries {
		select {
		case d := <-took:
			all = append(all, d)
		case <-ctx.Done():
			require.FailNow(b, "not all arrived", "%d of %d", len(all), len(entries))
		}
	}
	all = all[warm:]
	slices.Sort(all)
	ms := func(q float64) float64 { return float64(all[int(q*float64(len(all)-1))].Microseconds()) / 1000 }
	b.ReportMetric(ms(0.5), "p50-ms")
	b.ReportMetric(ms(0.99), "p99-ms")
	b.ReportMetric(0, "ns/op")
}

// read reports the age of each committed record of topic.
func read(ctx context.Context, brokers []string, topic string, took chan<- time.Duration) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMinBytes(1))
	if err != nil {
		return
	}
	defer client.Close()
	for ctx.Err() == nil {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			for _, h := range r.Headers {
				if h.Key == outbox.HeaderOccurredAt {
					at, _ := time.Parse(time.RFC3339Nano, string(h.Value))
					took <- time.Since(at)
				}
			}
		})
	}
}
