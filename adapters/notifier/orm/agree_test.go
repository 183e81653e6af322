package orm_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/lib/pq"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/orm"
	"github.com/millrace-go/millrace/adapters/notifier/postgres"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/account"
	"github.com/millrace-go/millrace/domain/notification"
	migrations "github.com/millrace-go/millrace/sql"
	"github.com/millrace-go/millrace/test/harness"
)

var began = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

func newAccount(t *testing.T, email string) *account.Account {
	t.Helper()
	a, err := account.Register(account.ID(app.NewID()), email, "hash", began)
	require.NoError(t, err)
	return a
}

func newNotification(t *testing.T) *notification.Notification {
	t.Helper()
	c := notification.Content{Recipient: "ada", Channel: notification.Email, Subject: `it's \ "quoted" ? $1 ✓`, Body: "line\nline\t{}"}
	n, err := notification.Request(notification.ID(app.NewID()), c, began)
	require.NoError(t, err)
	return n
}

// One use case writes an account through the ORM, a notification in SQL, and the
// events of both: one transaction has them all.
func TestMixed_WritesRowsAndEventsInOneTransaction(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t, migrations.Lines()...).DB
	u := unitOfWork(t, db, postgres.Config{Accounts: orm.New(db).Accounts})
	a, n := newAccount(t, "ada@example.org"), newNotification(t)
	transact(t, u, func(ctx context.Context, tx app.Tx) error {
		events := domain.Envelopes(account.Aggregate, string(a.ID()), 1, a.Pending(), domain.Trace{}, app.NewID)
		events = append(events, domain.Envelopes(notification.Aggregate, string(n.ID()), 1, n.Pending(), domain.Trace{}, app.NewID)...)
		return errors.Join(tx.Accounts().Add(ctx, a), tx.Notifications().Add(ctx, n), tx.Record(ctx, events...))
	})
	var rows, transactions int
	require.NoError(t, db.QueryRow(`SELECT count(*), count(DISTINCT x::text) FROM (
		SELECT xmin AS x FROM account UNION ALL SELECT xmin FROM notification UNION ALL SELECT xmin FROM outbox) r`).Scan(&rows, &transactions))
	require.Equal(t, 4, rows)
	require.Equal(t, 1, transactions)
}

// psql, SQL and the ORM write one row in turn. Each sees the versions of the
// others, the time of creation stays, and anyone who read before is refused.
func TestEntity_ThreeWritersAgree(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t, migrations.Lines()...).DB
	bySQL, byORM := unitOfWork(t, db, postgres.Config{}), unitOfWork(t, db, allORM(db))
	n := newNotification(t)
	transact(t, byORM, func(ctx context.Context, tx app.Tx) error { return tx.Notifications().Add(ctx, n) })
	created := n.State()
	require.EqualValues(t, 1, created.Version)

	_, err := db.ExecContext(t.Context(), `UPDATE notification
		SET subject = 'by psql', version = 77, created_at = '2001-01-01', updated_at = '2001-01-01' WHERE id = $1`, n.ID())
	require.NoError(t, err)
	last := created
	for i, u := range []app.UnitOfWork{bySQL, byORM, bySQL, byORM} {
		transact(t, u, func(ctx context.Context, tx app.Tx) error {
			got, err := tx.Notifications().Get(ctx, n.ID())
			if err != nil {
				return err
			}
			require.EqualValues(t, i+2, got.Version())
			require.Equal(t, "by psql", got.State().Subject)
			require.Equal(t, created.CreatedAt, got.State().CreatedAt)
			require.True(t, got.State().UpdatedAt.After(last.CreatedAt))
			if err := got.MarkFailed("no route", began.Add(time.Duration(i)*time.Second)); err != nil {
				return err
			}
			if err := tx.Notifications().Save(ctx, got); err != nil {
				return err
			}
			require.True(t, got.State().UpdatedAt.After(last.UpdatedAt), "clock_timestamp() of each write")
			require.Equal(t, created.CreatedAt, got.State().CreatedAt)
			last = got.State()
			return nil
		})
	}
	require.NoError(t, n.MarkFailed("stale", began)) // n is still at version 1
	for _, u := range []app.UnitOfWork{bySQL, byORM} {
		err := u.Do(t.Context(), func(ctx context.Context, tx app.Tx) error { return tx.Notifications().Save(ctx, n) })
		require.ErrorIs(t, err, domain.ErrVersionConflict)
	}
}

