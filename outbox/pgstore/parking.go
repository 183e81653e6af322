package pgstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/millrace-go/millrace/outbox"
)

// ParkedMessage is a parked message and what became of it.
type ParkedMessage struct {
	Relay     string    `json:"relay"`
	Position  int64     `json:"position"`
	Topic     string    `json:"topic"`
	Key       string    `json:"key"`
	Reason    string    `json:"reason"`
	Attempts  int       `json:"attempts"`
	FirstAt   time.Time `json:"first_at"`
	LastAt    time.Time `json:"last_at"`
	State     string    `json:"state"` // parked; redrive, skip, discard (decided); redriven, skipped, discarded (done)
	Culprit   bool      `json:"culprit"`
	EventID   uuid.UUID `json:"event_id"`
	EventType string    `json:"event_type"`
	Bytes     int       `json:"bytes"` // of payload
}

// ParkedFilter selects parked messages of one relay.
type ParkedFilter struct {
	Relay      string
	Topic, Key string // empty: any
	Position   int64  // 0: any
	Done       bool   // also those that were redriven, skipped or discarded
	Limit      int    // maximum number of rows; 0 means 1,000
}

// Parked lists parked messages in the order of their positions.
func (s *Store) Parked(ctx context.Context, f ParkedFilter) ([]ParkedMessage, error) {
	if f.Limit <= 0 {
		f.Limit = 1000
	}
	rows, err := s.db.QueryContext(ctx, parkedSQL, f.Relay, f.Topic, f.Key, f.Done, f.Limit, outbox.ReasonBehind, f.Position)
	if err != nil {
		return nil, fmt.Errorf("list parked messages: %w", err)
	}
	defer rows.Close()
	var all []ParkedMessage
	for rows.Next() {
		var p ParkedMessage
		if err := rows.Scan(&p.Relay, &p.Position, &p.Topic, &p.Key, &p.Reason, &p.Attempts, &p.FirstAt, &p.LastAt, &p.State,
			&p.Culprit, &p.EventID, &p.EventType, &p.Bytes); err != nil {
			return nil, fmt.Errorf("list parked messages: %w", err)
		}
		all = append(all, p)
	}
	return all, rows.Err()
}

// ErrNoEntry means that the log holds no entry at that position: none was ever
// committed there, or retention has dropped it.
var ErrNoEntry = errors.New("no such entry in the log")

// Entry returns the entry at position, or ErrNoEntry.
func (s *Store) Entry(ctx context.Context, position int64) (outbox.Entry, error) {
	rows, err := s.db.QueryContext(ctx, readTailSQL, position-1, 1)
	if err != nil {
		return outbox.Entry{}, fmt.Errorf("read position %d: %w", position, err)
	}
	entries, _, err := newScanner().all(rows, 1, math.MaxInt)
	if err != nil {
		return outbox.Entry{}, fmt.Errorf("read position %d: %w", position, err)
	}
	if len(entries) == 0 || entries[0].Position != position {
		return outbox.Entry{}, fmt.Errorf("read position %d: %w", position, ErrNoEntry)
	}
	return entries[0], nil
}

// Action is what can be done with the parked messages of a key.
type Action string

// The actions. All keep the order of the key.
const (
	// Redrive publishes the key's parked messages again, in order.
	Redrive Action = "redrive"
	// Skip gives one message up and publishes the key's others, in order.
	Skip Action = "skip"
	// Discard gives all parked messages of the key up.
	Discard Action = "discard"
)

// Decision is a person's word on the parked messages of one key.
type Decision struct {
	Relay    string
	Key      outbox.ParkedKey
	Action   Action
	Position int64  // the message to Skip; 0 for the other actions
	Actor    string // who decided, for the audit
	Note     string // why, for the audit
}

// ErrNotParked means that a decision met no parked message.
var ErrNotParked = errors.New("no such parked message")

