package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/IBM/sarama"
)

// Lag is how far a group is behind in one partition.
type Lag struct {
	Group     string
	Topic     string
	Partition int32
	Committed int64 // the offset the group continues at; -1 if it has none
	Oldest    int64 // the oldest offset that is still there
	End       int64 // the offset of the next record
	Messages  int64 // not yet handled: End minus Committed, or minus Oldest if there is none
	Lost      int64 // records that expired before the group reached them
}

// Lag returns how far group is behind in each partition of topics, ordered by
// topic and partition. A topic that does not exist is an error.
func (a *Admin) Lag(ctx context.Context, group string, topics ...string) ([]Lag, error) {
	var lags []Lag
	err := a.link.do(ctx, func(client sarama.Client, admin sarama.ClusterAdmin) error {
		asked := make(map[string][]int32, len(topics))
		for _, topic := range topics {
			partitions, err := client.Partitions(topic)
			if err != nil {
				return fmt.Errorf("partitions of %s: %w", topic, err)
			}
			asked[topic] = slices.Sorted(slices.Values(partitions))
		}
		offsets, err := admin.ListConsumerGroupOffsets(group, asked)
		if errors.Is(err, sarama.ErrGroupIDNotFound) {
			offsets, err = &sarama.OffsetFetchResponse{}, nil // the group has never committed
		}
		if err != nil {
			return fmt.Errorf("offsets of group %s: %w", group, err)
		}
		for _, topic := range slices.Compact(slices.Sorted(slices.Values(topics))) {
			for _, partition := range asked[topic] {
				l, err := measure(client, Lag{Group: group, Topic: topic, Partition: partition}, offsets.GetBlock(topic, partition))
				if err != nil {
					return fmt.Errorf("lag of group %s in %s/%d: %w", group, topic, partition, err)
				}
				lags = append(lags, l)
			}
		}
		return nil
	})
	return lags, err
}

func measure(client sarama.Client, l Lag, block *sarama.OffsetFetchResponseBlock) (Lag, error) {
	l.Committed = -1
	if block != nil && block.Err != sarama.ErrGroupIDNotFound {
		if block.Err != sarama.ErrNoError {
			return l, block.Err
		}
		l.Committed = block.Offset
	}
	var errs [2]error
	l.Oldest, errs[0] = client.GetOffset(l.Topic, l.Partition, sarama.OffsetOldest)
	l.End, errs[1] = client.GetOffset(l.Topic, l.Partition, sarama.OffsetNewest)
	from := l.Committed
	if from < 0 {
		from = l.Oldest
	}
	l.Lost = max(0, l.Oldest-from)
	l.Messages = max(0, l.End-max(from, l.Oldest))
	return l, errors.Join(errs[:]...)
}
