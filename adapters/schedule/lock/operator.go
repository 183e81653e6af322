package lock

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/adapters/schedule/internal/jobdb"
)

// The stores of a State.
const (
	StorePostgres = "postgres"
	StoreRedis    = "redis"
)

// State is a lock as its store has it: a row of shedlock, or a key in Redis.
type State struct {
	Name  string        `json:"name"`
	Held  bool          `json:"held"`
	Owner string        `json:"owner"`          // that holds it, or held it last
	Since time.Time     `json:"since,omitzero"` // in Redis by the clock of the holder
	Until time.Time     `json:"until,omitzero"` // by the clock of the server; zero if it never ends
	Left  time.Duration `json:"-"`              // by the clock of the server; negative if it is free
	Fence int64         `json:"fence"`          // in Redis that of the last holder other than ShedLock's own nodes

	Store       string `json:"store"`                 // StorePostgres or StoreRedis
	Environment string `json:"environment,omitempty"` // in Redis only
	Key         string `json:"key,omitempty"`         // in Redis only
}

// Operator lists the locks in a Postgres, and takes them away from their holders.
// What it changes it writes into job_audit. It is safe for concurrent use.
type Operator struct{ db *sql.DB }

// NewOperator returns an Operator on the tables that db's search_path finds. It
// does no I/O.
func NewOperator(db *sql.DB) (*Operator, error) {
	if db == nil {
		return nil, errors.New("operator of locks: db: must not be nil")
	}
	return &Operator{db: db}, nil
}

// Locks lists all locks, by name.
func (o *Operator) Locks(ctx context.Context) ([]State, error) {
	rows, err := o.db.QueryContext(ctx, listSQL)
	if err != nil {
		return nil, fmt.Errorf("list the locks: %w", err)
	}
	defer rows.Close()
	var all []State
	for rows.Next() {
		s := State{Store: StorePostgres}
		var left int64
		if err := rows.Scan(&s.Name, &s.Owner, &s.Since, &s.Until, &left, &s.Fence); err != nil {
			return nil, fmt.Errorf("list the locks: %w", err)
		}
		s.Since, s.Until, s.Left = s.Since.UTC(), s.Until.UTC(), time.Duration(left)*time.Microsecond
		s.Held = left > 0
		all = append(all, s)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list the locks: %w", err)
	}
	return all, nil
}

// Unlock takes the lock away from its holder and frees it. The holder's task is
// cancelled at the next renewal, and its guarded writes are refused from now on;
// what it does without a guard goes on meanwhile beside the next holder. Unlock
// returns the lock as it was.
func (o *Operator) Unlock(ctx context.Context, name, actor, note string) (before State, err error) {
	err = jobdb.TakeAway(ctx, o.db, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, heldSQL, name).Scan(&before.Name, &before.Owner, &before.Since, &before.Until, &before.Fence)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNoSuchLock
		}
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, unlockSQL, name, jobdb.UnlockedBy(actor)); err != nil {
			return err
		}
		return jobdb.Audit(ctx, tx, jobdb.Entry{
			Actor: actor, Action: "unlock", Name: name, Note: note,
			Detail: fmt.Sprintf("held by %s, fence %d", before.Owner, before.Fence),
		})
	})
	if err != nil {
		return before, fmt.Errorf("unlock %s: %w", name, err)
	}
	before.Held, before.Store, before.Since, before.Until = true, StorePostgres, before.Since.UTC(), before.Until.UTC()
	return before, nil
}
