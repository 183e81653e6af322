package pgstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"strings"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"github.com/millrace-go/millrace/outbox"
)

// A page ends at so many rows, or so many bytes of payload.
const (
	pageRows  = 1000
	pageBytes = 4 << 20
)

// History reads the log back. It holds no connection between two pages, and each
// page has its own snapshot: read up to Stable to see a log that does not change.
// Reading by aggregate or by key goes through the whole log unless the indexes
// that Store.EnableHistory makes are there. It is safe for concurrent use.
type History struct {
	db                          *sql.DB
	rel                         relations
	span, byKey, byAggregate    *sql.Stmt
	byVersion                   *sql.Stmt
	last, holders, first, atEnd *sql.Stmt
}

var _ outbox.History = (*History)(nil)

// History prepares the reading of the store's log. It refuses an unsafe log with
// an *outbox.UnsafeError. Close the History when done.
func (s *Store) History(ctx context.Context) (_ *History, err error) {
	h := &History{db: s.db}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close())
		}
	}()
	if h.rel, err = guard(ctx, s.db, 0); err != nil {
		return nil, err
	}
	for _, p := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&h.span, rangeSQL}, {&h.byKey, byKeySQL}, {&h.byAggregate, byAggregateSQL}, {&h.byVersion, byVersionSQL},
		{&h.last, sequenceSQL}, {&h.holders, holdersSQL}, {&h.first, firstFromSQL}, {&h.atEnd, endSQL},
	} {
		if *p.stmt, err = s.db.PrepareContext(ctx, p.text); err != nil {
			return nil, fmt.Errorf("prepare the history: %w", err)
		}
	}
	return h, nil
}

// Close frees the prepared statements. The database stays open.
func (h *History) Close() error {
	var errs []error
	for _, stmt := range []*sql.Stmt{h.span, h.byKey, h.byAggregate, h.byVersion, h.last, h.holders, h.first, h.atEnd} {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	return errors.Join(errs...)
}

// Range implements outbox.History.
func (h *History) Range(ctx context.Context, r outbox.Range) iter.Seq2[outbox.Entry, error] {
	return h.pages(ctx, r, h.span)
}

// ByKey implements outbox.History.
func (h *History) ByKey(ctx context.Context, topic, key string, r outbox.Range) iter.Seq2[outbox.Entry, error] {
	return h.pages(ctx, r, h.byKey, topic, key)
}

// ByAggregate implements outbox.History.
func (h *History) ByAggregate(ctx context.Context, aggregateType, aggregateID string, fromVersion int64) iter.Seq2[outbox.Entry, error] {
	all := outbox.Range{Lo: 1, Hi: math.MaxInt64}
	if fromVersion <= 0 {
		return h.pages(ctx, all, h.byAggregate, aggregateType, aggregateID)
	}
	return h.pages(ctx, all, h.byVersion, aggregateType, aggregateID, fromVersion)
}

// pages yields what stmt returns for the positions of r, page by page. Its first
// parameters are the positions before the first and of the last, and the limit.
func (h *History) pages(ctx context.Context, r outbox.Range, stmt *sql.Stmt, more ...any) iter.Seq2[outbox.Entry, error] {
	return func(yield func(outbox.Entry, error) bool) {
		scan := newScanner()
		for after := r.Lo - 1; after < r.Hi; {
			rows, err := stmt.QueryContext(ctx, append([]any{after, r.Hi, pageRows}, more...)...)
			if err != nil {
				yield(outbox.Entry{}, fmt.Errorf("read the log: %w", err))
				return
			}
			entries, cut, err := scan.all(rows, pageRows, pageBytes)
			if err != nil {
				yield(outbox.Entry{}, err)
				return
			}
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
				after = e.Position
			}
			if !cut {
				return
			}
		}
	}
}

// slack is how far the order of creation times may differ from that of the
// positions: both are drawn at the same moment, one after the other.
const slack = time.Minute

