package schedule

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// PostgresLocks keeps locks in the table shedlock, as ShedLock does with the time
// of the database, so its JDBC providers contend for the same locks. The table is
// made by the outbox line of package sql.
//
// The pool should give up connections whose server is silent, as pgstore.Open
// makes it do: lib/pq alone waits for a frozen server for ever.
type PostgresLocks struct {
	db   *sql.DB
	node string

	acquire, renew, release statement
}

var (
	_ LockProvider = (*PostgresLocks)(nil)
	_ Checker      = (*PostgresLocks)(nil)
)

// NewPostgresLocks returns the locks that db's search_path finds. It does no I/O.
func NewPostgresLocks(db *sql.DB) (*PostgresLocks, error) {
	if db == nil {
		return nil, errors.New("postgres locks: db: is nil")
	}
	return &PostgresLocks{
		db: db, node: fmt.Sprintf("%s:%d", host(), os.Getpid()),
		acquire: statement{text: acquireSQL}, renew: statement{text: renewSQL}, release: statement{text: releaseSQL},
	}, nil
}

// Prepare prepares the statements, so that each call takes one round trip instead
// of two. It is for those who take locks by the thousand.
func (p *PostgresLocks) Prepare(ctx context.Context) error {
	for _, s := range []*statement{&p.acquire, &p.renew, &p.release} {
		if err := s.prepare(ctx, p.db); err != nil {
			return fmt.Errorf("prepare the locks: %w", err)
		}
	}
	return nil
}

// Close frees what Prepare made. The database stays open.
func (p *PostgresLocks) Close() error {
	return errors.Join(p.acquire.close(), p.renew.close(), p.release.close())
}

// Acquire implements LockProvider, in one statement.
func (p *PostgresLocks) Acquire(ctx context.Context, c Claim) (Grant, error) {
	g := Grant{Name: c.Name, Lease: c.Lease, Owner: p.node + ":" + c.ID.String()}
	err := p.acquire.queryRow(ctx, p.db, g.Name, g.Owner, milliseconds(c.Lease)).Scan(&g.Fence)
	switch {
	case err == nil:
		return g, nil
	case errors.Is(err, sql.ErrNoRows), pq.As(err, pqerror.LockNotAvailable) != nil:
		return g, ErrNotAcquired
	}
	return g, fmt.Errorf("acquire the lock %s: %w", c.Name, err)
}

// Renew implements LockProvider.
func (p *PostgresLocks) Renew(ctx context.Context, g Grant, lease time.Duration) error {
	return one(&p.renew, p.db, ctx, "renew", g, milliseconds(lease))
}

// Release implements LockProvider.
func (p *PostgresLocks) Release(ctx context.Context, g Grant, atLeast time.Duration) error {
	return one(&p.release, p.db, ctx, "release", g, milliseconds(atLeast))
}

func one(s *statement, db *sql.DB, ctx context.Context, what string, g Grant, ms int64) error {
	result, err := s.exec(ctx, db, g.Name, g.Owner, ms)
	if err != nil {
		return fmt.Errorf("%s the lock %s: %w", what, g.Name, err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return fmt.Errorf("%s the lock %s: %w", what, g.Name, errors.Join(ErrLockLost, err))
	}
	return nil
}

// Guard implements LockProvider: it locks the row of the lock in share mode, so
// that until tx ends nobody takes the lock, and it cannot lapse.
func (p *PostgresLocks) Guard(ctx context.Context, tx *sql.Tx, g Grant) error {
	var set string
	err := tx.QueryRowContext(ctx, guardSQL, g.Name, g.Owner, g.Fence, g.idle()).Scan(&set)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrLockLost
	}
	if err != nil {
		return fmt.Errorf("guard by the lock %s: %w", g.Name, err)
	}
	return nil
}

// Check implements Checker: the table is there and has the columns it should.
func (p *PostgresLocks) Check(ctx context.Context) error {
	want := map[string]string{
		"name": "character varying", "locked_by": "character varying", "fence": "bigint",
		"lock_until": "timestamp without time zone", "locked_at": "timestamp without time zone",
	}
	rows, err := p.db.QueryContext(ctx, checkLocksSQL)
	if err != nil {
		return fmt.Errorf("check the locks: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var column, is string
		if err := rows.Scan(&column, &is); err != nil {
			return fmt.Errorf("check the locks: %w", err)
		}
		if want[column] == is || want[column] == "character varying" && is == "text" {
			delete(want, column)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("check the locks: %w", err)
	}
	if len(want) > 0 {
		var missing []string
		for _, column := range slices.Sorted(maps.Keys(want)) {
			missing = append(missing, column+" "+want[column])
		}
		return fmt.Errorf("%w: table shedlock lacks %s: run millrace migrate up", ErrUnsafeStore, strings.Join(missing, ", "))
	}
	return nil
}

// milliseconds rounds up, so that nothing becomes shorter than asked for.
func milliseconds(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}
