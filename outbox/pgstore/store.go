package pgstore

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/internal/problems"
)

// Store is the outbox of one database and search_path. It is safe for concurrent
// use. It holds no connection of its own; a leading relay keeps two of the pool's,
// and borrows a third one each minute.
type Store struct {
	db      *sql.DB
	cfg     Config
	inserts inserts
}

// Config configures a Store. The zero value is usable.
type Config struct {
	// Retention is how long a leading relay keeps what every relay has delivered.
	// Partitions are dropped as a whole, so it counts from a partition's newest row.
	// Forever (-1) keeps everything, for use as event history. Default 168 h.
	Retention time.Duration
}

// Forever as Config.Retention keeps everything.
const Forever time.Duration = -1

func (c Config) withDefaults() Config {
	c.Retention = cmp.Or(c.Retention, 7*24*time.Hour)
	return c
}

var (
	_ outbox.Appender = (*Store)(nil)
	_ outbox.Log      = (*Store)(nil)
)

// New returns the outbox that db's search_path finds. It does no I/O.
func New(db *sql.DB, cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	var p problems.List
	p.NotNil("db", db != nil)
	p.Unless(cfg.Retention > 0 || cfg.Retention == Forever, "Retention", "must be positive, or Forever, is %s", cfg.Retention)
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("outbox store: %w", err)
	}
	s := &Store{db: db, cfg: cfg}
	s.inserts.one.text, s.inserts.many.text = appendOneSQL, appendManySQL
	return s, nil
}

// Prepare prepares Append's statements, so that Append takes one round trip instead
// of two. Call it once at start. It needs a free connection of the pool; Append,
// which is called with one in use, therefore never prepares them itself.
// Transactions of another *sql.DB work without it.
func (s *Store) Prepare(ctx context.Context) error { return s.inserts.prepare(ctx, s.db) }

// Close closes the prepared statements. The database stays open.
func (s *Store) Close() error { return s.inserts.close() }

// Append implements outbox.Appender: one INSERT of fixed text.
func (s *Store) Append(ctx context.Context, tx *sql.Tx, msgs []outbox.Message) error {
	stmt := s.inserts.forMessages(len(msgs))
	args, err := appendArgs(msgs)
	if err != nil {
		return err
	}
	if prepared := stmt.prepared.Load(); prepared != nil {
		_, err := tx.StmtContext(ctx, prepared).ExecContext(ctx, args...)
		if err == nil || !notSent(err) {
			return err
		}
	}
	_, err = tx.ExecContext(ctx, stmt.text, args...)
	return err
}

// Acquire implements outbox.Log. It refuses an unsafe log with an
// *outbox.UnsafeError.
func (s *Store) Acquire(ctx context.Context, relay, owner string, ttl time.Duration) (outbox.Session, error) {
	var held bool
	err := s.db.QueryRowContext(ctx, leaseHeldSQL, relay, owner).Scan(&held)
	if pq.As(err, pqerror.UndefinedTable, pqerror.InsufficientPrivilege) != nil { // the guard knows what is missing
		if _, guardErr := guard(ctx, s.db, 0); guardErr != nil {
			return nil, guardErr
		}
	}
	if err != nil {
		return nil, fmt.Errorf("acquire the lease of %s: %w", relay, err)
	}
	if held {
		return nil, outbox.ErrLeaseHeld
	}
	return openSession(ctx, s.db, relay, owner, ttl, s.cfg.Retention)
}

// Check reports whether the log can be read safely, as an *outbox.UnsafeError.
func (s *Store) Check(ctx context.Context) error {
	_, err := guard(ctx, s.db, 0)
	if err != nil {
		return err
	}
	var position int64
	if err := s.db.QueryRowContext(ctx, furthestSQL).Scan(&position); err != nil {
		return fmt.Errorf("check the outbox: %w", err)
	}
	_, err = guard(ctx, s.db, position)
	return err
}
