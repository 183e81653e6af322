package harness_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/internal/proc"
	"github.com/millrace-go/millrace/test/lab"
)

func open(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("postgres", dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// asked runs a statement beside the test. lib/pq cannot give up on a server that
// is frozen: its cancellation waits for an answer, whatever the context says.
func asked(t *testing.T, db *sql.DB) <-chan error {
	t.Helper()
	answer := make(chan error, 1)
	go func() {
		_, err := db.ExecContext(context.WithoutCancel(t.Context()), "SELECT 1")
		answer <- err
	}()
	return answer
}

func requireSilence(t *testing.T, answer <-chan error) {
	t.Helper()
	select {
	case err := <-answer:
		t.Fatal("the server answers:", err)
	case <-time.After(300 * time.Millisecond):
	}
}

func requireAnswer(t *testing.T, answer <-chan error) {
	t.Helper()
	select {
	case err := <-answer:
		require.NoError(t, err)
	case <-time.After(2 * time.Minute):
		t.Fatal("the server does not answer")
	}
}

// within runs a statement on db with a deadline.
func within(t *testing.T, db *sql.DB, limit time.Duration, statement string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	_, err := db.ExecContext(ctx, statement)
	return err
}

func TestPostgres_SettingsReachTheServer(t *testing.T) {
	t.Parallel()
	p := harness.PrivatePostgres(t, harness.PostgresConfig{
		Durable: true, MaxConnections: 40, Settings: map[string]string{"work_mem": "7MB"},
	})
	db := open(t, p.DSN())
	for name, want := range map[string]string{
		"fsync": "on", "max_connections": "40", "work_mem": "7MB", "wal_level": "logical", "max_prepared_transactions": "100",
	} {
		var got string
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT current_setting($1)", name).Scan(&got))
		require.Equal(t, want, got, name)
	}
	require.Equal(t, harness.Real, p.Info().Kind)
}

func TestPostgres_PausedIsSilentAndRecovers(t *testing.T) {
	t.Parallel()
	p := harness.PrivatePostgres(t, harness.PostgresConfig{})
	db := open(t, p.DSN())
	require.NoError(t, within(t, db, 30*time.Second, "SELECT 1"))

	require.NoError(t, p.Pause())
	answer := asked(t, db)
	requireSilence(t, answer)
	require.NoError(t, p.Resume())
	requireAnswer(t, answer)
}

func TestPostgres_PausedPostmasterTakesNoNewConnections(t *testing.T) {
	t.Parallel()
	p := harness.PrivatePostgres(t, harness.PostgresConfig{})
	old, fresh := open(t, p.DSN()), open(t, p.DSN())
	require.NoError(t, within(t, old, 30*time.Second, "SELECT 1"))

	require.NoError(t, lab.PausePostmaster(p))
	require.NoError(t, within(t, old, 30*time.Second, "SELECT 1"), "an open connection keeps working")
	answer := asked(t, fresh)
	requireSilence(t, answer)
	require.NoError(t, p.Resume())
	requireAnswer(t, answer)
}

func TestPostgres_CommitsSurviveKillAndRestart(t *testing.T) {
	t.Parallel()
	p := harness.PrivatePostgres(t, harness.PostgresConfig{})
	d := harness.DatabaseOn(t, p)
	require.NoError(t, within(t, d.DB, 30*time.Second, "CREATE TABLE t AS SELECT 1 AS n"))
	pid := p.PID()

	require.NoError(t, p.Kill())
	require.False(t, proc.Alive(pid))
	require.Zero(t, p.PID())
	require.Error(t, within(t, open(t, d.DSN), time.Second, "SELECT 1"))
	require.NoError(t, p.Start(t.Context()))
	require.NoError(t, within(t, open(t, d.DSN), 30*time.Second, "INSERT INTO t SELECT n FROM t"))
	require.NoError(t, p.Restart(t.Context()))
	var n int
	require.NoError(t, open(t, d.DSN).QueryRowContext(t.Context(), "SELECT count(*) FROM t").Scan(&n))
	require.Equal(t, 2, n)
}

func TestPostgres_StopLeavesNothing(t *testing.T) {
	t.Parallel()
	p, err := harness.StartPostgres(t.Context(), harness.PostgresConfig{})
	require.NoError(t, err)
	dir := p.DataDir()
	require.DirExists(t, dir)
	require.NoError(t, p.Stop(t.Context()))
	require.NoDirExists(t, dir)
	require.False(t, answers(p.Addr()))
}

func TestPostgres_StartTellsWhyItCannot(t *testing.T) {
	t.Parallel()
	_, err := harness.StartPostgres(t.Context(), harness.PostgresConfig{Settings: map[string]string{"no_such_setting": "1"}})
	require.ErrorContains(t, err, "no_such_setting")
}

func TestPostgres_FetchedProgramsServeWhereNoneAreInstalled(t *testing.T) {
	t.Parallel()
	p, err := harness.FetchedPostgres(t.Context())
	if errors.Is(err, harness.ErrNotInstalled) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Stop(context.Background())) })
	require.Regexp(t, `^postgres 18\.1 \(downloaded to .*\)$`, p.Info().String())
	require.True(t, hasTable(t, harness.DatabaseOn(t, p), "outbox"))
}
