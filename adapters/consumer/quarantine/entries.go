package quarantine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/internal/problems"
)

// Entry is one record of a quarantined key.
type Entry struct {
	Group      string    `json:"group"`
	Topic      string    `json:"topic"` // the source, not the dead letters
	Partition  int32     `json:"partition"`
	Offset     int64     `json:"offset"`
	Key        []byte    `json:"key"`
	EventID    string    `json:"event_id"` // empty if the record has none
	Failures   int       `json:"failures"` // deliveries that were given up; 0: it only waits
	Since      time.Time `json:"since"`
	State      string    `json:"state"`       // StateWaiting, StateDone or StateReleased
	ResolvedAt time.Time `json:"resolved_at"` // the epoch while it waits
	First      bool      `json:"first"`       // the one of its key that may be handled next
}

// The states of an entry.
const (
	StateWaiting  = "waiting"
	StateDone     = "done"     // handled after all
	StateReleased = "released" // given up by a person
)

// Filter selects entries. The zero value selects all that wait.
type Filter struct {
	Group, Topic string  // empty: any
	Partitions   []int32 // empty: any
	Offsets      []int64 // empty: any
	Key          []byte  // nil: any
	Resolved     bool    // also those that no longer wait
	Limit        int     // at most so many entries; 0 means 1,000
}

// List returns entries by group, topic, partition and offset. It reads the database,
// so any process may call it.
func (q *Quarantine) List(ctx context.Context, f Filter) ([]Entry, error) {
	if f.Limit <= 0 {
		f.Limit = 1000
	}
	rows, err := q.db.QueryContext(ctx, listSQL, f.Group, f.Topic, pq.Array(f.Partitions), f.Key, f.Resolved, f.Limit, pq.Array(f.Offsets))
	if err != nil {
		return nil, fmt.Errorf("list quarantine: %w", err)
	}
	defer rows.Close()
	var all []Entry
	for rows.Next() {
		var e Entry
		if err := rows.Scan(&e.Group, &e.Topic, &e.Partition, &e.Offset, &e.Key, &e.EventID, &e.Failures, &e.Since, &e.State,
			&e.ResolvedAt, &e.First); err != nil {
			return nil, fmt.Errorf("list quarantine: %w", err)
		}
		all = append(all, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list quarantine: %w", err)
	}
	return all, nil
}

// Release gives up the entries of f that wait, and returns how many there were: one
// record, by partition and offset, or all of a key. What waits behind them may then be
// handled: a replay brings it. A copy of a released record is acknowledged without
// being handled. f must name the group and the topic; its Resolved and Limit have no
// effect. Any process may call it: consumers learn of it with the next record of the
// key.
func (q *Quarantine) Release(ctx context.Context, f Filter) (released int64, err error) {
	var l problems.List
	l.Unless(f.Group != "", "Group", "must be set, is %q", f.Group)
	l.Unless(f.Topic != "", "Topic", "must be set, is %q", f.Topic)
	if err := l.Err(); err != nil {
		return 0, fmt.Errorf("release from quarantine: %w", err)
	}
	err = inTx(ctx, q.db, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, releaseSQL, f.Group, f.Topic, pq.Array(f.Partitions), pq.Array(f.Offsets), f.Key)
		if err != nil {
			return fmt.Errorf("release from quarantine: %w", err)
		}
		released, err = res.RowsAffected()
		return err
	})
	return released, err
}

// Resolve implements deadletter.Quarantine: it releases what nobody will replay. In a
// database without the tables of the quarantine nothing waits.
func (q *Quarantine) Resolve(ctx context.Context, resolved []deadletter.Message) error {
	type source struct{ group, topic string }
	type places struct {
		partitions []int32
		offsets    []int64
	}
	bySource := map[source]*places{}
	for i := range resolved {
		m := &resolved[i]
		if m.OriginalPartition < 0 || m.OriginalOffset < 0 {
			continue
		}
		from := source{m.Group, m.OriginalTopic}
		if bySource[from] == nil {
			bySource[from] = &places{}
		}
		at := bySource[from]
		at.partitions, at.offsets = append(at.partitions, m.OriginalPartition), append(at.offsets, m.OriginalOffset)
	}
	err := inTx(ctx, q.db, func(tx *sql.Tx) error {
		for from, at := range bySource {
			if _, err := tx.ExecContext(ctx, resolveSQL, from.group, from.topic, pq.Array(at.partitions), pq.Array(at.offsets)); err != nil {
				return fmt.Errorf("release from quarantine: %w", err)
			}
		}
		return nil
	})
	if pq.As(err, pqerror.UndefinedTable) != nil {
		return nil
	}
	return err
}

// inTx runs f in a transaction. Writes outside of one may run twice in lib/pq.
func inTx(ctx context.Context, db *sql.DB, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}
