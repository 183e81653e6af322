package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
)

func newHistory(t testing.TB, s *pgstore.Store) *pgstore.History {
	t.Helper()
	h, err := s.History(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	return h
}

func all(t testing.TB, entries iter.Seq2[outbox.Entry, error]) (got []outbox.Entry) {
	t.Helper()
	for e, err := range entries {
		require.NoError(t, err)
		got = append(got, e)
	}
	return got
}

// story commits n versions of each of 5 aggregates, interleaved, two to a row
// group without an aggregate, over several partitions.
func story(t *testing.T, s subject, n int) {
	t.Helper()
	smallPartitions(t, s.db)
	for v := 1; v <= n; v++ {
		msgs := []outbox.Message{{Topic: "plain.v1", Key: "k-1", Payload: fmt.Appendf(nil, "plain %d", v)}}
		for a := range 5 {
			msgs = append(msgs, outbox.Message{
				Topic: "order.v1", Key: fmt.Sprintf("o-%d", a), Type: "order.changed",
				AggregateType: "order", AggregateID: fmt.Sprintf("o-%d", a), AggregateVersion: int64(v),
				Headers: map[string]string{"schema-version": "1"}, Payload: fmt.Appendf(nil, "%d", v),
			})
		}
		s.write(t, msgs...)
	}
}

func TestHistory_ReadsStreamsKeysAndRanges(t *testing.T) {
	t.Parallel()
	for _, indexed := range []bool{false, true} {
		t.Run(fmt.Sprintf("indexed %t", indexed), func(t *testing.T) {
			t.Parallel()
			s := newSubject(t, true)
			const versions = 1300 // more than a page
			story(t, s, versions)
			if indexed {
				require.NoError(t, s.EnableHistory(t.Context(), nil))
			}
			h := newHistory(t, s.Store)

			stream := all(t, h.ByAggregate(t.Context(), "order", "o-3", 0))
			require.Len(t, stream, versions)
			for i, e := range stream {
				require.EqualValues(t, i+1, e.AggregateVersion)
				require.Equal(t, fmt.Sprint(i+1), string(e.Payload))
				require.Equal(t, "order.changed", e.Type)
				require.Equal(t, map[string]string{"schema-version": "1"}, e.Headers)
			}
			require.Equal(t, stream[1249:], all(t, h.ByAggregate(t.Context(), "order", "o-3", 1250)))
			require.Empty(t, all(t, h.ByAggregate(t.Context(), "order", "nobody", 0)))

			some := outbox.Range{Lo: stream[10].Position, Hi: stream[1200].Position}
			require.Equal(t, stream[10:1201], all(t, h.ByKey(t.Context(), "order.v1", "o-3", some)))
			require.Len(t, all(t, h.ByKey(t.Context(), "plain.v1", "k-1", outbox.Range{Lo: 1, Hi: 1 << 62})), versions)

			rows := all(t, h.Range(t.Context(), some))
			require.Len(t, rows, int(some.Hi-some.Lo)+1)
			for i, e := range rows {
				require.Equal(t, some.Lo+int64(i), e.Position)
			}
		})
	}
}

func TestHistory_StopsWhenTheReaderDoes(t *testing.T) {
	t.Parallel()
	s := newSubject(t, false)
	s.db.SetMaxOpenConns(1) // a connection left behind would block what follows
	fillLog(t, s.db, 3000, 0)
	h := newHistory(t, s.Store)
	n := 0
	for _, err := range h.Range(t.Context(), outbox.Range{Lo: 1, Hi: 3000}) {
		require.NoError(t, err)
		if n++; n == 1500 {
			break
		}
	}
	require.Equal(t, 3000, count(t, s.db, `SELECT count(*) FROM outbox`))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n = 0
	var last error
	for _, err := range h.Range(ctx, outbox.Range{Lo: 1, Hi: 3000}) {
		if n++; n == 10 {
			cancel()
		}
		last = err
	}
	require.ErrorIs(t, last, context.Canceled)
}

func TestHistory_FindsThePositionsOfATime(t *testing.T) {
	t.Parallel()
	s := newSubject(t, false)
	h := newHistory(t, s.Store)
	r, err := h.Between(t.Context(), time.Now(), time.Time{})
	require.NoError(t, err)
	require.Greater(t, r.Lo, r.Hi, "an empty log has no positions")
	for _, hours := range []int{5, 4, 3, 2, 1} {
		fillLog(t, s.db, 1000, time.Duration(hours)*time.Hour)
	}
	_, err = s.db.ExecContext(t.Context(), `DELETE FROM outbox WHERE position % 3 = 0`) // as rolled-back positions are
	require.NoError(t, err)
	now := time.Now()
	r, err = h.Between(t.Context(), now.Add(-210*time.Minute), now.Add(-90*time.Minute))
	require.NoError(t, err)
	entries := all(t, h.Range(t.Context(), r))
	require.InDelta(t, 2001, entries[0].Position, 1)
	require.InDelta(t, 4000, entries[len(entries)-1].Position, 1)
	r, err = h.Between(t.Context(), time.Time{}, time.Time{})
	require.NoError(t, err)
	require.Equal(t, outbox.Range{Lo: 1, Hi: 5000}, r)
}

func TestHistory_IndexesAreUsedAndReachLaterPartitions(t *testing.T) {
	t.Parallel()
	s := newSubject(t, true)
	story(t, s, 100)
	var told []string
	require.NoError(t, s.EnableHistory(t.Context(), func(statement string) { told = append(told, statement) }))
	require.Contains(t, strings.Join(told, "\n"), "CREATE INDEX CONCURRENTLY outbox_p0_by_aggregate")
	told = nil
	require.NoError(t, s.EnableHistory(t.Context(), func(statement string) { told = append(told, statement) }))
	require.Empty(t, told, "nothing is left to do")

	leaves := `SELECT count(*) FROM pg_inherits WHERE inhparent = 'outbox_by_aggregate'::regclass`
	before := count(t, s.db, leaves)
	fillLog(t, s.db, 2*leafSize, 0)
	morePartitions(t, s.db)
	require.Greater(t, count(t, s.db, leaves), before, "a new partition has the index")
	require.Equal(t, 2, count(t, s.db, `SELECT count(*) FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
		WHERE x.indisvalid AND c.relname IN ('outbox_by_aggregate', 'outbox_by_key')`))

	_, err := s.db.ExecContext(t.Context(), `ANALYZE outbox`)
	require.NoError(t, err)
	for query, index := range map[string]string{
		`SELECT * FROM outbox WHERE aggregate_type = 'order' AND aggregate_id = 'o-1' AND aggregate_id <> '' AND aggregate_version >= 50
		  AND position > 0 AND position <= 1e9::bigint ORDER BY position LIMIT 1000`: "_by_aggregate",
		`SELECT * FROM outbox WHERE topic = 'order.v1' AND key = 'o-1' AND position > 0 AND position <= 1e9::bigint ORDER BY position LIMIT 1000`: "_by_key",
	} {
		require.Contains(t, explain(t, s, query), index)
	}
}

func explain(t *testing.T, s subject, query string) string {
	t.Helper()
	rows, err := s.db.QueryContext(t.Context(), `EXPLAIN `+query)
	require.NoError(t, err)
	defer rows.Close()
	var plan strings.Builder
	for rows.Next() {
		var line string
		require.NoError(t, rows.Scan(&line))
		plan.WriteString(line + "\n")
	}
	require.NoError(t, rows.Err())
	return plan.String()
}

func TestEnableHistory_WritersGoOn(t *testing.T) {
	t.Parallel()
	s := newSubject(t, true)
	smallPartitions(t, s.db)
	fillLog(t, s.db, 20*leafSize, 0)
	open, err := s.db.Begin()
	require.NoError(t, err)
	require.NoError(t, s.writer.Append(t.Context(), open, outbox.Message{Topic: "t", Key: "k"}))
	require.ErrorIs(t, s.EnableHistory(t.Context(), nil), pgstore.ErrInUse)
	require.NoError(t, open.Commit())

	stop := make(chan struct{})
	var slowest time.Duration
	var writes int
	var writer errgroup.Group
	writer.Go(func() error {
		for {
			select {
			case <-stop:
				return nil
			default:
			}
			began := time.Now()
			tx, err := s.db.BeginTx(t.Context(), nil)
			if err != nil {
				return err
			}
			if err := s.writer.Append(t.Context(), tx, outbox.Message{Topic: "t", Key: "k"}); err != nil {
				return errors.Join(err, tx.Rollback())
			}
			if err := tx.Commit(); err != nil {
				return err
			}
			slowest = max(slowest, time.Since(began))
			writes++
		}
	})
	err = pgstore.ErrInUse
	for errors.Is(err, pgstore.ErrInUse) {
		err = s.EnableHistory(t.Context(), nil)
	}
	require.NoError(t, err)
	close(stop)
	require.NoError(t, writer.Wait())
	t.Logf("%d writes meanwhile, the slowest %s", writes, slowest)
	require.Positive(t, writes)
	require.Less(t, slowest, 30*time.Second, "a write waits for no transaction that stays open; 50 ms is the promise on a quiet machine")
}

// TestStable_NothingAppearsBelowIt asks for the stable position beside writers
// that commit late, out of order, or not at all.
func TestStable_NothingAppearsBelowIt(t *testing.T) {
	t.Parallel()
	s := newSubject(t, true)
	s.db.SetMaxOpenConns(20)
	h := newHistory(t, s.Store)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var writers errgroup.Group
	var writing atomic.Int32
	for i := range 8 {
		writing.Add(1)
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		writers.Go(func() error {
			defer writing.Add(-1)
			for range 60 {
				if err := hesitate(t.Context(), s, r); err != nil {
					return err
				}
			}
			return nil
		})
	}
	seen := map[int64]int{} // stable position -> rows up to it
	for writing.Load() > 0 {
		p, err := h.Stable(t.Context())
		require.NoError(t, err)
		seen[p] = count(t, s.db, fmt.Sprintf(`SELECT count(*) FROM outbox WHERE position <= %d`, p))
	}
	require.NoError(t, writers.Wait())
	for p, rows := range seen {
		require.Equal(t, rows, count(t, s.db, fmt.Sprintf(`SELECT count(*) FROM outbox WHERE position <= %d`, p)), "position %d", p)
	}
	t.Logf("%d stable positions", len(seen))
	require.Greater(t, len(seen), 5)
}

// hesitate writes a row and commits it, or not, up to 60 ms later.
func hesitate(ctx context.Context, s subject, r *rand.Rand) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	err = s.writer.Append(ctx, tx, outbox.Message{Topic: "t", Key: "k"})
	if err == nil && r.IntN(3) == 0 {
		_, err = tx.ExecContext(ctx, `SELECT pg_sleep($1)`, r.Float64()*0.06)
	}
	if err != nil || r.IntN(5) == 0 {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func TestStable_BesideALongWriterIsWhatARelayHasLeftNothingOutOf(t *testing.T) {
	t.Parallel()
	s := newSubject(t, false)
	h := newHistory(t, s.Store)
	p, err := h.Stable(t.Context())
	require.NoError(t, err)
	require.Zero(t, p, "an empty log")
	fillLog(t, s.db, 10, 0)
	p, err = h.Stable(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 10, p)

	tx, err := s.db.Begin()
	require.NoError(t, err)
	require.NoError(t, s.writer.Append(t.Context(), tx, outbox.Message{Topic: "t", Key: "k"}))
	fillLog(t, s.db, 10, 0)
	p, err = h.Stable(t.Context())
	require.NoError(t, err)
	require.Zero(t, p, "no relay knows better")
	setCursor(t, s.db, "a", outbox.Cursor{Position: 15, Gaps: []outbox.Range{{Lo: 11, Hi: 11}}})
	setCursor(t, s.db, "b", outbox.Cursor{Position: 7})
	p, err = h.Stable(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 10, p)
	require.NoError(t, tx.Commit())
	p, err = h.Stable(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 21, p)
}