func (d *Decision) validate() error {
	var errs []error
	need := func(ok bool, problem string) {
		if !ok {
			errs = append(errs, errors.New(problem))
		}
	}
	need(d.Relay != "", "Relay: is empty")
	need(d.Key.Topic != "" && d.Key.Key != "", "Key: topic or key is empty")
	need(slices.Contains([]Action{Redrive, Skip, Discard}, d.Action), "Action: must be redrive, skip or discard")
	need((d.Action == Skip) == (d.Position > 0), "Position: belongs to skip, and only to skip")
	need(d.Actor != "", "Actor: is empty")
	return errors.Join(errs...)
}

// Decide records d, with its audit entry, and returns the positions concerned.
// The leading relay carries it out within a second; if none runs, the next one
// does at its start. ErrNotParked means that nothing was there to decide on.
func (s *Store) Decide(ctx context.Context, d Decision) (positions []int64, err error) {
	if err := d.validate(); err != nil {
		return nil, fmt.Errorf("decide on parked messages: %w", err)
	}
	others := ""
	if d.Action == Skip {
		others = string(Redrive)
	}
	err = inTx(ctx, s.db.BeginTx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, decideSQL, d.Relay, d.Key.Topic, d.Key.Key, d.Position, string(d.Action), others)
		if err != nil {
			return err
		}
		if positions, err = positionsOf(rows); err != nil {
			return err
		}
		if len(positions) == 0 || d.Position > 0 && !slices.Contains(positions, d.Position) {
			return ErrNotParked
		}
		_, err = tx.ExecContext(ctx, auditSQL, d.Actor, string(d.Action), d.Relay, pq.Array(positions), d.Note)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s %s/%s: %w", d.Action, d.Key.Topic, d.Key.Key, err)
	}
	return positions, nil
}

func positionsOf(rows *sql.Rows) (positions []int64, err error) {
	defer rows.Close()
	for rows.Next() {
		var p int64
		if err := rows.Scan(&p); err != nil {
			return nil, err
		}
		positions = append(positions, p)
	}
	slices.Sort(positions)
	return positions, rows.Err()
}

// carryOut executes the decisions on the relay's parked messages and returns the
// cursor after that, in which redriven messages are not delivered. It is called when
// a session opens: then nothing of the relay is in flight.
func carryOut(ctx context.Context, conn *sql.Conn, relay string, epoch int64, c outbox.Cursor) (outbox.Cursor, error) {
	err := inTx(ctx, conn.BeginTx, func(tx *sql.Tx) error {
		var gaps []byte
		if err := tx.QueryRowContext(ctx, lockCursorSQL, relay, epoch).Scan(&c.Position, &gaps); err != nil {
			return err
		}
		var err error
		if c.Gaps, err = decodeGaps(gaps, c.Position); err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx, carryOutSQL, relay)
		if err != nil {
			return err
		}
		redriven, err := redrivenOf(rows)
		if err != nil || len(redriven) == 0 {
			return err
		}
		c = c.Without(redriven)
		_, err = tx.ExecContext(ctx, saveSQL, relay, epoch, c.Position, encodeGaps(c.Gaps))
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return c, outbox.ErrLeaseLost
	}
	if err != nil {
		return c, fmt.Errorf("carry out decisions on parked messages: %w", err)
	}
	return c, nil
}

func redrivenOf(rows *sql.Rows) (positions []int64, err error) {
	defer rows.Close()
	for rows.Next() {
		var p int64
		var state string
		if err := rows.Scan(&p, &state); err != nil {
			return nil, err
		}
		if state == "redriven" {
			positions = append(positions, p)
		}
	}
	slices.Sort(positions)
	return positions, rows.Err()
}

// inTx runs f in a transaction.
func inTx(ctx context.Context, begin func(context.Context, *sql.TxOptions) (*sql.Tx, error), f func(*sql.Tx) error) error {
	tx, err := begin(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}
