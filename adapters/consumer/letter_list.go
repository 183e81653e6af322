package consumer

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/millrace-go/millrace/outbox/record"
)

// List calls fn for every letter that cfg.Filter chooses, by partition and
// offset, up to the end the topic had when List began. Filter.States chooses by
// what became of them; the default is all.
func List(ctx context.Context, cfg ReplayConfig, fn func(Letter) error) error {
	if err := cfg.validate(""); err != nil {
		return err
	}
	cfg.setDefaults()
	scans, err := plan(ctx, &cfg)
	if err != nil {
		return fmt.Errorf("list %s: %w", cfg.Topic, err)
	}
	for _, s := range scans {
		known := &ledger{book: cfg.Book, topic: cfg.Topic, partition: s.partition, done: s.progress}
		from := max(s.first, cfg.Filter.FromOffset)
		if slices.Equal(cfg.Filter.States, []State{StateOpen}) {
			from = max(from, s.from)
		}
		err := cfg.Reader.Read(ctx, cfg.Topic, s.partition, from, s.end, func(rec *record.Record, value []byte) error {
			l, _ := ReadLetter(rec, value)
			if err := known.state(ctx, &l); err != nil {
				return err
			}
			if !cfg.Filter.Match(&l) {
				return nil
			}
			return fn(l)
		})
		if err != nil {
			return fmt.Errorf("list %s: %w", cfg.Topic, err)
		}
	}
	return nil
}

// Stats sums up the letters of a topic.
type Stats struct {
	Letters int           // all that the filter chose
	States  map[State]int // of them

	// Of the open ones.
	Partitions   map[int32]int
	Groups       map[string]int
	Dispositions map[Disposition]int
	Errors       map[string]int // by error type
	Keys         int            // different ones
	Oldest       time.Time      // failure, zero if none is open
	Newest       time.Time
}

// Summarize counts the letters that cfg.Filter chooses.
func Summarize(ctx context.Context, cfg ReplayConfig) (Stats, error) {
	st := Stats{
		States: map[State]int{}, Partitions: map[int32]int{}, Groups: map[string]int{},
		Dispositions: map[Disposition]int{}, Errors: map[string]int{},
	}
	keys := map[string]struct{}{}
	err := List(ctx, cfg, func(l Letter) error {
		st.Letters++
		st.States[l.State]++
		if l.State != StateOpen {
			return nil
		}
		st.Partitions[l.Record.Partition]++
		st.Groups[l.Group]++
		st.Dispositions[l.Disposition]++
		st.Errors[l.ErrorType]++
		keys[string(l.Record.Key)] = struct{}{}
		if st.Oldest.IsZero() || l.FailedAt.Before(st.Oldest) {
			st.Oldest = l.FailedAt
		}
		if l.FailedAt.After(st.Newest) {
			st.Newest = l.FailedAt
		}
		return nil
	})
	st.Keys = len(keys)
	return st, err
}
