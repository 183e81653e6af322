package consumer_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter/audit"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/test/harness"
)

// BenchmarkReplay replays 20,000 dead count of 3 KiB, most of it the headers
// that tell of the failure, without a limit of the rate.
func BenchmarkReplay(b *testing.B) {
	for _, audited := range []bool{false, true} {
		b.Run(fmt.Sprintf("audited=%t", audited), func(b *testing.B) {
			const count, partitions = 20_000, 3
			topic, config := harness.Topic(b, partitions), kafka.Config{Brokers: harness.Brokers(b)}
			require.NoError(b, harness.CreateTopic(b.Context(), config.Brokers, topic+".dlt", partitions))
			fillDeadLetters(b, config.Brokers, topic, count, partitions)
			pub, err := kafka.NewPublisher(config)
			require.NoError(b, err)
			defer pub.Close()
			reader, err := kafka.NewDeadLetters(config)
			require.NoError(b, err)
			defer reader.Close()
			cfg := deadletter.Config{Rate: -1}
			if audited {
				cfg.AuditLog, err = audit.New(harness.NewDatabase(b).DB)
				require.NoError(b, err)
				cfg.Actor = "bench"
			}
			require.NoError(b, pub.Connect(b.Context()))
			b.ResetTimer()
			for i := range b.N {
				cfg.ProgressGroup = fmt.Sprintf("%s-%d-%d", topic, b.N, i) // each starts at the beginning
				if audited {
					cfg.AuditLog, _ = audit.New(harness.NewDatabase(b).DB)
				}
				res, err := deadletter.Replay(b.Context(), topic+".dlt", reader, pub, cfg)
				require.NoError(b, err)
				require.Equal(b, count, res.Replayed)
			}
			b.ReportMetric(float64(count*b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

func fillDeadLetters(b *testing.B, brokers []string, topic string, n, partitions int) {
	c, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(b, err)
	defer c.Close()
	stack := make([]byte, 2000)
	for i := range stack {
		stack[i] = byte('a' + i*i%26)
	}
	var recs []*kgo.Record
	for i := range n {
		p := i % partitions
		h := func(k, v string) kgo.RecordHeader { return kgo.RecordHeader{Key: k, Value: []byte(v)} }
		recs = append(recs, &kgo.Record{
			Topic: topic + ".dlt", Partition: int32(p), Key: fmt.Appendf(nil, "key-%d", i%997), Value: make([]byte, 512),
			Headers: []kgo.RecordHeader{
				h("event-id", fmt.Sprintf("0198f6f0-0000-7000-8000-%012d", i)), h("event-type", "thing.happened"),
				h("kafka_dlt-original-topic", topic), h("kafka_dlt-original-partition", string([]byte{0, 0, 0, byte(p)})),
				h("kafka_dlt-original-offset", string([]byte{0, 0, 0, 0, 0, 0, byte(i >> 8), byte(i)})),
				h("dlt-failed-record", fmt.Sprintf("%s/%d/%d", topic, p, i)), h("dlt-target-group", "views"), h("dlt-replay-count", "0"),
				h("dlt-attempts", "4"), h("kafka_dlt-exception-message", "cannot be digested"), h("kafka_dlt-exception-stacktrace", string(stack)),
			},
		})
	}
	require.NoError(b, c.ProduceSync(b.Context(), recs...).FirstErr())
}
