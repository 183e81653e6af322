package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	kafkaconsumer "github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/kafka"
)

// replayLetters fills a new dead-letter topic and measures how fast its letters
// go back.
func (b *consumeBench) replayLetters(ctx context.Context, round int) (err error) {
	source := fmt.Sprintf("bench.replay.%d", round)
	letters := kafkaconsumer.DeadLetterTopic(source)
	for _, topic := range []string{source, letters} {
		if err := b.set.CreateTopic(ctx, topic, partitions); err != nil {
			return err
		}
	}
	if err := b.fillLetters(ctx, source, letters); err != nil {
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
	res, err := kafkaconsumer.Replay(ctx, kafkaconsumer.ReplayConfig{Topic: letters, Reader: reader, Publisher: pub, Execute: true, Rate: -1})
	if err != nil {
		return err
	}
	took := time.Since(began)
	b.replay.add(res.Replayed, took, b.cfg.Letters)
	b.line.Say("round %d  %-26s %9.0f msg/s  (%d letters in %s)", round+1, nameReplay, float64(res.Replayed)/took.Seconds(), res.Replayed, took.Round(time.Millisecond))
	ends, err := b.broker.Ends(ctx, source)
	if err != nil {
		return err
	}
	b.replay.Checks.Lost += max(b.cfg.Letters-int(ends.Sum()), 0)
	b.replay.Checks.Duplicates += max(int(ends.Sum())-b.cfg.Letters, 0)
	return nil
}

// fillLetters writes letters as a consumer's dead-letter step does.
func (b *consumeBench) fillLetters(ctx context.Context, source, letters string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.set.Kafka...), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	if err != nil {
		return err
	}
	defer cl.Close()
	recs := make([]*kgo.Record, b.cfg.Letters)
	at := time.Now().UTC().Format(time.RFC3339Nano)
	for n := range recs {
		r := b.record(noPoison, n, at)
		r.Topic = letters
		for _, h := range [][2]string{
			{kafkaconsumer.HeaderOriginalTopic, source}, {kafkaconsumer.HeaderOriginalGroup, "bench"}, {kafkaconsumer.HeaderTargetGroup, "bench"},
			{kafkaconsumer.HeaderDisposition, string(kafkaconsumer.DispositionExhausted)}, {kafkaconsumer.HeaderAttempts, "4"},
			{kafkaconsumer.HeaderExceptionMessage, errPlanted.Error()}, {kafkaconsumer.HeaderFailedAt, at},
		} {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
		}
		recs[n] = r
	}
	return cl.ProduceSync(ctx, recs...).FirstErr()
}
