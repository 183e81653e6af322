package pgstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/lib/pq"

	"github.com/millrace-go/millrace/outbox"
)

// session is one leadership. It keeps two connections: the reader's, to which its
// settings and the state of the ledger belong, and one for lease and cursor, so that
// a long read does not delay them. Maintain, which may take longer, borrows a third.
type session struct {
	relay     string
	epoch     int64
	parked    []outbox.ParkedKey
	retention time.Duration

	db      *sql.DB
	reader  *sql.Conn
	reading reading

	// One caller at a time: *sql.Conn admits several, even between the parts of an
	// answer and into another caller's transaction.
	control     *sql.Conn
	controlling sync.Mutex
	save        *sql.Stmt
	park        *sql.Stmt
	renew       *sql.Stmt
	renewMember *sql.Stmt // made when first used
}

var _ outbox.Maintainer = (*session)(nil)

// upkeepTimeout bounds one call of Maintain, and its wait for a connection.
const upkeepTimeout = 10 * time.Second

func openSession(ctx context.Context, db *sql.DB, relay, owner string, ttl, retention time.Duration) (_ *session, err error) {
	s := &session{db: db, relay: relay, retention: retention}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.reader, err = db.Conn(ctx); err != nil {
		return nil, fmt.Errorf("acquire the lease of %s: %w", relay, err)
	}
	if s.control, err = db.Conn(ctx); err != nil {
		return nil, fmt.Errorf("acquire the lease of %s: %w", relay, err)
	}
	rel, err := guard(ctx, s.reader, 0)
	if err != nil {
		return nil, err
	}
	cursor, err := s.acquire(ctx, owner, ttl)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.free(ctx))
		}
	}()
	if problem, err := sequenceBehind(ctx, s.reader, cursor.Position); err != nil {
		return nil, err
	} else if problem != "" {
		return nil, &outbox.UnsafeError{Problems: []string{problem}}
	}
	if cursor, err = carryOut(ctx, s.control, relay, s.epoch, cursor); err != nil {
		return nil, err
	}
	if err = s.prepare(ctx); err != nil {
		return nil, err
	}
	if s.parked, err = parkedKeys(ctx, s.control, relay); err != nil {
		return nil, err
	}
	s.reading, err = newReading(ctx, s.reader, rel, cursor)
	return s, err
}

// acquire takes the lease and returns the cursor it comes with.
func (s *session) acquire(ctx context.Context, owner string, ttl time.Duration) (outbox.Cursor, error) {
	var c outbox.Cursor
	var gaps []byte
	err := s.control.QueryRowContext(ctx, acquireSQL, s.relay, owner, ttl.Milliseconds()).Scan(&s.epoch, &c.Position, &gaps)
	if errors.Is(err, sql.ErrNoRows) {
		return c, outbox.ErrLeaseHeld
	}
	if err != nil {
		return c, fmt.Errorf("acquire the lease of %s: %w", s.relay, err)
	}
	if c.Gaps, err = decodeGaps(gaps, c.Position); err != nil {
		return c, fmt.Errorf("cursor of %s: %w", s.relay, err)
	}
	return c, nil
}

func (s *session) prepare(ctx context.Context) error {
	for _, p := range []struct {
		stmt **sql.Stmt
		text string
	}{{&s.save, saveSQL}, {&s.park, saveParkedSQL}, {&s.renew, renewSQL}} {
		stmt, err := s.control.PrepareContext(ctx, p.text)
		if err != nil {
			return fmt.Errorf("prepare the cursor: %w", err)
		}
		*p.stmt = stmt
	}
	return nil
}

func parkedKeys(ctx context.Context, conn *sql.Conn, relay string) ([]outbox.ParkedKey, error) {
	rows, err := conn.QueryContext(ctx, parkedKeysSQL, relay)
	if err != nil {
		return nil, fmt.Errorf("read the parked keys: %w", err)
	}
	defer rows.Close()
	var keys []outbox.ParkedKey
	for rows.Next() {
		var k outbox.ParkedKey
		if err := rows.Scan(&k.Topic, &k.Key); err != nil {
			return nil, fmt.Errorf("read the parked keys: %w", err)
		}
		keys = append(keys, k)
	}
	return keys, rows.Err()
}

