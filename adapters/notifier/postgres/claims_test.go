package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/postgres"
	"github.com/millrace-go/millrace/app"
	migrations "github.com/millrace-go/millrace/sql"
	"github.com/millrace-go/millrace/test/harness"
)

// The migration commits statement by statement: it may be interrupted anywhere, and
// is then run again.
func TestSendingMigration_CanBeRunAgainAndTakesOverWhatHadFailed(t *testing.T) {
	t.Parallel()
	s := open(t, harness.NewDatabase(t, migrations.Lines()...).DB, postgres.Config{})
	failed, other := s.mustAdd(t), s.mustAdd(t)
	require.NoError(t, s.Do(t.Context(), func(ctx context.Context, tx app.Tx) error { return fail(ctx, tx, failed) }))
	_, err := s.db.Exec(`DELETE FROM millrace_service_migrations WHERE version_id >= 4`)
	require.NoError(t, err)

	_, err = migrations.Up(t.Context(), s.db, migrations.Service)
	require.NoError(t, err)

	var claims []app.Claim
	require.NoError(t, s.Do(t.Context(), func(ctx context.Context, tx app.Tx) (err error) {
		claims, err = tx.Claims().Claim(ctx, app.ClaimQuery{Limit: 10, Lease: time.Hour})
		return err
	}))
	require.Len(t, claims, 1)
	require.Equal(t, failed, claims[0].ID)
	require.NotEqual(t, other, claims[0].ID)
	require.Equal(t, 2, claims[0].Attempt)
}

// The claim finds what is due by its index, however many wait.
func TestClaim_ReadsOnlyWhatIsDue(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t, migrations.Lines()...).DB
	_, err := db.Exec(`INSERT INTO notification_sending (notification_id, next_attempt_at)
		SELECT gen_random_uuid(), now() + n * interval '1 minute' FROM generate_series(-5, 20000) n`)
	require.NoError(t, err)
	_, err = db.Exec(`ANALYZE notification_sending`)
	require.NoError(t, err)
	rows, err := db.Query(`EXPLAIN SELECT notification_id FROM notification_sending
		WHERE coalesce(claimed_until, next_attempt_at) <= statement_timestamp()
		ORDER BY coalesce(claimed_until, next_attempt_at) LIMIT 100 FOR UPDATE SKIP LOCKED`)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	plan := ""
	for rows.Next() {
		var line string
		require.NoError(t, rows.Scan(&line))
		plan += line + "\n"
	}
	require.NoError(t, rows.Err())
	require.Contains(t, plan, "Index Scan using notification_sending_due", plan)
}
