package pgstore_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	"github.com/millrace-go/millrace/test/harness"
)

// hang runs a doorbell for the test and counts its rings.
func hang(t *testing.T, dsn string, db *harness.Database) (*pgstore.Doorbell, *atomic.Int64) {
	bell := pgstore.NewDoorbell(dsn, db.DB, "r")
	var rings atomic.Int64
	background(t, func(ctx context.Context) error { return bell.Run(ctx, func() { rings.Add(1) }) })
	return bell, &rings
}

// background runs f until the test ends.
func background(t *testing.T, f func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

func TestDoorbell_RingsOnlyWhileTheRelayIsIdle(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	bell, rings := hang(t, db.DSN, db)
	require.Eventually(t, bell.Working, 2*time.Minute, time.Millisecond, "the self-test is heard")
	ringer := pgstore.NewRinger(db.DB)
	background(t, ringer.Run)

	_, err := db.DB.ExecContext(t.Context(), `SELECT outbox_ring()`)
	require.NoError(t, err)
	require.NoError(t, bell.Idle(t.Context(), time.Minute))
	require.Zero(t, rings.Load(), "nobody rings a relay at work")
	ringer.Ring()
	require.Eventually(t, func() bool { return rings.Load() == 1 }, 2*time.Minute, time.Millisecond)
	require.NoError(t, bell.Idle(t.Context(), 0))
	_, err = db.DB.ExecContext(t.Context(), `SELECT outbox_ring(); SELECT pg_notify('outbox_doorbell', 'r 0')`)
	require.NoError(t, err)
	require.Equal(t, int64(1), rings.Load())
}

func TestDoorbell_ForeignWritersRingByTrigger(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	bell, rings := hang(t, db.DSN, db)
	require.Eventually(t, bell.Working, 2*time.Minute, time.Millisecond)
	require.NoError(t, bell.Idle(t.Context(), time.Minute))
	_, err := db.DB.ExecContext(t.Context(), `SELECT outbox_enable_doorbell(); SELECT outbox_append('t', 'k', 'x')`)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return rings.Load() == 1 }, 2*time.Minute, time.Millisecond)
}

func TestDoorbell_NoticesThatNotificationsAreSwallowed(t *testing.T) {
	t.Parallel()
	db, elsewhere := harness.NewDatabase(t), harness.NewDatabase(t)
	// It listens where nobody notifies, as behind a pooler in transaction mode.
	bell, _ := hang(t, elsewhere.DSN, db)
	require.Never(t, bell.Working, 3*time.Second, 100*time.Millisecond)
}

func TestDoorbell_SurvivesTheLossOfItsConnection(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	bell, rings := hang(t, db.DSN, db)
	require.Eventually(t, bell.Working, 2*time.Minute, time.Millisecond)
	require.NoError(t, bell.Idle(t.Context(), time.Minute))
	_, err := db.DB.ExecContext(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'`)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return rings.Load() > 0 }, 2*time.Minute, time.Millisecond, "a reconnection counts as a ring")
	was := rings.Load()
	require.Eventually(t, func() bool {
		_, err := db.DB.ExecContext(t.Context(), `SELECT outbox_ring()`)
		return err == nil && rings.Load() > was
	}, 2*time.Minute, 10*time.Millisecond)
	require.True(t, bell.Working())
}

var _ outbox.Doorbell = (*pgstore.Doorbell)(nil)
