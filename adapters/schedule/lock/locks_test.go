package lock_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/adapters/schedule/lock/locktest"
	"github.com/millrace-go/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

func TestPostgresLocks_KeepToTheSuite(t *testing.T) {
	t.Parallel()
	locktest.Exercise(t, func(t *testing.T) locktest.Locks {
		db := harness.NewDatabase(t)
		return locktest.Locks{DB: db.DB, Open: func(t *testing.T) (one, other lock.Provider) {
			return postgresLocks(t, db), prepared(t, postgresLocks(t, db))
		}}
	})
}

func TestMemoryLocks_KeepToTheSuite(t *testing.T) {
	t.Parallel()
	locktest.Exercise(t, func(t *testing.T) locktest.Locks {
		return locktest.Locks{DB: harness.NewDatabase(t).DB, Open: func(t *testing.T) (one, other lock.Provider) {
			locks := lock.NewMemory()
			return locks, locks
		}}
	})
}

func postgresLocks(t *testing.T, db *harness.Database) *lock.Postgres {
	t.Helper()
	locks, err := lock.NewPostgres(db.DB)
	require.NoError(t, err)
	require.NoError(t, locks.Check(t.Context()))
	return locks
}

func prepared(t *testing.T, locks *lock.Postgres) *lock.Postgres {
	t.Helper()
	require.NoError(t, locks.Prepare(t.Context()))
	t.Cleanup(func() { require.NoError(t, locks.Close()) })
	return locks
}
