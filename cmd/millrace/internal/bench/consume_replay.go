package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/kafka"
)

// replayDeadLetters fills a new dead-letter topic and measures how fast it is
// replayed.
func (b *consumeBench) replayDeadLetters(ctx context.Context, round int) (err error) {
	source := fmt.Sprintf("bench.replay.%d", round)
	dead := deadletter.Topic(source)
	for _, topic := range []string{source, dead} {
		if err := b.set.CreateTopic(ctx, topic, partitions); err != nil {
			return err
		}
	}
	if err := b.fillDeadLetters(ctx, source, dead); err != nil {
		return err
	}
	conf := kafka.Config{Brokers: b.set.Kafka, ClientID: "bench"}
	reader, err := kafka.NewDeadLetters(conf)
	if err != nil {
		return err
	}
	defer func() { reader.Close() }()
	pub, err := kafka.NewPublisher(conf)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pub.Close()) }()
	began := time.Now()
	res, err := deadletter.Replay(ctx, dead, reader, pub, deadletter.Config{Rate: -1})
	if err != nil {
		return err
	}
	took := time.Since(began)
	b.replay.add(res.Replayed, took, b.cfg.DeadLetters)
	b.line.Say("round %d  %-26s %9.0f msg/s  (%d dead letters in %s)", round+1, nameReplay, float64(res.Replayed)/took.Seconds(), res.Replayed, took.Round(time.Millisecond))
	ends, err := b.broker.Ends(ctx, source)
	if err != nil {
		return err
	}
	b.replay.Checks.Lost += max(b.cfg.DeadLetters-int(ends.Sum()), 0)
	b.replay.Checks.Duplicates += max(int(ends.Sum())-b.cfg.DeadLetters, 0)
	return nil
}

// fillDeadLetters writes dead letters as a consumer does.
func (b *consumeBench) fillDeadLetters(ctx context.Context, source, dead string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.set.Kafka...), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	if err != nil {
		return err
	}
	defer cl.Close()
	recs := make([]*kgo.Record, b.cfg.DeadLetters)
	at := time.Now().UTC().Format(time.RFC3339Nano)
	for n := range recs {
		r := b.record(noPoison, n, at)
		r.Topic = dead
		for _, h := range [][2]string{
			{deadletter.HeaderOriginalTopic, source}, {deadletter.HeaderOriginalGroup, "bench"}, {deadletter.HeaderTargetGroup, "bench"},
			{deadletter.HeaderDisposition, string(deadletter.DispositionExhausted)}, {deadletter.HeaderAttempts, "4"},
			{deadletter.HeaderExceptionMessage, errPlanted.Error()}, {deadletter.HeaderFailedAt, at},
		} {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
		}
		recs[n] = r
	}
	return cl.ProduceSync(ctx, recs...).FirstErr()
}
