package outbox

import (
	"context"
	"iter"
	"time"
)

// History reads entries of the log again, however long ago they were delivered, as
// long as the retention keeps them. pgstore.History is one. Sequences are read in
// pages, and end with the first error, which comes with a zero Entry.
type History interface {
	// Range yields the entries of these positions, in the order of positions.
	// Entries of one key are in commit order.
	Range(ctx context.Context, r Range) iter.Seq2[Entry, error]
	// ByKey yields the entries of one topic and key.
	ByKey(ctx context.Context, topic, key string, r Range) iter.Seq2[Entry, error]
	// ByAggregate yields the entries of one aggregate with at least that version,
	// in commit order. Version 0 includes those without a version.
	ByAggregate(ctx context.Context, aggregateType, aggregateID string, fromVersion int64) iter.Seq2[Entry, error]
	// Between returns a range that holds every entry created at or after since and
	// before until. A zero time sets no bound. The range may hold other entries too.
	Between(ctx context.Context, since, until time.Time) (Range, error)
	// Stable returns a position at or below which no further entry can appear. A
	// rebuild that reads up to it misses nothing; a relay, or a second rebuild, can
	// continue after it.
	Stable(ctx context.Context) (int64, error)
}
