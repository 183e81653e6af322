package lock

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"github.com/millrace-go/millrace/adapters/internal/pgstmt"
	"github.com/millrace-go/millrace/adapters/schedule/internal/jobdb"
)

// Postgres keeps locks in the table shedlock, as ShedLock does with the time of
// the database, so ShedLock's JDBC providers contend for the same locks. The table
// is made by the outbox line of package sql. It implements Provider.
//
// The pool should give up connections whose server is silent, as pgstore.Open
// makes it do: lib/pq alone waits for a frozen server forever.
type Postgres struct{ postgres }

type postgres struct {
	db   *sql.DB
	node string

	acquire, renew, release *pgstmt.Statement
}

var _ Provider = (*Postgres)(nil)

// NewPostgres returns the locks that db's search_path finds. It does no I/O.
func NewPostgres(db *sql.DB) (*Postgres, error) {
	if db == nil {
		return nil, errors.New("postgres locks: db: must not be nil")
	}
	return &Postgres{postgres{
		db: db, node: jobdb.Process(),
		acquire: pgstmt.New(acquireSQL), renew: pgstmt.New(renewSQL), release: pgstmt.New(releaseSQL),
	}}, nil
}

// Prepare prepares the statements, so that each call takes one round trip instead
// of two. It is for programs that take locks by the thousand.
func (p *Postgres) Prepare(ctx context.Context) error {
	for _, s := range []*pgstmt.Statement{p.acquire, p.renew, p.release} {
		if err := s.Prepare(ctx, p.db); err != nil {
			return fmt.Errorf("prepare the locks: %w", err)
		}
	}
	return nil
}

// Close frees what Prepare made. The database stays open.
func (p *Postgres) Close() error {
	return errors.Join(p.acquire.Close(), p.renew.Close(), p.release.Close())
}

// Acquire implements Provider, in one statement.
func (p *postgres) Acquire(ctx context.Context, r Request) (Grant, error) {
	g := Grant{Name: r.Name, Lease: r.Lease, Owner: p.node + ":" + r.ID.String()}
	err := p.acquire.QueryRow(ctx, p.db, g.Name, g.Owner, jobdb.Milliseconds(r.Lease)).Scan(&g.Fence)
	switch {
	case err == nil:
		return g, nil
	case errors.Is(err, sql.ErrNoRows), pq.As(err, pqerror.LockNotAvailable) != nil:
		return g, ErrNotAcquired
	}
	return g, fmt.Errorf("acquire the lock %s: %w", r.Name, err)
}

// Renew implements Provider.
func (p *postgres) Renew(ctx context.Context, g Grant, lease time.Duration) error {
	return p.change(ctx, p.renew, "renew", g, lease)
}

// Release implements Provider.
func (p *postgres) Release(ctx context.Context, g Grant, atLeast time.Duration) error {
	return p.change(ctx, p.release, "release", g, atLeast)
}

// change runs a statement that finds the one row of a lock that is held.
func (p *postgres) change(ctx context.Context, s *pgstmt.Statement, verb string, g Grant, d time.Duration) error {
	result, err := s.Exec(ctx, p.db, g.Name, g.Owner, jobdb.Milliseconds(d))
	if err != nil {
		return fmt.Errorf("%s the lock %s: %w", verb, g.Name, err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return fmt.Errorf("%s the lock %s: %w", verb, g.Name, errors.Join(ErrLost, err))
	}
	return nil
}

// Guard implements Provider: it locks the row of the lock in share mode, so that
// until tx ends nobody takes the lock, and it cannot lapse.
func (p *postgres) Guard(ctx context.Context, tx *sql.Tx, g Grant) error {
	var set string
	err := tx.QueryRowContext(ctx, guardSQL, g.Name, g.Owner, g.Fence, jobdb.IdleLimit(g.Lease)).Scan(&set)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrLost
	}
	if err != nil {
		return fmt.Errorf("guard by the lock %s: %w", g.Name, err)
	}
	return nil
}

// Check implements Provider: the table is there and has the columns it should.
func (p *postgres) Check(ctx context.Context) error {
	want := map[string]string{
		"name": "character varying", "locked_by": "character varying", "fence": "bigint",
		"lock_until": "timestamp without time zone", "locked_at": "timestamp without time zone",
	}
	rows, err := p.db.QueryContext(ctx, checkSQL)
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
