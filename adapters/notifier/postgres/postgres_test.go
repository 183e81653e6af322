package postgres_test

import (
	"context"
	"database/sql"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/codec"
	"github.com/millrace-go/millrace/adapters/notifier/postgres"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/app/apptest"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	migrations "github.com/millrace-go/millrace/sql"
	"github.com/millrace-go/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

var (
	began   = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
	content = notification.Content{Recipient: "ada", Channel: notification.Email, Subject: "Hello", Body: "World"}
)

// storage is a unit of work on a database, with a writer that counts commits.
type storage struct {
	*postgres.UnitOfWork
	db      *sql.DB
	commits atomic.Int64
}

func open(t *testing.T, db *sql.DB, cfg postgres.Config) *storage {
	t.Helper()
	s := &storage{db: db}
	store, err := pgstore.New(db, pgstore.Config{})
	require.NoError(t, err)
	writer, err := outbox.NewWriter(store, outbox.WriterConfig{Wake: func() { s.commits.Add(1) }})
	require.NoError(t, err)
	s.UnitOfWork, err = postgres.NewUnitOfWork(db, writer, codec.New(codec.Config{}), cfg)
	require.NoError(t, err)
	return s
}

func recorded(t *testing.T, db *sql.DB) (out []domain.Recorded) {
	t.Helper()
	for _, row := range harness.ReadOutbox(t, db) {
		e, err := codec.New(codec.Config{}).Decode(row.Headers, row.Payload)
		require.NoError(t, err)
		out = append(out, e)
	}
	return out
}

func TestSQLStorage_PassesTheStorageContract(t *testing.T) {
	t.Parallel()
	apptest.Exercise(t, func(t *testing.T) apptest.Backend {
		db := harness.NewDatabase(t, migrations.Lines()...).DB
		return apptest.Backend{
			UnitOfWork: open(t, db, postgres.Config{}),
			Reader:     postgres.NewReader(db),
			Events:     func(t *testing.T) []domain.Recorded { return recorded(t, db) },
		}
	})
}

func envelopes(n *notification.Notification) []domain.Recorded {
	return domain.Envelopes(notification.Aggregate, string(n.ID()), n.Version(), n.Pending(), domain.Trace{}, app.NewID)
}

func (s *storage) add(ctx context.Context, t *testing.T) (notification.ID, error) {
	t.Helper()
	n, err := notification.Request(notification.ID(app.NewID()), content, began)
	require.NoError(t, err)
	return n.ID(), s.Do(ctx, func(ctx context.Context, tx app.Tx) error {
		events := envelopes(n)
		if err := tx.Notifications().Add(ctx, n); err != nil {
			return err
		}
		return tx.Record(ctx, events...)
	})
}

func (s *storage) mustAdd(t *testing.T) notification.ID {
	t.Helper()
	id, err := s.add(t.Context(), t)
	require.NoError(t, err)
	return id
}

func fail(ctx context.Context, tx app.Tx, id notification.ID) error {
	n, err := tx.Notifications().Get(ctx, id)
	if err != nil {
		return err
	}
	if err := n.MarkFailed("no route", began); err != nil {
		return err
	}
	events := envelopes(n)
	if err := tx.Notifications().Save(ctx, n); err != nil {
		return err
	}
	return tx.Record(ctx, events...)
}

func TestDo_PutsEntityAndOutboxRowIntoOneTransaction(t *testing.T) {
	t.Parallel()
	s := open(t, harness.NewDatabase(t, migrations.Lines()...).DB, postgres.Config{})
	id := s.mustAdd(t)

	var xids int
	require.NoError(t, s.db.QueryRow(`SELECT count(DISTINCT xmin::text) FROM
		(SELECT xmin FROM notification WHERE id = $1 UNION ALL SELECT xmin FROM outbox WHERE aggregate_id = $1::text) r`, id).Scan(&xids))
	require.Equal(t, 1, xids, "both rows were written by the same transaction")

	rows := harness.ReadOutbox(t, s.db)
	require.Len(t, rows, 1)
	require.Equal(t, "notification.v1", rows[0].Topic)
	require.Equal(t, "ada", rows[0].Key, "the recipient is the key")
	require.Equal(t, "notification.requested", rows[0].Headers["event-type"])
	require.EqualValues(t, 1, s.commits.Load(), "the relay is woken once")
}

func TestDo_WakesNobodyAfterARollback(t *testing.T) {
	t.Parallel()
	s := open(t, harness.NewDatabase(t, migrations.Lines()...).DB, postgres.Config{})
	id := s.mustAdd(t)
	err := s.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
		if err := fail(ctx, tx, id); err != nil {
			return err
		}
		return tx.Record(ctx, domain.Recorded{}) // has no wire form
	})
	require.ErrorIs(t, err, codec.ErrUnknownEvent)
	require.EqualValues(t, 1, s.commits.Load())
	require.Len(t, harness.ReadOutbox(t, s.db), 1)
}

func TestIn_LeavesTheTransactionToItsOwner(t *testing.T) {
	t.Parallel()
	s := open(t, harness.NewDatabase(t, migrations.Lines()...).DB, postgres.Config{})
	id := s.mustAdd(t)
	for _, commit := range []bool{false, true} {
		tx, err := s.db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		require.NoError(t, s.In(t.Context(), tx, func(ctx context.Context, tx app.Tx) error { return fail(ctx, tx, id) }))
		if commit {
			require.NoError(t, tx.Commit())
			require.Len(t, harness.ReadOutbox(t, s.db), 2)
		} else {
			require.NoError(t, tx.Rollback())
			require.Len(t, harness.ReadOutbox(t, s.db), 1)
		}
	}
}

func TestNewUnitOfWork_NamesEveryWrongField(t *testing.T) {
	t.Parallel()
	_, err := postgres.NewUnitOfWork(nil, nil, nil, postgres.Config{Retries: -2, RetryWait: -1, ResolveWait: -1})
	for _, field := range []string{"db", "outbox", "codec", "Retries", "RetryWait", "ResolveWait"} {
		require.ErrorContains(t, err, field)
	}
}
