package postgres_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lib/pq"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/postgres"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
	migrations "github.com/millrace-go/millrace/sql"
	"github.com/millrace-go/millrace/test/harness"
)

func TestDo_RunsADeadlockVictimAgain(t *testing.T) {
	t.Parallel()
	s := open(t, harness.NewDatabase(t, migrations.Lines()...).DB, postgres.Config{})
	a, b := s.mustAdd(t), s.mustAdd(t)
	var runs atomic.Int64
	var both sync.WaitGroup // the first runs meet with one row locked each
	both.Add(2)
	crosswise := func(first, second notification.ID, other <-chan struct{}) error {
		met := false
		return s.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
			runs.Add(1)
			if met {
				<-other // the victim's second run: the winner has committed
			}
			if err := fail(ctx, tx, first); err != nil {
				return err
			}
			if !met {
				met = true
				both.Done()
				both.Wait()
			}
			return fail(ctx, tx, second)
		})
	}
	abDone, baDone := make(chan struct{}), make(chan struct{})
	var ba error
	go func() { ba = crosswise(b, a, abDone); close(baDone) }()
	ab := crosswise(a, b, baDone)
	close(abDone)
	<-baDone
	require.NoError(t, ab)
	require.NoError(t, ba)

	require.EqualValues(t, 3, runs.Load(), "one of the two ran twice")
	require.Len(t, harness.ReadOutbox(t, s.db), 6, "the victim's first run left no event")
}

func TestDo_GivesUpAfterItsRetries(t *testing.T) {
	t.Parallel()
	s := open(t, harness.NewDatabase(t, migrations.Lines()...).DB, postgres.Config{RetryWait: time.Millisecond})
	off := open(t, s.db, postgres.Config{Retries: -1})
	for want, s := range map[int]*storage{4: s, 1: off} {
		runs := 0
		err := s.Do(t.Context(), func(context.Context, app.Tx) error {
			runs++
			return &pq.Error{Code: "40001"}
		})
		require.Error(t, err)
		require.Equal(t, want, runs)
	}

	runs := 0
	other := errors.New("anything else")
	require.ErrorIs(t, s.Do(t.Context(), func(context.Context, app.Tx) error { runs++; return other }), other)
	require.Equal(t, 1, runs)
}

func TestErrors_CarryTheDomainsSentinels(t *testing.T) {
	t.Parallel()
	s := open(t, harness.NewDatabase(t, migrations.Lines()...).DB, postgres.Config{})
	id := s.mustAdd(t)
	again, err := notification.Request(id, content, began)
	require.NoError(t, err)
	err = s.Do(t.Context(), func(ctx context.Context, tx app.Tx) error { return tx.Notifications().Add(ctx, again) })
	require.ErrorIs(t, err, domain.ErrDuplicate)
	var cause *pq.Error
	require.ErrorAs(t, err, &cause, "the database's own words stay in the chain")

	_, err = s.db.Exec(`CREATE TABLE parent (id uuid PRIMARY KEY);
		ALTER TABLE notification ADD FOREIGN KEY (id) REFERENCES parent DEFERRABLE INITIALLY DEFERRED NOT VALID`)
	require.NoError(t, err)
	_, err = s.add(t.Context(), t)
	require.ErrorIs(t, err, domain.ErrReference, "found by the server only at COMMIT")
	require.NotErrorIs(t, err, postgres.ErrOutcomeUnknown)
	require.Len(t, harness.ReadOutbox(t, s.db), 1)
}
