// Package jobdb has what the locks, their operators and the history of jobs share
// of their tables in Postgres.
package jobdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"github.com/millrace-go/millrace/adapters/internal/pgtext"
)

// ErrGuarded means that a lock cannot be taken away at the moment.
var ErrGuarded = errors.New("its holder has a guarded transaction open: try again")

// Columns of the tables of jobs.
const (
	maxName  = 64   // of a lock or job
	maxOwner = 255  // of the one who holds a lock
	maxText  = 4096 // of a problem or a note
)

// InTx runs do in a transaction of db, and commits it if do returns nil.
func InTx(ctx context.Context, db *sql.DB, do func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after a commit there is nothing to roll back
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// TakeAway is InTx for taking a lock from its holder. It waits for a second at
// most for a guarded transaction of the holder, and fails then with ErrGuarded.
func TakeAway(ctx context.Context, db *sql.DB, do func(*sql.Tx) error) error {
	err := InTx(ctx, db, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, lockTimeoutSQL); err != nil {
			return err
		}
		return do(tx)
	})
	if pq.As(err, pqerror.LockNotAvailable) != nil {
		return ErrGuarded
	}
	return err
}

// Entry is one entry of job_audit: who did what to which job or lock, and why.
type Entry struct{ Actor, Action, Name, Detail, Note string }

// Audit writes e in tx.
func Audit(ctx context.Context, tx *sql.Tx, e Entry) error {
	_, err := tx.ExecContext(ctx, auditSQL, e.Actor, e.Action, pgtext.Cut(e.Name, maxName), pgtext.Cut(e.Detail, maxText), pgtext.Cut(e.Note, maxText))
	return err
}

// UnlockedBy is the owner of a lock that actor has taken away.
func UnlockedBy(actor string) string { return pgtext.Cut("unlocked by "+actor, maxOwner) }

// Problem is text as the history keeps it.
func Problem(text string) string { return pgtext.Cut(text, maxText) }

// Fence is the fence of a lock that Postgres cannot ask for.
type Fence struct {
	Name, Owner string
	Number      int64
	Lease       time.Duration
}

// Guard reports whether f is the highest fence of its name that was seen in table
// job_fence, and keeps it so until tx ends. A holder that was overtaken may write
// until its successor does for the first time, but never after that.
func Guard(ctx context.Context, tx *sql.Tx, f Fence) (bool, error) {
	var set string
	idle := IdleLimit(f.Lease)
	err := tx.QueryRowContext(ctx, guardKnownSQL, f.Name, f.Owner, f.Number, idle).Scan(&set)
	if errors.Is(err, sql.ErrNoRows) {
		err = tx.QueryRowContext(ctx, guardRaiseSQL, f.Name, f.Owner, f.Number, idle).Scan(&set)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// Refuse makes Guard refuse the fence number of name and all below it. by is the
// owner that it names instead.
func Refuse(ctx context.Context, tx *sql.Tx, name, by string, number int64) error {
	_, err := tx.ExecContext(ctx, refuseFenceSQL, name, by, number)
	return err
}

// IdleLimit is for how long a guarded transaction may do nothing before Postgres
// ends it, as its setting has it: a lease, since the holder may be frozen, in
// reasonable limits.
func IdleLimit(lease time.Duration) string {
	return strconv.FormatInt(Milliseconds(min(max(lease, 2*time.Second), 30*time.Second)), 10)
}

// Milliseconds rounds up, so that nothing becomes shorter than asked for.
func Milliseconds(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}

// Host names this machine in owners and in the history.
func Host() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "unknown"
	}
	return name
}

// Process names this process among those of all machines.
func Process() string { return fmt.Sprintf("%s:%d", Host(), os.Getpid()) }