// Between implements outbox.History. It takes created_at to rise with the
// position, but for a minute: rows whose writer set it otherwise may be missed.
func (h *History) Between(ctx context.Context, since, until time.Time) (outbox.Range, error) {
	r := outbox.Range{Lo: 1}
	if err := h.atEnd.QueryRowContext(ctx).Scan(&r.Hi); err != nil {
		return r, fmt.Errorf("find the end of the log: %w", err)
	}
	end := r.Hi + 1
	var err error
	if !since.IsZero() {
		if r.Lo, err = h.firstSince(ctx, since.Add(-slack), end); err != nil {
			return r, err
		}
	}
	if !until.IsZero() {
		first, err := h.firstSince(ctx, until.Add(slack), end)
		if err != nil {
			return r, err
		}
		r.Hi = first - 1
	}
	return r, nil
}

// firstSince finds the first position, below end, from which on the entries were
// created at t or later.
func (h *History) firstSince(ctx context.Context, t time.Time, end int64) (int64, error) {
	lo, hi := int64(1), end
	for lo < hi {
		mid := lo + (hi-lo)/2
		var position int64
		var created time.Time
		err := h.first.QueryRowContext(ctx, mid).Scan(&position, &created)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			hi = mid
		case err != nil:
			return 0, fmt.Errorf("find the positions of a time: %w", err)
		case created.Before(t):
			lo = position + 1
		default:
			hi = mid
		}
	}
	return lo, nil
}

// patience is how long Stable waits for the transactions that are open.
const patience = 200 * time.Millisecond

// Stable implements outbox.History by the rule of the gap ledger: once everybody
// who may have drawn a position has ended, the log is final up to the last one
// drawn. If that takes longer than 200 ms, it is what the furthest relay has left
// nothing out of, which is the same rule applied earlier.
func (h *History) Stable(ctx context.Context) (int64, error) {
	var last int64
	var called bool
	if err := h.last.QueryRowContext(ctx).Scan(&last, &called); err != nil {
		return 0, fmt.Errorf("read the sequence: %w", err)
	}
	if !called {
		last--
	}
	// Statements of their own: who is not seen from here on has ended before, and
	// what it wrote is visible to every later snapshot.
	suspects, err := h.writers(ctx)
	if err != nil {
		return 0, err
	}
	pause := time.NewTicker(patience / 40)
	defer pause.Stop()
	for began := time.Now(); len(suspects) > 0; {
		if time.Since(began) > patience {
			return furthestDelivered(ctx, h.db)
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-pause.C:
		}
		now, err := h.writers(ctx)
		if err != nil {
			return 0, err
		}
		maps.DeleteFunc(suspects, func(virtual string, _ bool) bool { return !now[virtual] })
	}
	return last, nil
}

// writers returns the virtual transactions that may have drawn a position.
func (h *History) writers(ctx context.Context) (map[string]bool, error) {
	rows, err := h.holders.QueryContext(ctx, h.rel.database, h.rel.sequence)
	if err != nil {
		return nil, fmt.Errorf("see who writes: %w", err)
	}
	defer rows.Close()
	all := map[string]bool{}
	for rows.Next() {
		var virtual, none string
		if err := rows.Scan(&virtual, &none); err != nil {
			return nil, fmt.Errorf("see who writes: %w", err)
		}
		all[virtual] = true
	}
	return all, rows.Err()
}

// EnableHistory makes the indexes by aggregate and by key, on all partitions and
// for later ones. Writers go on meanwhile; building waits for transactions that
// are open at the time. progress, if not nil, is called with each statement before it
// runs. It needs the owner of the log, and can be called again after an error,
// which is ErrInUse if an open transaction was in the way.
func (s *Store) EnableHistory(ctx context.Context, progress func(statement string)) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("enable history: %w", err)
	}
	defer conn.Close()
	rows, err := conn.QueryContext(ctx, enableHistorySQL)
	if err != nil {
		return enableError(err)
	}
	statements, err := texts(rows)
	if err != nil {
		return enableError(err)
	}
	for _, statement := range statements {
		if progress != nil {
			progress(statement)
		}
		if strings.Contains(statement, " ATTACH ") {
			statement = impatientSQL + statement + patientSQL
		}
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return enableError(err)
		}
	}
	return nil
}

func enableError(err error) error {
	if pq.As(err, pqerror.LockNotAvailable) != nil {
		err = ErrInUse
	}
	return fmt.Errorf("enable history: %w", err)
}

func texts(rows *sql.Rows) (all []string, err error) {
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		all = append(all, text)
	}
	return all, rows.Err()
}
