package apptest

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/account"
)

// ExerciseSessionCache runs the contract of app.SessionCache. open returns an
// empty cache over the given reader; each test gets its own.
func ExerciseSessionCache(t *testing.T, open func(t *testing.T, reader app.AccountReader) app.SessionCache) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, *cacheSuite){
		"Look_FindsSessionAndAccount":               lookFinds,
		"Look_AsksTheDatabaseOnceOnly":              lookAsksOnce,
		"Look_KnowsWhatIsMissing":                   lookMissing,
		"Look_KnowsWhatTheDatabaseHasRevoked":       lookRevoked,
		"Revoked_EndsWhatIsCached":                  revokedEnds,
		"Revoked_IsNotUndoneByWhatWasReadBefore":    revokedStays,
		"Changed_OnlyEverMakesNewer":                changedNewer,
		"Changed_OfAnUnknownAccountIsNotTheLastOne": changedUnknown,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &Memory{}
			s := &cacheSuite{accessSuite: accessSuite{AccessBackend{UnitOfWork: m, Reader: m}}}
			s.cache = open(t, s)
			test(t, s)
		})
	}
}

// cacheSuite is also the reader that the cache under test asks.
type cacheSuite struct {
	accessSuite
	cache app.SessionCache
	asked atomic.Int64
	gone  atomic.Bool
	// late, if set, is called with the view of a session that was read, before it
	// is handed to the cache.
	late func(app.SessionView)
}

func (s *cacheSuite) Credentials(ctx context.Context, email string) (app.Credentials, error) {
	return s.Reader.Credentials(ctx, email)
}

func (s *cacheSuite) AccountView(ctx context.Context, id account.ID) (app.AccountView, error) {
	s.asked.Add(1)
	if s.gone.Load() {
		return app.AccountView{}, errGone
	}
	return s.Reader.AccountView(ctx, id)
}

func (s *cacheSuite) SessionView(ctx context.Context, id account.SessionID) (app.SessionView, error) {
	s.asked.Add(1)
	if s.gone.Load() {
		return app.SessionView{}, errGone
	}
	v, err := s.Reader.SessionView(ctx, id)
	if err == nil && s.late != nil {
		s.late(v)
	}
	return v, err
}

// session stores one that is good now: a cache keeps nothing that is over.
func (s *cacheSuite) session(t *testing.T, a *account.Account) *account.Session {
	t.Helper()
	v, err := account.Open(a, account.NewToken(), time.Now(), life)
	require.NoError(t, err)
	require.NoError(t, s.storeSession(t, v))
	return v
}

func lookFinds(t *testing.T, s *cacheSuite) {
	a := s.account(t)
	v := s.session(t, a)
	for range 2 { // from the database, from the cache
		gotSession, gotAccount, err := s.cache.Look(t.Context(), v.ID())
		require.NoError(t, err)
		require.Equal(t, app.SessionViewOf(v.State()), gotSession)
		require.Equal(t, app.AccountViewOf(a.State()), gotAccount)
	}
}

func lookAsksOnce(t *testing.T, s *cacheSuite) {
	v := s.session(t, s.account(t))
	_, _, err := s.cache.Look(t.Context(), v.ID())
	require.NoError(t, err)
	require.EqualValues(t, 2, s.asked.Load())
	s.gone.Store(true)
	for range 100 {
		_, _, err := s.cache.Look(t.Context(), v.ID())
		require.NoError(t, err)
	}
	require.EqualValues(t, 2, s.asked.Load())
}

func lookMissing(t *testing.T, s *cacheSuite) {
	_, _, err := s.cache.Look(t.Context(), account.NewToken().Session())
	require.ErrorIs(t, err, domain.ErrNotFound)
	s.gone.Store(true)
	_, _, err = s.cache.Look(t.Context(), account.NewToken().Session())
	require.ErrorIs(t, err, errGone, "that nobody can be asked is not that there is nothing")
	require.NotErrorIs(t, err, domain.ErrNotFound)
}

func lookRevoked(t *testing.T, s *cacheSuite) {
	v := s.session(t, s.account(t))
	require.NoError(t, s.revoke(t, v.ID()))
	for range 2 {
		_, _, err := s.cache.Look(t.Context(), v.ID())
		require.ErrorIs(t, err, domain.ErrNotFound)
	}
}

func revokedEnds(t *testing.T, s *cacheSuite) {
	v := s.session(t, s.account(t))
	_, _, err := s.cache.Look(t.Context(), v.ID())
	require.NoError(t, err)
	require.NoError(t, v.Revoke(began))
	require.NoError(t, s.cache.Revoke(t.Context(), app.SessionViewOf(v.State())))
	s.gone.Store(true)
	_, _, err = s.cache.Look(t.Context(), v.ID())
	require.ErrorIs(t, err, domain.ErrNotFound)
}

// The reader saw the session while it was good; before its answer arrives, the
// session is revoked, and the cache is told.
func revokedStays(t *testing.T, s *cacheSuite) {
	v := s.session(t, s.account(t))
	var once atomic.Bool
	s.late = func(read app.SessionView) {
		if once.Swap(true) {
			return
		}
		require.False(t, read.Revoked)
		require.NoError(t, s.revoke(t, v.ID()))
		require.NoError(t, v.Revoke(began))
		require.NoError(t, s.cache.Revoke(t.Context(), app.SessionViewOf(v.State())))
	}
	_, _, err := s.cache.Look(t.Context(), v.ID())
	if err != nil { // it may still be answered with what was true when it was asked
		require.ErrorIs(t, err, domain.ErrNotFound)
	}
	for range 3 {
		_, _, err = s.cache.Look(t.Context(), v.ID())
		require.ErrorIs(t, err, domain.ErrNotFound)
	}
}

func changedNewer(t *testing.T, s *cacheSuite) {
	a := s.account(t)
	v := s.session(t, a)
	old := app.AccountViewOf(a.State())
	_, _, err := s.cache.Look(t.Context(), v.ID())
	require.NoError(t, err)
	s.gone.Store(true)
	a.RevokeSessions(began)
	renewed := app.AccountViewOf(a.State())
	for _, offer := range []app.AccountView{renewed, old, renewed} {
		require.NoError(t, s.cache.RefreshAccount(t.Context(), offer))
		gotSession, gotAccount, err := s.cache.Look(t.Context(), v.ID())
		require.NoError(t, err)
		require.Equal(t, renewed, gotAccount)
		require.False(t, gotSession.Live(gotAccount, v.State().OpenedAt), "the session is of the generation before")
	}
}

// An old event comes again after the entry of a newer one was lost.
func changedUnknown(t *testing.T, s *cacheSuite) {
	a := s.account(t)
	v := s.session(t, a)
	old := app.AccountViewOf(a.State())
	require.NoError(t, s.renew(t.Context(), a.ID()))
	require.NoError(t, s.cache.RefreshAccount(t.Context(), old))
	_, got, err := s.cache.Look(t.Context(), v.ID())
	require.NoError(t, err)
	require.EqualValues(t, 2, got.Generation)
}
