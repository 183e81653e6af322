package check

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Offsets holds one offset per partition of a topic.
type Offsets map[int32]int64

// Sum adds the offsets up.
func (o Offsets) Sum() int64 {
	var n int64
	for _, at := range o {
		n += at
	}
	return n
}

// Broker looks at one Kafka cluster. Close it after use.
type Broker struct {
	seeds []string
	cl    *kgo.Client
	adm   *kadm.Client
}

// NewBroker prepares a look at the cluster behind seeds; it does not dial yet.
func NewBroker(seeds []string) (*Broker, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(seeds...))
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	return &Broker{seeds: seeds, cl: cl, adm: kadm.NewClient(cl)}, nil
}

// Close drops the connections.
func (b *Broker) Close() { b.cl.Close() }

// Ends returns the offset after the last record of each partition of topic.
func (b *Broker) Ends(ctx context.Context, topic string) (Offsets, error) {
	listed, err := b.adm.ListEndOffsets(ctx, topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("end offsets of %s: %w", topic, err)
	}
	ends := Offsets{}
	listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
	return ends, nil
}

// Read calls fn for each record of topic between the two offsets of every
// partition, in offset order within a partition.
func (b *Broker) Read(ctx context.Context, topic string, from, to Offsets, fn func(Record)) error {
	left := 0
	start := map[int32]kgo.Offset{}
	for p, end := range to {
		if from[p] < end {
			start[p] = kgo.NewOffset().At(from[p])
			left++
		}
	}
	if left == 0 {
		return nil
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.seeds...), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: start}))
	if err != nil {
		return fmt.Errorf("kafka reader: %w", err)
	}
	defer cl.Close()
	for left > 0 {
		fetches := cl.PollFetches(ctx)
		if err := errors.Join(ctx.Err(), fetches.Err0()); err != nil {
			return fmt.Errorf("read %s: %w", topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			end := to[r.Partition]
			if r.Offset < end && !r.Attrs.IsControl() {
				fn(decode(r))
			}
			if r.Offset == end-1 {
				left--
			}
		})
	}
	return nil
}

// Follow calls fn for each record of the topics from the given offsets on, until
// ctx ends; then it returns nil.
func (b *Broker) Follow(ctx context.Context, from map[string]Offsets, fn func(Record)) error {
	start := map[string]map[int32]kgo.Offset{}
	for topic, offsets := range from {
		start[topic] = map[int32]kgo.Offset{}
		for p, at := range offsets {
			start[topic][p] = kgo.NewOffset().At(at)
		}
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.seeds...), kgo.ConsumePartitions(start))
	if err != nil {
		return fmt.Errorf("kafka reader: %w", err)
	}
	defer cl.Close()
	for ctx.Err() == nil {
		fetches := cl.PollFetches(ctx)
		fetches.EachRecord(func(r *kgo.Record) { fn(decode(r)) })
		if ctx.Err() == nil && fetches.Err0() != nil {
			return fmt.Errorf("follow: %w", fetches.Err0())
		}
	}
	return nil
}

// GroupLag is how many records of topic the group has not committed. A group
// that has committed nothing yet lags by all of them.
func (b *Broker) GroupLag(ctx context.Context, group, topic string) (int64, error) {
	ends, err := b.Ends(ctx, topic)
	if err != nil {
		return 0, err
	}
	fetched, err := b.adm.FetchOffsets(ctx, group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return 0, fmt.Errorf("offsets of group %s: %w", group, err)
	}
	lag := ends.Sum()
	for p := range ends {
		if o, ok := fetched.Lookup(topic, p); ok && o.At > 0 {
			lag -= o.At
		}
	}
	return max(lag, 0), nil
}
