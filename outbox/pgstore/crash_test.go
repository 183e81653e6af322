package pgstore

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
)

// TestReading_WaitsForTransactionsPreparedBeforeACrash: a crash gives prepared
// transactions another name in pg_locks. A reader that goes on from its saved
// cursor waits for them, and so does one that kept its ledger in memory, as a
// pool that reconnects silently would make it do.
func TestReading_WaitsForTransactionsPreparedBeforeACrash(t *testing.T) {
	t.Parallel()
	for name, kept := range map[string]bool{"cursor reloaded": false, "ledger kept": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := harness.PrivatePostgres(t, harness.PostgresConfig{})
			s := newStageOn(t, harness.DatabaseOn(t, server).DB, soundPoll)
			straggler := s.begin().write("a", 1)
			s.begin().write("b", 1).commit()
			require.NoError(t, s.polls(1))
			straggler.prepare("straggler")
			require.NoError(t, s.polls(2))
			s.save()
			old := s.reading.ledger

			require.NoError(t, server.Kill())
			require.NoError(t, server.Start(t.Context()))
			s.acquire("after the crash")
			if kept {
				s.reading.ledger = old
			}
			holders, err := s.reading.readHolders(t.Context())
			require.NoError(t, err)
			require.Len(t, holders, 1)
			require.True(t, holders[0].orphan(), "holder %q", holders[0].virtual)
			require.NoError(t, s.polls(4))
			require.Len(t, s.reading.ledger.ranges, 1, "the gap stays open")
			straggler.commitPrepared("straggler")
			require.NoError(t, s.finish())
		})
	}
}

// TestSession_LeavesNoPreparedStatementsBehind: connections go back to the pool.
func TestSession_LeavesNoPreparedStatementsBehind(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t).DB
	db.SetMaxOpenConns(2)
	store, err := New(db, Config{})
	require.NoError(t, err)
	for range 3 {
		leader, err := store.Acquire(t.Context(), "leak", "test", time.Minute)
		require.NoError(t, err)
		require.NoError(t, leader.Release(context.Background()))
	}
	var left int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_prepared_statements").Scan(&left))
	require.Zero(t, left)
}
