package pgstmt_test

import (
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/internal/pgstmt"
	"github.com/millrace-go/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

func TestStatement_GivesTheSamePreparedOrNot(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t).DB
	ctx := t.Context()
	s := pgstmt.New(`SELECT $1::int + 1`)
	check := func() {
		var n int
		require.NoError(t, s.QueryRow(ctx, db, 1).Scan(&n))
		require.Equal(t, 2, n)
		_, err := s.Exec(ctx, db, 1)
		require.NoError(t, err)
		tx, err := db.BeginTx(ctx, nil)
		require.NoError(t, err)
		defer tx.Rollback()
		rows, err := s.QueryTx(ctx, tx, 2)
		require.NoError(t, err)
		require.True(t, rows.Next())
		require.NoError(t, rows.Scan(&n))
		require.Equal(t, 3, n)
		require.NoError(t, rows.Err())
		require.NoError(t, rows.Close())
	}
	prepared := func() (n int) {
		// pg_prepared_statements lists those of one session: keep the pool at one.
		require.NoError(t, db.QueryRowContext(ctx, `SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT $1::int%'`).Scan(&n))
		return n
	}
	db.SetMaxOpenConns(1)

	check()
	require.Zero(t, prepared())
	require.NoError(t, s.Prepare(ctx, db))
	require.NoError(t, s.Prepare(ctx, db), "a second time changes nothing")
	require.Equal(t, 1, prepared())
	check()
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.Zero(t, prepared())
	check()
}

func TestStatement_TellsWhyItCannotBePrepared(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t).DB
	s := pgstmt.New(`SELECT FROM nowhere`)
	require.ErrorContains(t, s.Prepare(t.Context(), db), "nowhere")
	require.NoError(t, s.Close())
	_, err := s.Exec(t.Context(), db)
	require.ErrorContains(t, err, "nowhere")
	require.NotErrorIs(t, err, sql.ErrNoRows)
}
