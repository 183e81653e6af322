package replay

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/internal/problems"
)

// Selection says which entries of the log to read. An entry must meet all its
// conditions; the zero value selects everything.
type Selection struct {
	// From and To are positions, both included. 0 sets no bound.
	From, To int64
	// Since (included) and Until (excluded) are times of creation by the database's
	// clock. The zero time sets no bound.
	Since, Until time.Time
	// AggregateType and AggregateID select one aggregate. Both or none.
	AggregateType, AggregateID string
	// Topic selects one topic; with Key, one key of it.
	Topic, Key string
}

func (s *Selection) validate() error {
	var p problems.List
	problems.AtLeast(&p, "Select.From", s.From, 0)
	problems.AtLeast(&p, "Select.To", s.To, 0)
	p.Unless(s.To == 0 || s.From <= s.To, "Select.To", "must be at least From (%d), is %d", s.From, s.To)
	p.Unless(s.Until.IsZero() || s.Since.Before(s.Until), "Select.Until", "must be after Since (%s), is %s", s.Since, s.Until)
	p.Unless((s.AggregateType == "") == (s.AggregateID == ""), "Select.AggregateType", "must be given with AggregateID, or neither of them")
	p.Unless(s.Key == "" || s.Topic != "", "Select.Key", "must be given with Topic")
	p.Unless(s.AggregateType == "" || s.Key == "", "Select.Key", "must not be given with AggregateType")
	return p.Err()
}

// bounds narrows the positions of s to stop and to its times.
func (s *Selection) bounds(ctx context.Context, h outbox.History, stop int64) (outbox.Range, error) {
	r := outbox.Range{Lo: max(s.From, 1), Hi: stop}
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
	return outbox.Range{Lo: max(r.Lo, times.Lo), Hi: min(r.Hi, times.Hi)}, nil
}

// read yields the selected entries of r.
func (s *Selection) read(ctx context.Context, h outbox.History, r outbox.Range) iter.Seq2[outbox.Entry, error] {
	var all iter.Seq2[outbox.Entry, error]
	switch {
	case s.AggregateType != "":
		all = h.ByAggregate(ctx, s.AggregateType, s.AggregateID, 0)
	case s.Key != "":
		all = h.ByKey(ctx, s.Topic, s.Key, r)
	default:
		all = h.Range(ctx, r)
	}
	return func(yield func(outbox.Entry, error) bool) {
		for e, err := range all {
			if err == nil && e.Position > r.Hi { // ByAggregate does not stop at r.Hi
				return
			}
			if (err != nil || e.Position >= r.Lo && s.matches(&e)) && !yield(e, err) {
				return
			}
		}
	}
}

func (s *Selection) matches(e *outbox.Entry) bool {
	return (s.Topic == "" || e.Topic == s.Topic) &&
		(s.Since.IsZero() || !e.CreatedAt.Before(s.Since)) && (s.Until.IsZero() || e.CreatedAt.Before(s.Until))
}
