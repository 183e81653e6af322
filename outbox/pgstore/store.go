package pgstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"github.com/millrace-go/millrace/outbox"
)

// Store is the outbox of one database and search_path. It is safe for concurrent
// use and holds no connection of its own; a leading relay pins two, and borrows a
// third one each minute.
type Store struct {
	db     *sql.DB
	cfg    Config
	append atomic.Pointer[sql.Stmt]
}

// Config configures a Store. The zero value is usable.
type Config struct {
	// Retention is how long a leading relay keeps what every relay has delivered,
	// counted from the newest row of a partition: partitions are dropped as a
	// whole. -1 keeps everything, for use as event history. Default 168 h.
	Retention time.Duration
}

// Forever as Config.Retention keeps everything.
const Forever time.Duration = -1

// defaultRetention is seven days.
const defaultRetention = 168 * time.Hour

var (
	_ outbox.Appender = (*Store)(nil)
	_ outbox.Log      = (*Store)(nil)
)

// New returns the outbox that db's search_path finds. It does no I/O.
func New(db *sql.DB, cfg Config) (*Store, error) {
	if cfg.Retention == 0 {
		cfg.Retention = defaultRetention
	}
	var errs []error
	if db == nil {
		errs = append(errs, errors.New("db: is nil"))
	}
	if cfg.Retention < 0 && cfg.Retention != Forever {
		errs = append(errs, fmt.Errorf("Retention: is %s: must be positive, or Forever", cfg.Retention))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("outbox store: %w", err)
	}
	return &Store{db: db, cfg: cfg}, nil
}

// Prepare prepares Append's statement, so that it takes one round trip instead of
// two. Call it once at start. It needs a free connection of the pool, which is
// why Append never does it by itself: it is called with one already taken.
// Transactions of another *sql.DB go on without.
func (s *Store) Prepare(ctx context.Context) error {
	if s.append.Load() != nil {
		return nil
	}
	stmt, err := s.db.PrepareContext(ctx, appendSQL)
	if err != nil {
		return fmt.Errorf("prepare the outbox insert: %w", err)
	}
	if !s.append.CompareAndSwap(nil, stmt) {
		return stmt.Close()
	}
	return nil
}

// Close frees what Prepare made. The database stays open.
func (s *Store) Close() error {
	if stmt := s.append.Swap(nil); stmt != nil {
		return stmt.Close()
	}
	return nil
}

// Append implements outbox.Appender: one multi-row INSERT of fixed text.
func (s *Store) Append(ctx context.Context, tx *sql.Tx, msgs []outbox.Message) error {
	args, err := appendArgs(msgs)
	if err != nil {
		return err
	}
	if stmt := s.append.Load(); stmt != nil {
		_, err := tx.StmtContext(ctx, stmt).ExecContext(ctx, args...)
		if err == nil || !notSent(err) {
			return err
		}
	}
	_, err = tx.ExecContext(ctx, appendSQL, args...)
	return err
}

// notSent reports that database/sql refused the statement before any I/O: it was
// prepared on another *sql.DB than the transaction's.
func notSent(err error) bool {
	var server *pq.Error
	return !errors.As(err, &server) && !errors.Is(err, sql.ErrTxDone) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

func appendArgs(msgs []outbox.Message) ([]any, error) {
	n := len(msgs)
	ids, topics, keys := make([]string, n), make([]string, n), make([]string, n)
	types, aggTypes, aggIDs := make([]string, n), make([]string, n), make([]string, n)
	versions, headers, payloads := make([]int64, n), make([]string, n), make(nullableBytes, n)
	for i := range msgs {
		m := &msgs[i]
		ids[i], topics[i], keys[i], types[i] = m.ID.String(), m.Topic, m.Key, m.Type
		aggTypes[i], aggIDs[i], versions[i] = m.AggregateType, m.AggregateID, m.AggregateVersion
		headers[i], payloads[i] = "{}", m.Payload
		if len(m.Headers) > 0 {
			b, err := json.Marshal(m.Headers)
			if err != nil {
				return nil, fmt.Errorf("encode headers: %w", err)
			}
			headers[i] = string(b)
		}
	}
	return []any{pq.Array(ids), pq.Array(topics), pq.Array(keys), pq.Array(aggTypes), pq.Array(aggIDs),
		pq.Array(versions), pq.Array(types), pq.Array(headers), payloads}, nil
}

// Acquire implements outbox.Log. It refuses an unsafe log with an
// *outbox.UnsafeError.
func (s *Store) Acquire(ctx context.Context, relay, owner string, ttl time.Duration) (outbox.Session, error) {
	var held bool
	err := s.db.QueryRowContext(ctx, leaseHeldSQL, relay, owner).Scan(&held)
	if pq.As(err, pqerror.UndefinedTable, pqerror.InsufficientPrivilege) != nil { // let the guard say what is missing
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
