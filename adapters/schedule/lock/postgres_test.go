package lock_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/adapters/schedule/lock/locktest"
	"github.com/millrace-go/millrace/outbox/pgstore"
	migrations "github.com/millrace-go/millrace/sql"
	"github.com/millrace-go/millrace/test/harness"
)

func TestPostgresLocks_ADeletedRowIsMadeAgainUnderAHigherFence(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	locks := postgresLocks(t, db)
	claim := func() lock.Grant {
		g, err := locks.Acquire(t.Context(), locktest.NewRequest("a", time.Hour))
		require.NoError(t, err)
		return g
	}
	first := claim()
	_, err := db.DB.Exec(`DELETE FROM shedlock`)
	require.NoError(t, err)
	second := claim()
	require.Greater(t, second.Fence, first.Fence)
	require.ErrorIs(t, locks.Renew(t.Context(), first, time.Hour), lock.ErrLost)
	require.NoError(t, locks.Renew(t.Context(), second, time.Hour))
}

// shedlocksTable is as ShedLock's own manual has it for Postgres.
const shedlocksTable = `CREATE TABLE shedlock (name varchar(64) NOT NULL, lock_until timestamp NOT NULL, locked_at timestamp NOT NULL, locked_by varchar(255) NOT NULL, PRIMARY KEY (name))`

func TestPostgresLocks_CheckNamesWhatTheTableLacks(t *testing.T) {
	t.Parallel()
	db := harness.EmptyDatabase(t)
	locks, err := lock.NewPostgres(db.DB)
	require.NoError(t, err)
	for _, c := range []struct{ make, lacks string }{
		{`SELECT 1`, "lacks fence bigint, lock_until timestamp without time zone, locked_at timestamp without time zone, locked_by character varying, name"},
		{shedlocksTable, "lacks fence bigint: run millrace migrate up"},
		{`ALTER TABLE shedlock ALTER lock_until TYPE timestamptz`, "lacks fence bigint, lock_until timestamp without time zone:"},
	} {
		_, err := db.DB.Exec(c.make)
		require.NoError(t, err)
		err = locks.Check(t.Context())
		require.ErrorIs(t, err, lock.ErrUnsafeStore)
		require.ErrorContains(t, err, c.lacks)
	}
	_, err = lock.NewPostgres(nil)
	require.ErrorContains(t, err, "db: must not be nil")
}

// The migration takes over a table that ShedLock's nodes use, with the locks they
// hold. What those nodes send keeps working; the table counts their takings.
func TestMigration_TakesOverShedLocksTable(t *testing.T) {
	t.Parallel()
	db := harness.EmptyDatabase(t)
	exec := func(text string) {
		t.Helper()
		_, err := db.DB.Exec(text)
		require.NoError(t, err)
	}
	exec(shedlocksTable)
	exec(`INSERT INTO shedlock (name, lock_until, locked_at, locked_by) VALUES ('held', timezone('utc', now()) + interval '1 hour', timezone('utc', now()), 'tomcat')`)
	_, err := migrations.Up(t.Context(), db.DB, migrations.Outbox)
	require.NoError(t, err)
	locks := postgresLocks(t, db)
	_, err = locks.Acquire(t.Context(), locktest.NewRequest("held", time.Minute))
	require.ErrorIs(t, err, lock.ErrNotAcquired)

	fence := func() (f int64) {
		require.NoError(t, db.DB.QueryRow(`SELECT fence FROM shedlock WHERE name = 'held'`).Scan(&f))
		return f
	}
	before := fence()
	exec(`UPDATE shedlock SET lock_until = timezone('utc', now()) + interval '2 hours' WHERE name = 'held' AND locked_by = 'tomcat'`)
	require.Equal(t, before, fence(), "extended")
	exec(`UPDATE shedlock SET lock_until = timezone('utc', now()) WHERE name = 'held' AND locked_by = 'tomcat'`)
	require.Equal(t, before, fence(), "unlocked")
	exec(`UPDATE shedlock SET lock_until = timezone('utc', now()) + interval '1 hour', locked_at = timezone('utc', clock_timestamp()), locked_by = 'tomcat' WHERE name = 'held'`)
	taken := fence()
	require.Greater(t, taken, before, "taken again")
	exec(`UPDATE shedlock SET lock_until = timezone('utc', now()) - interval '1 second' WHERE name = 'held'`)
	g, err := locks.Acquire(t.Context(), locktest.NewRequest("held", time.Minute))
	require.NoError(t, err)
	require.Greater(t, g.Fence, taken)
	require.Equal(t, g.Fence, fence(), "and ours is not counted twice")
}