// Epoch implements outbox.Session.
func (s *session) Epoch() int64 { return s.epoch }

// Parked implements outbox.Session.
func (s *session) Parked() []outbox.ParkedKey { return s.parked }

// Read implements outbox.Session.
func (s *session) Read(ctx context.Context, limit, maxBytes int) (outbox.Batch, error) {
	return s.reading.poll(ctx, limit, maxBytes)
}

// Save implements outbox.Session.
func (s *session) Save(ctx context.Context, cp outbox.Checkpoint) error {
	s.controlling.Lock()
	defer s.controlling.Unlock()
	var moved int64
	args := []any{s.relay, s.epoch, cp.Cursor.Position, encodeGaps(cp.Cursor.Gaps)}
	if len(cp.Parked) == 0 {
		result, err := s.save.ExecContext(ctx, args...)
		if err != nil {
			return err
		}
		if moved, err = result.RowsAffected(); err != nil {
			return err
		}
	} else {
		n := len(cp.Parked)
		positions, topics, keys, reasons := make([]int64, n), make([]string, n), make([]string, n), make([]string, n)
		for i, p := range cp.Parked {
			positions[i], topics[i], keys[i], reasons[i] = p.Position, p.Topic, p.Key, storable(p.Reason)
		}
		args = append(args, pq.Array(positions), pq.Array(topics), pq.Array(keys), pq.Array(reasons))
		if err := s.park.QueryRowContext(ctx, args...).Scan(&moved); err != nil {
			return err
		}
	}
	if moved == 0 {
		return outbox.ErrLeaseLost
	}
	return nil
}

// storable makes a reason fit for a text column, at most about 1 KiB.
func storable(reason string) string {
	if len(reason) > 1024 {
		reason = reason[:1024]
	}
	if !utf8.ValidString(reason) || strings.IndexByte(reason, 0) >= 0 {
		reason = strings.ReplaceAll(strings.ToValidUTF8(reason, "\uFFFD"), "\x00", "\uFFFD")
	}
	return reason
}

// Renew implements outbox.Session. It also fails if the sequence has been set back
// below what was read, and returns ErrReopen if there are decisions on parked messages.
func (s *session) Renew(ctx context.Context, ttl time.Duration) error {
	s.controlling.Lock()
	defer s.controlling.Unlock()
	high := s.reading.high.Load() // before the question: reading goes on meanwhile
	var last int64
	var decided bool
	err := s.renew.QueryRowContext(ctx, s.relay, s.epoch, ttl.Milliseconds()).Scan(&last, &decided)
	if errors.Is(err, sql.ErrNoRows) {
		return outbox.ErrLeaseLost
	}
	if err != nil {
		return err
	}
	return renewed(last, high, decided)
}

// Maintain implements outbox.Maintainer: it makes partitions ahead of need and
// drops those past their retention.
func (s *session) Maintain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, upkeepTimeout)
	defer cancel()
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("no connection of the pool is free: %w", err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, makePartitionsSQL); err != nil {
		return fmt.Errorf("make partitions: %w", err)
	}
	if s.retention == Forever {
		return nil
	}
	_, err = dropPartitions(ctx, conn, s.retention)
	return err
}

// Release implements outbox.Session.
func (s *session) Release(ctx context.Context) error {
	defer s.close()
	return s.free(ctx)
}

func (s *session) free(ctx context.Context) error {
	s.controlling.Lock()
	defer s.controlling.Unlock()
	if _, err := s.control.ExecContext(ctx, releaseSQL, s.relay, s.epoch); err != nil {
		return fmt.Errorf("free the lease of %s: %w", s.relay, err)
	}
	return nil
}

// close releases the connections. The reader's is discarded, not pooled: it has
// settings that other users of the pool must not inherit.
func (s *session) close() {
	for _, stmt := range []*sql.Stmt{s.save, s.park, s.renew, s.renewMember} {
		if stmt != nil { // the pool would keep it with the connection
			stmt.Close()
		}
	}
	if s.control != nil {
		s.control.Close()
	}
	if s.reader != nil {
		s.reader.Raw(func(any) error { return errDiscard })
		s.reader.Close()
	}
}
