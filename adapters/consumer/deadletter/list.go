package deadletter

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/millrace-go/millrace/outbox/record"
)

// List calls fn forevery dead letter of topic that cfg.Filter chooses, by
// partition and offset, up to the end that the topic had when List began.
// Without Filter.States it lists dead letters of all states.
func List(ctx context.Context, topic string, reader Reader, cfg Config, fn func(Message) error) error {
	if err := cfg.validate(topic, reader); err != nil {
		return fmt.Errorf("deadletter: %w", err)
	}
	cfg = cfg.withDefaults(topic)
	scans, err := plan(ctx, topic, reader, &cfg)
	if err != nil {
		return fmt.Errorf("list %s: %w", topic, err)
	}
	for _, s := range scans {
		states := &stateReader{log: cfg.AuditLog, topic: topic, partition: s.partition, resolved: s.progress}
		from := max(s.first, cfg.Filter.FromOffset)
		if slices.Equal(cfg.Filter.States, []State{StateOpen}) {
			from = max(from, s.from)
		}
		err := reader.Read(ctx, topic, s.partition, from, s.end, func(rec *record.Record, value []byte) error {
			m, _ := Parse(rec, value)
			if err := states.read(ctx, &m); err != nil {
				return err
			}
			if !cfg.Filter.matches(&m) {
				return nil
			}
			return fn(m)
		})
		if err != nil {
			return fmt.Errorf("list %s: %w", topic, err)
		}
	}
	return nil
}

// Stats counts the dead letters of a topic.
type Stats struct {
	Total  int // all that the filter chose
	States map[State]int

	// Of the open ones.
	Partitions   map[int32]int
	Groups       map[string]int
	Dispositions map[Disposition]int
	Errors       map[string]int // by error type
	Keys         int            // different ones
	Oldest       time.Time      // failure, zero if none is open
	Newest       time.Time
}

// Summarize counts the dead letters of topic that cfg.Filter chooses.
func Summarize(ctx context.Context, topic string, reader Reader, cfg Config) (Stats, error) {
	st := Stats{
		States: map[State]int{}, Partitions: map[int32]int{}, Groups: map[string]int{},
		Dispositions: map[Disposition]int{}, Errors: map[string]int{},
	}
	keys := map[string]struct{}{}
	err := List(ctx, topic, reader, cfg, func(m Message) error {
		st.Total++
		st.States[m.State]++
		if m.State != StateOpen {
			return nil
		}
		st.Partitions[m.Record.Partition]++
		st.Groups[m.Group]++
		st.Dispositions[m.Disposition]++
		st.Errors[m.ErrorType]++
		keys[string(m.Record.Key)] = struct{}{}
		if st.Oldest.IsZero() || m.FailedAt.Before(st.Oldest) {
			st.Oldest = m.FailedAt
		}
		if m.FailedAt.After(st.Newest) {
			st.Newest = m.FailedAt
		}
		return nil
	})
	st.Keys = len(keys)
	return st, err
}
