package outbox

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"
)

// History reads the log back, also what was delivered long ago, for as long as
// the retention keeps it. pgstore.History is one. Sequences are read in pages,
// and end with the first error, which comes with a zero Entry.
type History interface {
	// Range yields the entries of these positions, in the order of positions.
	// Entries of one key are in commit order.
	Range(ctx context.Context, r Range) iter.Seq2[Entry, error]
	// ByKey yields the entries of one topic and key.
	ByKey(ctx context.Context, topic, key string, r Range) iter.Seq2[Entry, error]
	// ByAggregate yields the entries of one aggregate with at least that version,
	// in commit order. With version 0 those without a version are among them.
	ByAggregate(ctx context.Context, aggregateType, aggregateID string, fromVersion int64) iter.Seq2[Entry, error]
	// Between returns the least range that holds every entry created from since
	// (included) until until (excluded). A zero time is open. The range may hold
	// others, too.
	Between(ctx context.Context, since, until time.Time) (Range, error)
	// Stable returns a position at or below which nothing can appear any more: a
	// rebuild that reads up to it misses nothing, and a relay, or a second
	// rebuild, can go on behind it.
	Stable(ctx context.Context) (int64, error)
}

// Selection says which entries of the log to read back. Its conditions are
// joined by and; the zero value selects everything.
type Selection struct {
	// From and To are positions, both included. 0 is open.
	From, To int64
	// Since (included) and Until (excluded) are times of creation by the
	// database's clock. The zero time is open.
	Since, Until time.Time
	// AggregateType and AggregateID select one aggregate. Both or none.
	AggregateType, AggregateID string
	// Topic selects one topic; with Key, one key of it.
	Topic, Key string
}

func (s *Selection) validate() error {
	var errs []error
	need := func(ok bool, problem string) {
		if !ok {
			errs = append(errs, errors.New(problem))
		}
	}
	need(s.From >= 0, "From: is negative")
	need(s.To >= 0, "To: is negative")
	need(s.To == 0 || s.From <= s.To, "To: is before From")
	need(s.Until.IsZero() || s.Since.Before(s.Until), "Until: is not after Since")
	need((s.AggregateType == "") == (s.AggregateID == ""), "AggregateType and AggregateID: give both or none")
	need(s.Key == "" || s.Topic != "", "Key: needs a Topic")
	need(s.AggregateType == "" || s.Key == "", "AggregateType and Key: give one of them")
	return errors.Join(errs...)
}

// bounds narrows the positions of s to stop and to its times.
func (s *Selection) bounds(ctx context.Context, h History, stop int64) (Range, error) {
	r := Range{Lo: max(s.From, 1), Hi: stop}
	if s.To > 0 {
		r.Hi = min(r.Hi, s.To)
	}
	if s.Since.IsZero() && s.Until.IsZero() {
		return r, nil
	}
	times, err := h.Between(ctx, s.Since, s.Until)
	if err != nil {
		return r, fmt.Errorf("find the positions of that time: %w", err)
	}
	return Range{Lo: max(r.Lo, times.Lo), Hi: min(r.Hi, times.Hi)}, nil
}

// read yields the selected entries of r.
func (s *Selection) read(ctx context.Context, h History, r Range) iter.Seq2[Entry, error] {
	var all iter.Seq2[Entry, error]
	switch {
	case s.AggregateType != "":
		all = h.ByAggregate(ctx, s.AggregateType, s.AggregateID, 0)
	case s.Key != "":
		all = h.ByKey(ctx, s.Topic, s.Key, r)
	default:
		all = h.Range(ctx, r)
	}
	return func(yield func(Entry, error) bool) {
		for e, err := range all {
			if err == nil && e.Position > r.Hi { // only an aggregate's go on
				return
			}
			if (err != nil || e.Position >= r.Lo && s.matches(&e)) && !yield(e, err) {
				return
			}
		}
	}
}

func (s *Selection) matches(e *Entry) bool {
	return (s.Topic == "" || e.Topic == s.Topic) &&
		(s.Since.IsZero() || !e.CreatedAt.Before(s.Since)) && (s.Until.IsZero() || e.CreatedAt.Before(s.Until))
}