// While Postgres is frozen nobody can renew: the task is told in time, and Do
// returns, although a statement of lib/pq is not ended by its context.
func TestLocker_AFrozenPostgresCancelsTheTask(t *testing.T) {
	t.Parallel()
	server, err := harness.StartPostgres(t.Context(), harness.PostgresConfig{MaxConnections: 20})
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Stop(context.Background()) })
	migrated := harness.DatabaseOn(t, server)
	db, err := pgstore.Open(migrated.DSN, pgstore.OpenConfig{ReplyTimeout: time.Second, DialTimeout: time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	locks, err := lock.NewPostgres(db)
	require.NoError(t, err)
	locker, err := lock.NewLocker(locks, lock.Config{Lease: 2 * time.Second, Timeout: time.Second})
	require.NoError(t, err)
	done := make(chan lock.Result[struct{}], 1)
	go func() {
		done <- locker.Do(t.Context(), lock.Lock{Name: "j", AtMostFor: time.Hour}, func(ctx context.Context) error {
			if err := server.Pause(); err != nil {
				return err
			}
			<-ctx.Done()
			return nil
		})
	}()
	select {
	case r := <-done:
		require.ErrorIs(t, r.Err, lock.ErrLost)
	case <-time.After(3 * time.Minute):
		require.Fail(t, "the task was not told")
	}
	r := locker.Do(t.Context(), lock.Lock{Name: "j", AtMostFor: time.Hour}, func(context.Context) error { panic("not to be run") })
	require.False(t, r.Executed)
	require.Error(t, r.Err)
	require.NoError(t, server.Resume())
	harness.Await(t, 3*time.Minute, "it goes on by itself", func(context.Context) error {
		return locker.Do(t.Context(), lock.Lock{Name: "j", AtMostFor: time.Hour}, func(context.Context) error { return nil }).Err
	})
}

// A guarded transaction of a holder whose lock has lapsed keeps takers out, and
// they do not queue for it: the lock is not to be had, and the node goes on.
func TestTrap_2_4_ATakerDoesNotQueueBehindAGuardedTransaction(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	locks := postgresLocks(t, db)
	g, err := locks.Acquire(t.Context(), locktest.NewRequest("a", time.Second))
	require.NoError(t, err)
	g.Lease = 30 * time.Second // so that the database lets the transaction be
	tx, err := db.DB.BeginTx(context.Background(), nil)
	require.NoError(t, err)
	require.NoError(t, locks.Guard(t.Context(), tx, g))
	harness.Await(t, 2*time.Minute, "the lock has lapsed", func(ctx context.Context) error {
		var lapsed bool
		err := db.DB.QueryRowContext(ctx, `SELECT lock_until <= timezone('utc', clock_timestamp()) FROM shedlock WHERE name = 'a'`).Scan(&lapsed)
		if err == nil && !lapsed {
			err = errors.New("not yet")
		}
		return err
	})
	_, err = locks.Acquire(t.Context(), locktest.NewRequest("a", time.Minute))
	require.ErrorIs(t, err, lock.ErrNotAcquired)
	require.NoError(t, tx.Commit(), "it was open all the while")
	_, err = locks.Acquire(t.Context(), locktest.NewRequest("a", time.Minute))
	require.NoError(t, err)
}
