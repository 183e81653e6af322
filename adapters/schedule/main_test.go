package schedule_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/test/harness"
)

// TestMain runs the tests, or a node of them in a process of its own.
func TestMain(m *testing.M) {
	if role := os.Getenv(envRole); role != "" {
		os.Exit(runRole(role))
	}
	harness.Main(m)
}

func postgresLocks(t *testing.T, db *harness.Database) *lock.Postgres {
	t.Helper()
	locks, err := lock.NewPostgres(db.DB)
	require.NoError(t, err)
	require.NoError(t, locks.Check(t.Context()))
	return locks
}
