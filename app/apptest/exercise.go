package apptest

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// Backend is the storage under test.
type Backend struct {
	UnitOfWork app.UnitOfWork
	Reader     app.Reader
	// Events returns the events of the committed transactions, those of one
	// aggregate in the order they were recorded.
	Events func(t *testing.T) []domain.Recorded
}

// Exercise runs the contract of app.UnitOfWork, app.Notifications, app.Claims and
// app.Reader.
// open returns an empty backend; each test gets its own.
func Exercise(t *testing.T, open func(t *testing.T) Backend) {
	t.Helper()
	cases := map[string]func(*testing.T, suite){
		"Add_StoresWhatGetReturns":                 addStoresWhatGetReturns,
		"Add_RefusesATakenID":                      addRefusesATakenID,
		"Get_AndSaveKnowWhatIsMissing":             missing,
		"Save_StoresEveryFieldAndCountsEveryEvent": saveCountsEvents,
		"Save_RefusesAStaleVersion":                saveRefusesStale,
		"Save_RefusesWhatChangedWhileTheTxWasOpen": saveRefusesInterleaved,
		"Save_OneOfManyConcurrentMarksWins":        oneMarkWins,
		"Do_RollsBackRowAndEventsOnError":          rollsBackOnError,
		"Do_RollsBackRowAndEventsOnPanic":          rollsBackOnPanic,
		"Do_RollsBackWhenTheContextEnds":           rollsBackOnCancel,
		"Do_NestedJoinsTheOuterTransaction":        nestedJoins,
		"Do_NestedFailureCannotBeCommittedByOuter": nestedFailureSticks,
		"Do_KeepsTwoAggregatesOfOneTxTogether":     twoAggregates,
		"Save_KeepsWhenItWasRead":                  saveKeepsRead,
		"Reader_SeesOnlyCommittedStates":           readerSeesCommitted,
		"Reader_ListsTheNewestOfARecipient":        readerLists,
	}
	maps.Copy(cases, claimCases)
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, suite{Backend: open(t)})
		})
	}
}

type suite struct{ Backend }

var began = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

func newNotification(t *testing.T) *notification.Notification {
	t.Helper()
	n, err := notification.Request(notification.ID(app.NewID()), notification.Content{
		Recipient: "ada ✓ o'hara", Channel: notification.Email, Subject: `"quoted" \ {}`, Body: "line\nline\té",
	}, began)
	require.NoError(t, err)
	return n
}

func envelopes(n *notification.Notification) []domain.Recorded {
	trace := domain.Trace{CorrelationID: "corr", CausationID: "cause"}
	return domain.Envelopes(notification.Aggregate, string(n.ID()), n.Version(), n.Pending(), trace, app.NewID)
}

func (s suite) add(t *testing.T) *notification.Notification {
	t.Helper()
	n := newNotification(t)
	require.NoError(t, s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
		return addAndRecord(ctx, tx, n)
	}))
	return n
}

func addAndRecord(ctx context.Context, tx app.Tx, n *notification.Notification) error {
	events := envelopes(n)
	return errors.Join(tx.Notifications().Add(ctx, n), tx.Record(ctx, events...))
}

func (s suite) get(t *testing.T, id notification.ID) (*notification.Notification, error) {
	t.Helper()
	var n *notification.Notification
	err := s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) (err error) {
		n, err = tx.Notifications().Get(ctx, id)
		return err
	})
	return n, err
}

func (s suite) change(ctx context.Context, id notification.ID, act func(*notification.Notification) error) error {
	return s.UnitOfWork.Do(ctx, func(ctx context.Context, tx app.Tx) error {
		n, err := tx.Notifications().Get(ctx, id)
		if err != nil {
			return err
		}
		if err := act(n); err != nil {
			return err
		}
		events := envelopes(n)
		if err := tx.Notifications().Save(ctx, n); err != nil {
			return err
		}
		return tx.Record(ctx, events...)
	})
}

func markSent(n *notification.Notification) error { return n.MarkSent(began.Add(time.Minute)) }

func oneMarkWins(t *testing.T, s suite) {
	const marks = 16
	n := s.add(t)
	results := make([]error, marks)
	var ready, done sync.WaitGroup
	ready.Add(marks)
	for i := range marks {
		done.Go(func() {
			ready.Done()
			ready.Wait()
			results[i] = s.change(t.Context(), n.ID(), markSent)
		})
	}
	done.Wait()

	won := 0
	for _, err := range results {
		if err == nil {
			won++
			continue
		}
		require.True(t, errors.Is(err, domain.ErrVersionConflict) || errors.Is(err, domain.ErrIllegalAct), "%v", err)
	}
	require.Equal(t, 1, won)
	stored, err := s.get(t, n.ID())
	require.NoError(t, err)
	require.EqualValues(t, 2, stored.Version())
	require.Len(t, s.Events(t), 2, "losers leave no event")
}
