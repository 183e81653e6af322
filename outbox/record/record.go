package record

import (
	"context"
	"time"
)

// Header is one header of a Kafka record. Names may repeat and values may be
// binary, which a Watermill metadata map cannot express.
type Header struct {
	Key   string
	Value []byte
}

// DeadLetterSuffix follows a topic's name in the name of its dead-letter topic.
const DeadLetterSuffix = ".dlt"

// PartitionByKey as Record.Partition lets the partitioner choose.
const PartitionByKey int32 = -1

// Record is the exact wire form of a message, without its value.
//
// A subscriber attaches the record to the context of the message that was made
// from it. A publisher that finds a record there sends its key, headers and
// partition as they are, instead of making them from the message's metadata. That
// is how dead letters and replays keep every byte.
type Record struct {
	Topic     string
	Partition int32 // PartitionByKey when sending by key
	Offset    int64
	Timestamp time.Time
	Key       []byte // nil is a null key
	Headers   []Header
	Group     string // consumer group that received it; empty when sending
	// ClaimEpoch numbers the period for which the receiver has owned the partition
	// without interruption, among all such periods of its process. What was learned
	// about a partition in another period may be out of date. 0 if unknown.
	ClaimEpoch int64
}

type recordKey struct{}

// With returns a context that carries r.
func With(ctx context.Context, r *Record) context.Context {
	return context.WithValue(ctx, recordKey{}, r)
}

// From returns the record that ctx carries, if any. The record is shared: do not
// change it.
func From(ctx context.Context) (*Record, bool) {
	r, ok := ctx.Value(recordKey{}).(*Record)
	return r, ok
}
