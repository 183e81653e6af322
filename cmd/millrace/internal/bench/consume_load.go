package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	kafkaconsumer "github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/outbox"
)

// poison is what is wrong with some messages of a topic.
type poison string

const (
	noPoison    poison = "clean"
	retryable   poison = "retryable"   // the effect fails each time, after it has written
	fatal       poison = "fatal"       // so it does, with an error that no retry can heal
	undecodable poison = "undecodable" // the payload is not JSON
)

var poisons = []poison{noPoison, retryable, fatal, undecodable}

func (p poison) topic() string { return "bench.consume." + string(p) }

// order is the payload of the messages.
type order struct {
	N    int    `json:"n"`
	Fail string `json:"fail,omitempty"` // a poison
	Pad  string `json:"pad"`
}

// fillTopic writes the messages of one topic as the relay would.
func (b *consumeBench) fillTopic(ctx context.Context, p poison) error {
	for _, topic := range []string{p.topic(), deadletter.Topic(p.topic()), poisonTopicOf(p)} {
		if err := b.set.CreateTopic(ctx, topic, partitions); err != nil {
			return err
		}
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.set.Kafka...), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), kgo.MaxBufferedRecords(50_000))
	if err != nil {
		return err
	}
	defer cl.Close()
	failed := make(chan error, 1)
	now := time.Now().UTC().Format(time.RFC3339Nano)
	for n := range b.cfg.Rows {
		cl.Produce(ctx, b.record(p, n, now), func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

func (b *consumeBench) record(p poison, n int, at string) *kgo.Record {
	key := fmt.Sprintf("key-%d", n%b.cfg.Keys)
	r := &kgo.Record{Topic: p.topic(), Key: []byte(key)}
	bad := ""
	if b.poisoned(n) {
		bad = fmt.Sprintf(`"fail":%q,`, p)
	}
	text := fmt.Sprintf(`{"n":%d,%s"pad":"`, n, bad)
	text += strings.Repeat("x", max(b.cfg.Payload-len(text)-2, 0)) + `"}`
	if p == undecodable && b.poisoned(n) {
		text = text[:len(text)-2]
	}
	r.Value = []byte(text)
	for _, h := range [][2]string{
		{outbox.HeaderEventID, uuid.NewString()}, {outbox.HeaderEventType, "bench.order"}, {outbox.HeaderAggregateType, "bench"},
		{outbox.HeaderAggregateID, key}, {outbox.HeaderAggregateVersion, fmt.Sprint(n/b.cfg.Keys + 1)}, {outbox.HeaderOccurredAt, at},
	} {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
	}
	return r
}

// poisoned spreads the poison over topic and keys, the same in every run.
func (b *consumeBench) poisoned(n int) bool {
	return rand.New(rand.NewPCG(uint64(n), 1)).IntN(b.cfg.Every) == 0
}

// poisonCount is how many messages of a topic with poison are.
func (b *consumeBench) poisonCount() (count int) {
	for n := range b.cfg.Rows {
		if b.poisoned(n) {
			count++
		}
	}
	return count
}

var errPlanted = errors.New("planted failure")

// failure is what the effect of a poisoned message ends with.
func (o order) failure() error {
	switch poison(o.Fail) {
	case retryable:
		return errPlanted
	case fatal:
		return kafkaconsumer.Fatal(errPlanted)
	}
	return nil
}
