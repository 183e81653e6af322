package quarantine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
)

// Store lists the quarantine and releases records from it. It serves any process
// that reaches the database; consumers learn of a decision with the next record of
// the key.
type Store struct{ db *sql.DB }

var _ deadletter.Quarantine = (*Store)(nil)

// NewStore returns a store on a database with the migrations of sql.Outbox.
func NewStore(db *sql.DB) (*Store, error) {
	if db == nil {
		return nil, errors.New("quarantine: db: must not be nil")
	}
	return &Store{db: db}, nil
}

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
	State      State     `json:"state"`
	ResolvedAt time.Time `json:"resolved_at"` // the epoch while it waits
	First      bool      `json:"first"`       // the one of its key that may be handled next
}

// State is what became of an entry.
type State string

// The states.
const (
	Waiting  State = "waiting"
	Done     State = "done"     // handled after all
	Released State = "released" // given up by a person
)

// Filter selects entries. The zero value selects all that wait.
type Filter struct {
	Group, Topic string  // empty: any
	Partitions   []int32 // empty: any
	Key          []byte  // nil: any
	Resolved     bool    // also those that no longer wait
	Limit        int     // at most so many entries; 0 means 1,000
}

// List returns entries by group, topic, partition and offset.
func (s *Store) List(ctx context.Context, f Filter) ([]Entry, error) {
	if f.Limit <= 0 {
		f.Limit = 1000
	}
	rows, err := s.db.QueryContext(ctx, listSQL, f.Group, f.Topic, pq.Array(f.Partitions), f.Key, f.Resolved, f.Limit)
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

// Stat counts what waits of one topic for one group.
type Stat struct {
	Group   string    `json:"group"`
	Topic   string    `json:"topic"`
	Keys    int       `json:"keys"`
	Entries int       `json:"entries"`
	Failed  int       `json:"failed"` // entries that failed themselves; the others wait behind them
	Oldest  time.Time `json:"oldest"`
}

// Stats counts what waits, by group and topic. Nothing waiting is no Stat.
func (s *Store) Stats(ctx context.Context) ([]Stat, error) {
	rows, err := s.db.QueryContext(ctx, statsSQL)
	if err != nil {
		return nil, fmt.Errorf("count quarantine: %w", err)
	}
	defer rows.Close()
	var all []Stat
	for rows.Next() {
		var st Stat
		if err := rows.Scan(&st.Group, &st.Topic, &st.Keys, &st.Entries, &st.Failed, &st.Oldest); err != nil {
			return nil, fmt.Errorf("count quarantine: %w", err)
		}
		all = append(all, st)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("count quarantine: %w", err)
	}
	return all, nil
}

// Place is where a record was first consumed: kafka_dlt-original-partition and
// kafka_dlt-original-offset of its dead letter.
type Place struct {
	Partition int32
	Offset    int64
}

// Release gives up the records of the places that wait, and returns how many did.
// What waits behind them may then be handled: a replay brings it. A copy of a
// released record is acknowledged without being handled.
func (s *Store) Release(ctx context.Context, group, topic string, places ...Place) (released int64, err error) {
	err = inTx(ctx, s.db, func(tx *sql.Tx) error {
		released, err = s.ReleaseTx(ctx, tx, group, topic, places...)
		return err
	})
	return released, err
}

// ReleaseTx is Release in the caller's transaction.
func (s *Store) ReleaseTx(ctx context.Context, tx *sql.Tx, group, topic string, places ...Place) (int64, error) {
	partitions, offsets := make([]int32, len(places)), make([]int64, len(places))
	for i, p := range places {
		partitions[i], offsets[i] = p.Partition, p.Offset
	}
	res, err := tx.ExecContext(ctx, releaseSQL, group, topic, pq.Array(partitions), pq.Array(offsets))
	if err != nil {
		return 0, fmt.Errorf("release from quarantine: %w", err)
	}
	return res.RowsAffected()
}

// Resolve implements deadletter.Quarantine: it releases what nobody will replay.
func (s *Store) Resolve(ctx context.Context, resolved []deadletter.Message) error {
	type target struct{ group, topic string }
	places := map[target][]Place{}
	for i := range resolved {
		if m := &resolved[i]; m.OriginalPartition >= 0 && m.OriginalOffset >= 0 {
			to := target{m.Group, m.OriginalTopic}
			places[to] = append(places[to], Place{m.OriginalPartition, m.OriginalOffset})
		}
	}
	return inTx(ctx, s.db, func(tx *sql.Tx) error {
		for to, at := range places {
			if _, err := s.ReleaseTx(ctx, tx, to.group, to.topic, at...); err != nil {
				return err
			}
		}
		return nil
	})
}

// Discard gives up every record of key that waits, and returns how many did. The
// key's next records are handled again.
func (s *Store) Discard(ctx context.Context, group, topic string, key []byte) (released int64, err error) {
	err = inTx(ctx, s.db, func(tx *sql.Tx) error {
		released, err = s.DiscardTx(ctx, tx, group, topic, key)
		return err
	})
	return released, err
}

// DiscardTx is Discard in the caller's transaction.
func (s *Store) DiscardTx(ctx context.Context, tx *sql.Tx, group, topic string, key []byte) (int64, error) {
	res, err := tx.ExecContext(ctx, discardSQL, group, topic, key)
	if err != nil {
		return 0, fmt.Errorf("discard from quarantine: %w", err)
	}
	return res.RowsAffected()
}

// Installed reports whether the database has the quarantine's tables.
func (s *Store) Installed(ctx context.Context) (installed bool, err error) {
	if err := s.db.QueryRowContext(ctx, installedSQL).Scan(&installed); err != nil {
		return false, fmt.Errorf("look for the quarantine: %w", err)
	}
	return installed, nil
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
