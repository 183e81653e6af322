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

// listen runs a Listener for the test and counts its calls of wake.
func listen(t *testing.T, dsn string, db *harness.Database) (*pgstore.Listener, *atomic.Int64) {
	listener, err := pgstore.NewListener(dsn, db.DB, "r")
	require.NoError(t, err)
	var notified atomic.Int64
	background(t, func(ctx context.Context) error { return listener.Run(ctx, func() { notified.Add(1) }) })
	return listener, &notified
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

func TestListener_IsNotifiedOnlyWhileTheRelayIsIdle(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	listener, notified := listen(t, db.DSN, db)
	require.Eventually(t, listener.Working, 2*time.Minute, time.Millisecond, "the self-test is heard")
	notifier, err := pgstore.NewNotifier(db.DB)
	require.NoError(t, err)
	background(t, notifier.Run)

	_, err = db.DB.ExecContext(t.Context(), `SELECT outbox_ring()`)
	require.NoError(t, err)
	require.NoError(t, listener.Arm(t.Context(), time.Minute))
	require.Zero(t, notified.Load(), "nobody notified a relay at work")
	notifier.Notify()
	require.Eventually(t, func() bool { return notified.Load() == 1 }, 2*time.Minute, time.Millisecond)
	require.NoError(t, listener.Disarm(t.Context()))
	_, err = db.DB.ExecContext(t.Context(), `SELECT outbox_ring(); SELECT pg_notify('outbox_doorbell', 'r 0')`)
	require.NoError(t, err)
	require.Equal(t, int64(1), notified.Load())
}

func TestListener_TriggerNotifiesForForeignWriters(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	listener, notified := listen(t, db.DSN, db)
	require.Eventually(t, listener.Working, 2*time.Minute, time.Millisecond)
	require.NoError(t, listener.Arm(t.Context(), time.Minute))
	_, err := db.DB.ExecContext(t.Context(), `SELECT outbox_enable_doorbell(); SELECT outbox_append('t', 'k', 'x')`)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return notified.Load() == 1 }, 2*time.Minute, time.Millisecond)
}

func TestListener_DetectsThatNotificationsAreSwallowed(t *testing.T) {
	t.Parallel()
	db, elsewhere := harness.NewDatabase(t), harness.NewDatabase(t)
	// It listens where nobody notifies, as behind a pooler in transaction mode.
	listener, _ := listen(t, elsewhere.DSN, db)
	require.Never(t, listener.Working, 3*time.Second, 100*time.Millisecond)
}

func TestListener_SurvivesTheLossOfItsConnection(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	listener, notified := listen(t, db.DSN, db)
	require.Eventually(t, listener.Working, 2*time.Minute, time.Millisecond)
	require.NoError(t, listener.Arm(t.Context(), time.Minute))
	_, err := db.DB.ExecContext(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'`)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return notified.Load() > 0 }, 2*time.Minute, time.Millisecond, "a reconnection counts as a notification")
	was := notified.Load()
	require.Eventually(t, func() bool {
		_, err = db.DB.ExecContext(t.Context(), `SELECT outbox_ring()`)
		return err == nil && notified.Load() > was
	}, 2*time.Minute, 10*time.Millisecond)
	require.True(t, listener.Working())
}

var _ outbox.Listener = (*pgstore.Listener)(nil)
