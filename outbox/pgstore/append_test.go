package pgstore_test

import (
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	"github.com/millrace-go/millrace/test/harness"
)

func TestAppend_RefusalLeavesTheTransactionUsable(t *testing.T) {
	t.Parallel()
	s := newSubject(t, false)
	tx, err := s.db.Begin()
	require.NoError(t, err)
	require.ErrorIs(t, s.writer.Append(t.Context(), tx, outbox.Message{Topic: "t", Key: "a\x00"}), outbox.ErrInvalidMessage)
	require.NoError(t, s.writer.Append(t.Context(), tx, outbox.Message{Topic: "t", Key: "a"}))
	require.NoError(t, tx.Commit())
	require.Equal(t, 1, count(t, s.db, `SELECT count(*) FROM outbox`))
}

func TestAppend_ClosedTransaction(t *testing.T) {
	t.Parallel()
	for _, prepared := range []bool{false, true} {
		s := newSubject(t, prepared)
		tx, err := s.db.Begin()
		require.NoError(t, err)
		require.NoError(t, tx.Commit())
		err = s.writer.Append(t.Context(), tx, outbox.Message{Topic: "t", Key: "k"})
		require.ErrorIs(t, err, outbox.ErrTxDone)
		require.ErrorIs(t, err, sql.ErrTxDone)
	}
}

func TestAppend_PreparedStoreTakesTransactionsOfOtherPools(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	other, err := sql.Open("postgres", db.DSN)
	require.NoError(t, err)
	defer other.Close()
	store, err := pgstore.New(db.DB, pgstore.Config{})
	require.NoError(t, err)
	require.NoError(t, store.Prepare(t.Context()))
	require.NoError(t, store.Prepare(t.Context()), "preparing twice is harmless")
	defer store.Close()
	writer, err := outbox.NewWriter(store, outbox.WriterConfig{})
	require.NoError(t, err)
	tx, err := other.Begin()
	require.NoError(t, err)
	require.NoError(t, writer.Append(t.Context(), tx, outbox.Message{Topic: "t", Key: "k"}))
	require.NoError(t, tx.Commit())
	require.Equal(t, 1, count(t, db.DB, `SELECT count(*) FROM outbox`))
}

func TestAppend_SingleConnectionPoolDoesNotDeadlock(t *testing.T) {
	t.Parallel()
	for _, prepared := range []bool{false, true} {
		s := newSubject(t, prepared)
		s.db.SetMaxOpenConns(1)
		s.write(t, outbox.Message{Topic: "t", Key: "k"})
	}
}

// write commits one transaction.
func (s subject) write(t *testing.T, msgs ...outbox.Message) {
	t.Helper()
	tx, err := s.db.Begin()
	require.NoError(t, err)
	require.NoError(t, s.writer.Append(t.Context(), tx, msgs...))
	require.NoError(t, tx.Commit())
}

func count(t *testing.T, db *sql.DB, query string) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRowContext(t.Context(), query).Scan(&n))
	return n
}
