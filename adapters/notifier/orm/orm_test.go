package orm_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/codec"
	"github.com/millrace-go/millrace/adapters/notifier/orm"
	"github.com/millrace-go/millrace/adapters/notifier/postgres"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/app/apptest"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	migrations "github.com/millrace-go/millrace/sql"
	"github.com/millrace-go/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// unitOfWork is the one of package postgres, with the repositories that cfg says.
func unitOfWork(t *testing.T, db *sql.DB, cfg postgres.Config) *postgres.UnitOfWork {
	t.Helper()
	store, err := pgstore.New(db, pgstore.Config{})
	require.NoError(t, err)
	writer, err := outbox.NewWriter(store, outbox.WriterConfig{})
	require.NoError(t, err)
	u, err := postgres.NewUnitOfWork(db, writer, codec.New(codec.Config{}), cfg)
	require.NoError(t, err)
	return u
}

func allORM(db *sql.DB) postgres.Config {
	o := orm.New(db)
	return postgres.Config{Notifications: o.Notifications, Accounts: o.Accounts, Sessions: o.Sessions}
}

func TestORMStorage_PassesTheStorageContract(t *testing.T) {
	t.Parallel()
	apptest.Exercise(t, func(t *testing.T) apptest.Backend {
		db := harness.NewDatabase(t, migrations.Lines()...).DB
		return apptest.Backend{
			UnitOfWork: unitOfWork(t, db, allORM(db)), Reader: postgres.NewReader(db),
			Events: func(t *testing.T) []domain.Recorded { return recorded(t, db) },
		}
	})
}

func TestORMStorage_PassesTheAccessContract(t *testing.T) {
	t.Parallel()
	exerciseAccess(t, allORM)
}

// Accounts through the ORM and their sessions in SQL, and the other way round: in
// the suite many a transaction writes both, with their events.
func TestMixedStorage_PassesTheAccessContract(t *testing.T) {
	t.Parallel()
	for name, mix := range map[string]func(*sql.DB) postgres.Config{
		"accounts by ORM": func(db *sql.DB) postgres.Config { return postgres.Config{Accounts: orm.New(db).Accounts} },
		"sessions by ORM": func(db *sql.DB) postgres.Config { return postgres.Config{Sessions: orm.New(db).Sessions} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exerciseAccess(t, mix)
		})
	}
}

func exerciseAccess(t *testing.T, cfg func(*sql.DB) postgres.Config) {
	t.Helper()
	apptest.ExerciseAccess(t, func(t *testing.T) apptest.AccessBackend {
		db := harness.NewDatabase(t, migrations.Lines()...).DB
		return apptest.AccessBackend{
			UnitOfWork: unitOfWork(t, db, cfg(db)), Reader: postgres.NewAccountReader(db),
			Events: func(t *testing.T) []domain.Recorded { return recorded(t, db) },
		}
	})
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

// transact runs fn in a unit of work, and demands that it commits.
func transact(t *testing.T, u app.UnitOfWork, fn func(ctx context.Context, tx app.Tx) error) {
	t.Helper()
	require.NoError(t, u.Do(t.Context(), fn))
}
