package locktest

import (
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule/lock"
)

// in runs do in a transaction and commits it if do returns nil.
func in(t *testing.T, db *sql.DB, do func(*sql.Tx) error) error {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	if err := do(tx); err != nil {
		require.NoError(t, tx.Rollback())
		return err
	}
	return tx.Commit()
}

func guards(t *testing.T, l Locks) {
	one, other := l.Open(t)
	old := take(t, one, "a", short)
	require.NoError(t, in(t, l.DB, func(tx *sql.Tx) error { return one.Guard(t.Context(), tx, old) }))
	require.NoError(t, in(t, l.DB, func(tx *sql.Tx) error { return one.Guard(t.Context(), tx, old) }), "any number of times")
	g, _ := takeSoon(t, other)
	require.NoError(t, in(t, l.DB, func(tx *sql.Tx) error { return other.Guard(t.Context(), tx, g) }))
	require.ErrorIs(t, in(t, l.DB, func(tx *sql.Tx) error { return one.Guard(t.Context(), tx, old) }), lock.ErrLost)

	forged := g
	forged.Owner = old.Owner
	require.ErrorIs(t, in(t, l.DB, func(tx *sql.Tx) error { return one.Guard(t.Context(), tx, forged) }), lock.ErrLost)
	forged = g
	forged.Fence--
	require.ErrorIs(t, in(t, l.DB, func(tx *sql.Tx) error { return one.Guard(t.Context(), tx, forged) }), lock.ErrLost)
}

// interleaving holds a guarded transaction open past the end of its lock. What
// the next holder writes under its own guard comes after it.
func interleaving(t *testing.T, l Locks) {
	one, other := l.Open(t)
	old := take(t, one, "a", short)
	tx, err := l.DB.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, one.Guard(t.Context(), tx, old))

	second, third := make(chan time.Time, 1), make(chan error, 1)
	go func() {
		g, _ := takeSoon(t, other)
		third <- in(t, l.DB, func(tx *sql.Tx) error {
			err := other.Guard(t.Context(), tx, g)
			second <- time.Now()
			return err
		})
	}()
	select {
	case <-second:
		require.Fail(t, "the next holder's guard passed beside the first one's open transaction")
	case <-time.After(4 * short):
	}
	committing := time.Now()
	require.NoError(t, tx.Commit(), "what was guarded in time stays good")
	require.NoError(t, <-third)
	require.False(t, (<-second).Before(committing))
	require.ErrorIs(t, in(t, l.DB, func(tx *sql.Tx) error { return one.Guard(t.Context(), tx, old) }), lock.ErrLost)
}
