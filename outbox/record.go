package outbox

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

// PartitionByKey as Record.Partition lets the partitioner choose.
const PartitionByKey int32 = -1

// Record is the exact wire form of a message beside its value.
//
// A subscriber attaches the record a message came from to the message's context;
// a publisher that finds one there sends key, headers and partition as they
// stand, instead of making them from the message's metadata. That is how dead
// letters and replays keep every byte.
type Record struct {
	Topic     string
	Partition int32 // PartitionByKey when sending by key
	Offset    int64
	Timestamp time.Time
	Key       []byte // nil is a null key
	Headers   []Header
	Group     string // consumer group that received it; empty when sending
	// Claim numbers the stretch of time for which the receiver has owned the
	// partition without a break, among those of its process. What was learned of
	// a partition under another claim may be out of date. 0 if it is not told.
	Claim int64
}

type recordKey struct{}

// WithRecord returns a context that carries r.
func WithRecord(ctx context.Context, r *Record) context.Context {
	return context.WithValue(ctx, recordKey{}, r)
}

// RecordFrom returns the record that ctx carries, if any. The record is shared:
// do not change it.
func RecordFrom(ctx context.Context) (*Record, bool) {
	r, ok := ctx.Value(recordKey{}).(*Record)
	return r, ok
}
