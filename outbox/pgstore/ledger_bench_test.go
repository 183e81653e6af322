package pgstore

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/harness"
)

const drained = 1_000_000 // positions

// BenchmarkReading_Drain reads a full log from the start: rows of 100 bytes,
// without gaps and with every fifth position missing.
func BenchmarkReading_Drain(b *testing.B) {
	for _, gap := range []int{0, 5} {
		db := harness.NewDatabase(b).DB
		fill(b, db, fmt.Sprintf("SELECT g, 'bench', 'key' || g %% 1000, decode(repeat('ab', 100), 'hex') FROM generate_series(1, %d) g WHERE %d = 0 OR g %% nullif(%d, 0) <> 0",
			drained, gap, gap))
		for _, limit := range []int{1000, 5000} {
			b.Run(fmt.Sprintf("gaps=%d%%/n=%d", map[int]int{0: 0, 5: 20}[gap], limit), func(b *testing.B) {
				s := openReading(b, db, outbox.Cursor{})
				rows := 0
				for b.Loop() {
					s.reading.ledger = newLedger(outbox.Cursor{})
					for more := true; more; {
						batch, err := s.reading.poll(b.Context(), limit, 1<<30)
						require.NoError(b, err)
						rows += len(batch.Entries)
						more = batch.More
					}
				}
				b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// BenchmarkReading_EmptyPoll polls a log in which nothing is new and a holder
// keeps so many single gaps open.
func BenchmarkReading_EmptyPoll(b *testing.B) {
	db := harness.NewDatabase(b).DB
	fill(b, db, "SELECT g, 'bench', 'key', NULL FROM generate_series(2, 20002, 2) g")
	for _, gaps := range []int{0, 100, 10_000} {
		for _, guarded := range []bool{false, true} {
			b.Run(fmt.Sprintf("gaps=%d/guarded=%t", gaps, guarded), func(b *testing.B) {
				tx, err := db.BeginTx(b.Context(), nil)
				require.NoError(b, err)
				defer tx.Rollback()
				_, err = tx.ExecContext(b.Context(), "INSERT INTO outbox (topic, key) VALUES ('bench', 'holder')")
				require.NoError(b, err)
				cursor := outbox.Cursor{Position: 30_000}
				for i := range gaps {
					cursor.Gaps = append(cursor.Gaps, outbox.Range{Lo: int64(2*i + 1), Hi: int64(2*i + 1)})
				}
				s := openReading(b, db, cursor)
				s.reading.guardFrom = 1 << 30
				if guarded {
					s.reading.guardFrom = 1
				}
				for b.Loop() {
					batch, err := s.reading.poll(b.Context(), 1000, 1<<30)
					require.NoError(b, err)
					require.Empty(b, batch.Entries)
				}
				require.Len(b, s.reading.ledger.ranges, gaps)
			})
		}
	}
}

// fill stores rows at given positions and puts the sequence behind them.
func fill(b *testing.B, db *sql.DB, rows string) {
	for _, query := range []string{"INSERT INTO outbox (position, topic, key, payload) OVERRIDING SYSTEM VALUE " + rows,
		"SELECT setval('outbox_position_seq', greatest(30000, (SELECT max(position) FROM outbox)))", "VACUUM ANALYZE outbox"} {
		_, err := db.ExecContext(b.Context(), query)
		require.NoError(b, err)
	}
}

func openReading(b *testing.B, db *sql.DB, c outbox.Cursor) *session {
	store, err := New(db, Config{})
	require.NoError(b, err)
	opened, err := store.Acquire(b.Context(), "bench", "bench", time.Hour)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, opened.Release(context.Background())) })
	s := opened.(*session)
	s.reading.ledger = newLedger(c)
	return s
}
