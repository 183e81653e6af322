package harness

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Header is one header of a record.
type Header struct {
	Key   string
	Value []byte
}

// Record is a Kafka record as it is in the log.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Timestamp time.Time
	Key       []byte // nil is a null key
	Value     []byte // nil is a null value
	Headers   []Header
}

// Header returns the last value of that name as text, empty if there is none.
func (r Record) Header(name string) string {
	for _, h := range slices.Backward(r.Headers) {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// ReadTopic returns every committed record that the topic held when it was
// called, ordered by partition and offset. It reads with another Kafka client
// than Millrace's, and joins no group.
func ReadTopic(t testing.TB, brokers []string, topic string) []Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all []Record
	err := scanTopic(ctx, brokers, topic, func(r Record) error {
		all = append(all, r)
		return nil
	})
	if err != nil {
		t.Fatal("harness:", err)
	}
	slices.SortFunc(all, func(a, b Record) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	return all
}

// scanTopic calls each with every committed record that the topic held when it
// was called, in the order of each partition, and ends with each's first error.
func scanTopic(ctx context.Context, brokers []string, topic string, each func(Record) error) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords()) // they may be the last of their partition
	if err != nil {
		return fmt.Errorf("read topic %s: %w", topic, err)
	}
	defer c.Close()
	left, err := committedRange(ctx, kadm.NewClient(c), topic)
	if err != nil {
		return fmt.Errorf("read topic %s: %w", topic, err)
	}
	from := map[int32]kgo.Offset{}
	for p := range left {
		from[p] = kgo.NewOffset().AtStart()
	}
	c.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: from})
	for len(left) > 0 {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read topic %s: %w", topic, err)
		}
		for records := fetches.RecordIter(); !records.Done(); {
			if err := visit(records.Next(), left, each); err != nil {
				return err
			}
		}
	}
	return nil
}

// committedRange is the offset after the last committed record of each partition
// that is not empty.
func committedRange(ctx context.Context, adm *kadm.Client, topic string) (map[int32]int64, error) {
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	ends, err := adm.ListCommittedOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	left := map[int32]int64{}
	for p, end := range ends[topic] {
		start := starts[topic][p]
		if err := cmp.Or(start.Err, end.Err); err != nil {
			return nil, fmt.Errorf("partition %d: %w", p, err)
		}
		if end.Offset > start.Offset {
			left[p] = end.Offset
		}
	}
	return left, nil
}

// visit hands r over if it is within its partition's range, and closes the range
// with its last record.
func visit(r *kgo.Record, left map[int32]int64, each func(Record) error) error {
	end, open := left[r.Partition]
	if !open || r.Offset >= end {
		delete(left, r.Partition)
		return nil
	}
	if r.Offset == end-1 {
		delete(left, r.Partition)
	}
	if r.Attrs.IsControl() {
		return nil
	}
	headers := make([]Header, len(r.Headers))
	for i, h := range r.Headers {
		headers[i] = Header{Key: h.Key, Value: h.Value}
	}
	return each(Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp,
		Key: r.Key, Value: r.Value, Headers: headers})
}
