package pgstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"github.com/millrace-go/millrace/outbox"
)

// Partition is one partition of the log.
type Partition struct {
	Name      string    `json:"name"`
	From      int64     `json:"from"` // first position; 0, as To, in the default partition
	To        int64     `json:"to"`   // the one after the last position
	Rows      int64     `json:"rows"` // as the statistics have it
	Bytes     int64     `json:"bytes"`
	Newest    time.Time `json:"newest,omitzero"` // creation of its newest row; zero if it has none
	Droppable bool      `json:"droppable"`
	Why       string    `json:"why"` // what keeps it; empty if Droppable
}

// Partitions lists the partitions of the log in the order of their positions, the
// default partition first, and says which of them the store's retention lets go.
func (s *Store) Partitions(ctx context.Context) ([]Partition, error) {
	return s.partitions(ctx, s.cfg.Retention)
}

// Droppable lists the partitions that DropPartitions would drop.
func (s *Store) Droppable(ctx context.Context, retention time.Duration) ([]Partition, error) {
	all, err := s.partitions(ctx, retention)
	var drop []Partition
	for _, p := range all {
		if p.Droppable {
			drop = append(drop, p)
		}
	}
	return drop, err
}

func (s *Store) partitions(ctx context.Context, retention time.Duration) ([]Partition, error) {
	slowest, err := slowestRelay(ctx, s.db)
	if err != nil {
		return nil, err
	}
	rows, err := s.db.QueryContext(ctx, partitionsSQL)
	if err != nil {
		return nil, fmt.Errorf("list partitions: %w", err)
	}
	defer rows.Close()
	var all []Partition
	var ends int64 // of the newest partition
	for rows.Next() {
		var p Partition
		k := keeping{slowest: slowest, retention: retention}
		var newest sql.NullTime
		if err := rows.Scan(&p.Name, &p.From, &p.To, &p.Rows, &p.Bytes, &newest, &k.last, &k.parked); err != nil {
			return nil, fmt.Errorf("list partitions: %w", err)
		}
		p.Newest, ends = newest.Time, max(ends, p.To)
		p.Why = k.why(&p)
		all = append(all, p)
	}
	for i := range all {
		if all[i].To == ends && ends > 0 && all[i].Why == "" {
			all[i].Why = "it is the newest one"
		}
		all[i].Droppable = all[i].Why == ""
	}
	return all, rows.Err()
}

// keeping is what decides whether a partition has to stay. SQL decides by itself,
// in outbox_drop_partitions: this is for people.
type keeping struct {
	slowest   relayAt
	retention time.Duration
	last      int64 // highest position in it, 0 if it is empty
	parked    bool
}

// why returns what keeps p, or "".
func (k *keeping) why(p *Partition) string {
	last := p.To - 1
	if p.To == 0 {
		if last = k.last; last == 0 {
			return "it is the default one, and empty"
		}
	}
	switch {
	case k.slowest.name == "":
		return "no relay has run"
	case last > k.slowest.delivered:
		return fmt.Sprintf("relay %s has delivered up to %d", k.slowest.name, k.slowest.delivered)
	case k.parked:
		return "it holds parked messages"
	case k.retention == Forever:
		return "the retention is forever"
	case !p.Newest.IsZero() && time.Since(p.Newest) < k.retention:
		return fmt.Sprintf("its newest row is younger than %s", k.retention)
	}
	return ""
}

// relayAt is a relay and the position up to which it has delivered everything.
type relayAt struct {
	name      string
	delivered int64
}

// slowestRelay returns the relay that the retention waits for, or none.
func slowestRelay(ctx context.Context, db *sql.DB) (slowest relayAt, err error) {
	relays, err := relaysAt(ctx, db)
	for i, r := range relays {
		if i == 0 || r.delivered < slowest.delivered {
			slowest = r
		}
	}
	return slowest, err
}

// furthestDelivered returns the highest position up to which any relay has left
// nothing out, 0 without one.
func furthestDelivered(ctx context.Context, db *sql.DB) (position int64, err error) {
	relays, err := relaysAt(ctx, db)
	for _, r := range relays {
		position = max(position, r.delivered)
	}
	return position, err
}

func relaysAt(ctx context.Context, db *sql.DB) (relays []relayAt, err error) {
	rows, err := db.QueryContext(ctx, cursorsSQL)
	if err != nil {
		return nil, fmt.Errorf("read the cursors: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var r relayAt
		var c outbox.Cursor
		var gaps []byte
		if err := rows.Scan(&r.name, &c.Position, &gaps); err != nil {
			return nil, fmt.Errorf("read the cursors: %w", err)
		}
		if c.Gaps, err = decodeGaps(gaps, c.Position); err != nil {
			return nil, fmt.Errorf("cursor of %s: %w", r.name, err)
		}
		r.delivered = delivered(c)
		relays = append(relays, r)
	}
	return relays, rows.Err()
}

// delivered returns the position up to which c leaves nothing out.
func delivered(c outbox.Cursor) int64 {
	if len(c.Gaps) > 0 {
		return c.Gaps[0].Lo - 1
	}
	return c.Position
}

// ErrInUse means that a transaction has used the log for longer than the 50 ms
// for which others may be kept waiting. The act can be tried again at any time.
var ErrInUse = errors.New("log is in use by an open transaction")

// MakePartitions makes partitions ahead of need and returns how many. A leading
// relay does it by itself, each minute.
func (s *Store) MakePartitions(ctx context.Context) (made int, err error) {
	if err := s.db.QueryRowContext(ctx, makePartitionsSQL).Scan(&made); err != nil {
		return 0, fmt.Errorf("make partitions: %w", err)
	}
	return made, nil
}

// DropPartitions drops the partitions that every relay has delivered, that hold
// no parked message, and whose newest row is older than retention, and returns
// their names. It never keeps writers waiting for more than 50 ms: if a
// transaction uses the log for longer, it gives up with ErrInUse, having dropped
// what it names, to be called again later. A leading relay calls it each minute.
func (s *Store) DropPartitions(ctx context.Context, retention time.Duration) ([]string, error) {
	if retention < 0 {
		return nil, fmt.Errorf("drop partitions: retention: %s is negative", retention)
	}
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("drop partitions: %w", err)
	}
	defer conn.Close()
	return dropPartitions(ctx, conn, retention)
}

// dropPartitions calls the function until it has nothing left to drop: each call
// works for some milliseconds, so that writers get in between.
func dropPartitions(ctx context.Context, conn *sql.Conn, retention time.Duration) (names []string, err error) {
	for {
		some, err := dropSome(ctx, conn, retention)
		names = append(names, some...)
		if pq.As(err, pqerror.LockNotAvailable) != nil {
			return names, fmt.Errorf("drop partitions: %w", ErrInUse)
		}
		if err != nil {
			return names, fmt.Errorf("drop partitions: %w", err)
		}
		if len(some) == 0 {
			return names, nil
		}
	}
}

func dropSome(ctx context.Context, conn *sql.Conn, retention time.Duration) ([]string, error) {
	rows, err := conn.QueryContext(ctx, dropPartitionsSQL, retention.Microseconds())
	if err != nil {
		return nil, err
	}
	return texts(rows)
}
