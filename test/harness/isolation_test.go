package harness_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	migrations "github.com/millrace-go/millrace/sql"
	"github.com/millrace-go/millrace/test/harness"
)

func TestNewDatabase_HasTheLinesThatWereAskedFor(t *testing.T) {
	t.Parallel()
	plain, both := harness.NewDatabase(t), harness.NewDatabase(t, migrations.Lines()...)
	service := harness.NewDatabase(t, migrations.Service)
	for name, want := range map[string][3]bool{"outbox": {true, true, false}, "notification": {false, true, true}} {
		require.Equal(t, want, [3]bool{hasTable(t, plain, name), hasTable(t, both, name), hasTable(t, service, name)}, name)
	}
}

func TestNewDatabase_IsMigratedAndAlone(t *testing.T) {
	t.Parallel()
	a, b, empty := harness.NewDatabase(t), harness.NewDatabase(t), harness.EmptyDatabase(t)
	_, err := a.DB.ExecContext(t.Context(), "CREATE TABLE mine (n int)")
	require.NoError(t, err)

	require.True(t, hasTable(t, a, "outbox"))
	require.True(t, hasTable(t, a, "mine"))
	require.True(t, hasTable(t, b, "outbox"))
	require.False(t, hasTable(t, b, "mine"))
	require.False(t, hasTable(t, empty, "outbox"))
}

func hasTable(t *testing.T, d *harness.Database, table string) bool {
	t.Helper()
	var has bool
	require.NoError(t, d.DB.QueryRowContext(t.Context(), "SELECT to_regclass($1) IS NOT NULL", table).Scan(&has))
	return has
}

func TestNewDatabase_IsDroppedWithItsTest(t *testing.T) {
	t.Parallel()
	other := harness.EmptyDatabase(t)
	var name string
	t.Run("inner", func(t *testing.T) {
		d := harness.NewDatabase(t)
		require.NoError(t, d.DB.QueryRowContext(t.Context(), "SELECT current_database()").Scan(&name))
	})
	var left int
	require.NoError(t, other.DB.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_database WHERE datname = $1", name).Scan(&left))
	require.Zero(t, left)
}

func TestRedis_DatabasesAreAlone(t *testing.T) {
	t.Parallel()
	a, b := harness.Redis(t), harness.Redis(t)
	require.NoError(t, a.Set(t.Context(), "k", "a", time.Minute).Err())
	require.Zero(t, b.Exists(t.Context(), "k").Val())
	require.NotEqual(t, a.Options().DB, b.Options().DB)
}

func TestTopic_HasItsPartitionsAtOnce(t *testing.T) {
	t.Parallel()
	require.NotEqual(t, harness.Topic(t, 4), harness.Topic(t, 4))
	require.NotEqual(t, harness.Group(t), harness.Group(t))
}
