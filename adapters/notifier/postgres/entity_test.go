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

// A writer that knows nothing of us, such as somebody at psql, cannot set what
// belongs to the database, and is seen by the version check.
func TestEntity_VersionAndTimesAreTheDatabases(t *testing.T) {
	t.Parallel()
	s := open(t, harness.NewDatabase(t, migrations.Lines()...).DB, postgres.Config{})
	id := app.NewID()
	_, err := s.db.Exec(`INSERT INTO notification
		(id, recipient, channel, subject, body, status, attempts, requested_at, changed_at, created_at, updated_at, version)
		VALUES ($1, 'ada', 'sms', 's', 'b', 'requested', 0, now(), now(), '2001-01-01', '2001-01-01', 77)`, id)
	require.NoError(t, err)

	var version int64
	var created, updated time.Time
	read := func() {
		require.NoError(t, s.db.QueryRow(`SELECT version, created_at, updated_at FROM notification WHERE id = $1`, id).Scan(&version, &created, &updated))
	}
	read()
	require.EqualValues(t, 1, version)
	require.WithinDuration(t, time.Now(), created, time.Minute)
	require.True(t, created.Equal(updated))

	first := created
	_, err = s.db.Exec(`UPDATE notification SET subject = 'x', version = 99, created_at = '2001-01-01', updated_at = '2001-01-01' WHERE id = $1`, id)
	require.NoError(t, err)
	read()
	require.EqualValues(t, 2, version)
	require.True(t, first.Equal(created))
	require.True(t, updated.After(created))
}

func TestSave_RefusesATableWithoutItsTrigger(t *testing.T) {
	t.Parallel()
	s := open(t, harness.NewDatabase(t, migrations.Lines()...).DB, postgres.Config{})
	id := s.mustAdd(t)
	_, err := s.db.Exec(`DROP TRIGGER notification_touch ON notification`)
	require.NoError(t, err)
	err = s.Do(t.Context(), func(ctx context.Context, tx app.Tx) error { return fail(ctx, tx, id) })
	require.ErrorIs(t, err, postgres.ErrNotTheTrigger)
}

// A transaction that began earlier and writes later leaves the later time: the
// time is that of the write, not of the transaction's start.
func TestEntity_ALaterWriteHasALaterTimeWhoeverBeganFirst(t *testing.T) {
	t.Parallel()
	s := open(t, harness.NewDatabase(t, migrations.Lines()...).DB, postgres.Config{})
	id := s.mustAdd(t)
	updated := func() (at time.Time) {
		require.NoError(t, s.db.QueryRow(`SELECT updated_at FROM notification WHERE id = $1`, id).Scan(&at))
		return at
	}
	first, err := s.db.Begin()
	require.NoError(t, err)
	_, err = first.Exec(`SELECT now()`)
	require.NoError(t, err)
	_, err = s.db.Exec(`UPDATE notification SET subject = 'second' WHERE id = $1`, id)
	require.NoError(t, err)
	between := updated()
	_, err = first.Exec(`UPDATE notification SET subject = 'first' WHERE id = $1`, id)
	require.NoError(t, err)
	require.NoError(t, first.Commit())
	require.True(t, updated().After(between))
}
