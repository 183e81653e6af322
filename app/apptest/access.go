package apptest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/account"
)

// AccessBackend is the storage of accounts and sessions under test.
type AccessBackend struct {
	UnitOfWork app.UnitOfWork
	Reader     app.AccountReader
	// Events returns the events of the committed transactions, those of one
	// aggregate in the order they were recorded.
	Events func(t *testing.T) []domain.Recorded
}

// ExerciseAccess runs the contract of app.Accounts, app.Sessions and
// app.AccountReader. open returns an empty backend; each test gets its own.
func ExerciseAccess(t *testing.T, open func(t *testing.T) AccessBackend) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, accessSuite){
		"Accounts_StoreWhatIsReadBack":                accountRoundTrip,
		"Accounts_RefuseATakenIDOrEmail":              accountTaken,
		"Accounts_KnowWhatIsMissing":                  accountMissing,
		"Accounts_SaveCountsEveryEvent":               accountSaves,
		"Accounts_SaveRefusesAStaleVersion":           accountStale,
		"Accounts_HoldKeepsOthersFromSavingInBetween": accountHeld,
		"Sessions_StoreWhatIsReadBack":                sessionRoundTrip,
		"Sessions_RefuseATakenIDAndAnUnknownAccount":  sessionRefused,
		"Sessions_KnowWhatIsMissing":                  sessionMissing,
		"Sessions_SaveStoresTheRevocation":            sessionRevoked,
		"Sessions_SaveRefusesAStaleVersion":           sessionStale,
		"Sessions_SweepRemovesWhatExpiredOldestFirst": sessionsSwept,
		"Do_RollsBackAccountSessionAndEventsTogether": accessRollsBack,
		"Do_SeesItsOwnWritesAndOthersOnceCommitted":   accessVisibility,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, accessSuite{AccessBackend: open(t)})
		})
	}
}

type accessSuite struct{ AccessBackend }

const life = time.Hour

func newAccount(t *testing.T, email string) *account.Account {
	t.Helper()
	a, err := account.Register(account.ID(app.NewID()), email, "hash of it's \\ password", began)
	require.NoError(t, err)
	return a
}

func newSession(t *testing.T, a *account.Account) *account.Session {
	t.Helper()
	s, err := account.Open(a, account.NewToken(), began.Add(time.Second), life)
	require.NoError(t, err)
	return s
}

func accountEvents(a *account.Account) []domain.Recorded {
	return domain.Envelopes(account.Aggregate, string(a.ID()), a.Version(), a.Pending(), domain.Trace{}, app.NewID)
}

func sessionEvents(s *account.Session) []domain.Recorded {
	return domain.Envelopes(account.SessionAggregate, string(s.ID()), s.Version(), s.Pending(), domain.Trace{}, app.NewID)
}

// storeAccount adds a, with its events, in a unit of work of its own.
func (s accessSuite) storeAccount(t *testing.T, a *account.Account) error {
	t.Helper()
	return s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
		events := accountEvents(a)
		return errors.Join(tx.Accounts().Add(ctx, a), tx.Record(ctx, events...))
	})
}

func (s accessSuite) storeSession(t *testing.T, v *account.Session) error {
	t.Helper()
	return s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
		events := sessionEvents(v)
		return errors.Join(tx.Sessions().Add(ctx, v), tx.Record(ctx, events...))
	})
}

func (s accessSuite) account(t *testing.T) *account.Account {
	t.Helper()
	a := newAccount(t, "ada+"+app.NewID()+"@example.org")
	require.NoError(t, s.storeAccount(t, a))
	return a
}

func (s accessSuite) session(t *testing.T, a *account.Account) *account.Session {
	t.Helper()
	v := newSession(t, a)
	require.NoError(t, s.storeSession(t, v))
	return v
}

func (s accessSuite) getAccount(t *testing.T, id account.ID) (a *account.Account, err error) {
	t.Helper()
	err = s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) (err error) {
		a, err = tx.Accounts().Get(ctx, id)
		return err
	})
	return a, err
}

func (s accessSuite) getSession(t *testing.T, id account.SessionID) (v *account.Session, err error) {
	t.Helper()
	err = s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) (err error) {
		v, err = tx.Sessions().Get(ctx, id)
		return err
	})
	return v, err
}

// renew begins a new generation of an account.
func (s accessSuite) renew(ctx context.Context, id account.ID) error {
	return s.UnitOfWork.Do(ctx, func(ctx context.Context, tx app.Tx) error {
		a, err := tx.Accounts().Get(ctx, id)
		if err != nil {
			return err
		}
		a.RevokeSessions(began.Add(time.Minute))
		events := accountEvents(a)
		return errors.Join(tx.Accounts().Save(ctx, a), tx.Record(ctx, events...))
	})
}

func accessRollsBack(t *testing.T, s accessSuite) {
	a := newAccount(t, "ada@example.org")
	v := newSession(t, a)
	err := s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
		events := append(accountEvents(a), sessionEvents(v)...)
		if err := errors.Join(tx.Accounts().Add(ctx, a), tx.Sessions().Add(ctx, v), tx.Record(ctx, events...)); err != nil {
			return err
		}
		return errRefused
	})
	require.ErrorIs(t, err, errRefused)
	_, err = s.getAccount(t, a.ID())
	require.ErrorIs(t, err, domain.ErrNotFound)
	_, err = s.getSession(t, v.ID())
	require.ErrorIs(t, err, domain.ErrNotFound)
	require.Empty(t, s.Events(t))
}

func accessVisibility(t *testing.T, s accessSuite) {
	a := newAccount(t, "ada@example.org")
	v := newSession(t, a)
	outside := t.Context()
	require.NoError(t, s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
		events := append(accountEvents(a), sessionEvents(v)...)
		if err := errors.Join(tx.Accounts().Add(ctx, a), tx.Sessions().Add(ctx, v), tx.Record(ctx, events...)); err != nil {
			return err
		}
		_, err := tx.Sessions().Get(ctx, v.ID())
		require.NoError(t, err, "its own writes are seen")
		_, err = s.Reader.SessionView(outside, v.ID())
		require.ErrorIs(t, err, domain.ErrNotFound, "what is not committed is not seen")
		_, err = s.Reader.Credentials(outside, "ada@example.org")
		require.ErrorIs(t, err, domain.ErrNotFound)
		return nil
	}))
	got, err := s.Reader.SessionView(t.Context(), v.ID())
	require.NoError(t, err)
	require.Equal(t, app.SessionViewOf(v.State()), got)
	require.Len(t, s.Events(t), 2)
}