func TestErrors_CarryTheDomainsSentinelsAndTheDatabasesWords(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t, migrations.Lines()...).DB
	for name, u := range map[string]app.UnitOfWork{"sql": unitOfWork(t, db, postgres.Config{}), "orm": unitOfWork(t, db, allORM(db))} {
		stranger := newAccount(t, name+"@example.org")
		s, err := account.Open(stranger, account.NewToken(), began, time.Hour)
		require.NoError(t, err)
		err = u.Do(t.Context(), func(ctx context.Context, tx app.Tx) error { return tx.Sessions().Add(ctx, s) })
		require.ErrorIs(t, err, domain.ErrReference, name)
		var cause *pq.Error
		require.ErrorAs(t, err, &cause, name)

		again := newAccount(t, name+"@example.org")
		transact(t, u, func(ctx context.Context, tx app.Tx) error { return tx.Accounts().Add(ctx, stranger) })
		err = u.Do(t.Context(), func(ctx context.Context, tx app.Tx) error { return tx.Accounts().Add(ctx, again) })
		require.ErrorIs(t, err, domain.ErrDuplicate, name)
		require.ErrorAs(t, err, &cause, name)

		runs := 0
		err = u.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
			runs++
			if _, err := tx.Accounts().Get(ctx, again.ID()); !errors.Is(err, domain.ErrNotFound) {
				return err
			}
			return &pq.Error{Code: "40001"}
		})
		require.ErrorAs(t, err, &cause)
		require.Equal(t, 4, runs, "%s: a serialization failure is tried three times more", name)
	}
}

func TestSave_RefusesATableWithoutItsTrigger(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t, migrations.Lines()...).DB
	u := unitOfWork(t, db, allORM(db))
	n := newNotification(t)
	transact(t, u, func(ctx context.Context, tx app.Tx) error { return tx.Notifications().Add(ctx, n) })
	_, err := db.Exec(`DROP TRIGGER notification_touch ON notification`)
	require.NoError(t, err)
	require.NoError(t, n.MarkSent(began))
	err = u.Do(t.Context(), func(ctx context.Context, tx app.Tx) error { return tx.Notifications().Save(ctx, n) })
	require.ErrorIs(t, err, orm.ErrNotTheTrigger)
}

// The ORM writes values into the text of its statements. What a caller can send
// must stay a value, whatever is in it.
func TestORM_KeepsHostileTextAValue(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t, migrations.Lines()...).DB
	u := unitOfWork(t, db, allORM(db))
	for _, text := range []string{`'; DROP TABLE session; --`, `\'; DROP TABLE session; --`, `?`, `?0`, `?TableName`, `$1`, `\`, `''`, "a\nb", `{"a":"?"}`} {
		n, err := notification.Request(notification.ID(app.NewID()), notification.Content{Recipient: text, Channel: notification.SMS, Subject: text, Body: text}, began)
		require.NoError(t, err)
		require.NoError(t, n.MarkFailed(text, began))
		transact(t, u, func(ctx context.Context, tx app.Tx) error { return tx.Notifications().Add(ctx, n) })
		transact(t, u, func(ctx context.Context, tx app.Tx) error {
			got, err := tx.Notifications().Get(ctx, n.ID())
			require.NoError(t, err)
			require.Equal(t, n.State(), got.State())
			return nil
		})
	}
	_, err := db.Exec(`SELECT 1 FROM session`)
	require.NoError(t, err)
}

// Two sweepers work side by side: neither waits for the other, nor removes what
// the other one does.
func TestSweep_PassesOverWhatAnotherRemoves(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t, migrations.Lines()...).DB
	bySQL, byORM := unitOfWork(t, db, postgres.Config{}), unitOfWork(t, db, allORM(db))
	a := newAccount(t, "ada@example.org")
	transact(t, bySQL, func(ctx context.Context, tx app.Tx) error {
		err := tx.Accounts().Add(ctx, a)
		for range 6 {
			s, openErr := account.Open(a, account.NewToken(), began, time.Hour)
			require.NoError(t, openErr)
			err = errors.Join(err, tx.Sessions().Add(ctx, s))
		}
		return err
	})
	over, outside := began.Add(2*time.Hour), t.Context()
	sweep := func(ctx context.Context, tx app.Tx, limit, want int) {
		n, err := tx.Sessions().Sweep(ctx, over, limit)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	transact(t, bySQL, func(ctx context.Context, tx app.Tx) error {
		sweep(ctx, tx, 2, 2)
		return byORM.Do(outside, func(inner context.Context, other app.Tx) error {
			sweep(inner, other, 2, 2)
			return bySQL.Do(outside, func(ctx context.Context, third app.Tx) error {
				sweep(ctx, third, 10, 2)
				return nil
			})
		})
	})
	transact(t, byORM, func(ctx context.Context, tx app.Tx) error { sweep(ctx, tx, 10, 0); return nil })
}
