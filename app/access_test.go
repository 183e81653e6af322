package app_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/app/apptest"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/account"
)

const (
	email    = "ada@example.org"
	password = "correct horse"
)

type accessWorld struct {
	*app.Access
	memory    *apptest.Memory
	cache     *apptest.SessionCache
	passwords *apptest.Passwords
	now       time.Time
	failed    []error
}

func newAccessWorld(t *testing.T) *accessWorld {
	t.Helper()
	w := &accessWorld{memory: &apptest.Memory{}, passwords: &apptest.Passwords{}, now: now}
	w.cache = &apptest.SessionCache{Reader: w.memory}
	a, err := app.NewAccess(w.memory, w.memory, w.cache, w.passwords, app.AccessConfig{
		SessionLife: time.Hour,
		Now:         func() time.Time { return w.now },
		CacheFailed: func(_ context.Context, err error) { w.failed = append(w.failed, err) },
	})
	require.NoError(t, err)
	w.Access = a
	return w
}

func (w *accessWorld) signUp(t *testing.T) account.ID {
	t.Helper()
	id, err := w.SignUp(t.Context(), email, password)
	require.NoError(t, err)
	return id
}

func (w *accessWorld) logIn(t *testing.T) string {
	t.Helper()
	got, err := w.LogIn(t.Context(), email, password)
	require.NoError(t, err)
	return got.Token.Reveal()
}

func (w *accessWorld) valid(t *testing.T, token string) bool {
	t.Helper()
	_, err := w.Authenticate(t.Context(), token)
	if err != nil {
		require.ErrorIs(t, err, account.ErrInvalidToken)
	}
	return err == nil
}

func TestNewAccess_NamesEveryMissingPort(t *testing.T) {
	t.Parallel()
	_, err := app.NewAccess(nil, nil, nil, nil, app.AccessConfig{SessionLife: time.Millisecond})
	for _, field := range []string{"uow", "reader", "cache", "passwords", "SessionLife"} {
		require.ErrorContains(t, err, field)
	}
}

func TestSignUp_StoresTheAccountUnderItsNormalEmail(t *testing.T) {
	t.Parallel()
	w := newAccessWorld(t)
	ctx := app.WithTrace(t.Context(), domain.Trace{CorrelationID: "corr"})
	id, err := w.SignUp(ctx, "  Ada@Example.ORG ", password)
	require.NoError(t, err)
	events := w.memory.Events()
	require.Equal(t, []domain.Recorded{{
		ID: events[0].ID, AggregateType: "account", AggregateID: string(id), AggregateVersion: 1, OccurredAt: now,
		Trace: domain.Trace{CorrelationID: "corr"},
		Event: account.Registered{About: account.About{Email: email, Generation: 1, RegisteredAt: now}},
	}}, events)

	_, err = w.SignUp(t.Context(), "ADA@example.org", password)
	require.ErrorIs(t, err, domain.ErrDuplicate)
	_, err = w.SignUp(t.Context(), "nobody", "short")
	var invalid *domain.ValidationError
	require.ErrorAs(t, err, &invalid)
	require.Len(t, invalid.Fields, 2)
	require.Len(t, w.memory.Events(), 1)
}

func TestLogIn_OpensASessionThatAuthenticates(t *testing.T) {
	t.Parallel()
	w := newAccessWorld(t)
	id := w.signUp(t)
	got, err := w.LogIn(t.Context(), " ADA@example.org", password)
	require.NoError(t, err)
	require.Equal(t, id, got.Account)
	require.Equal(t, now.Add(time.Hour), got.ExpiresAt)
	require.NotContains(t, fmt.Sprintf("%v %+v %#v %s", got, got, got, got.Token), got.Token.Reveal(), "a token does not print")

	who, err := w.Authenticate(t.Context(), got.Token.Reveal())
	require.NoError(t, err)
	require.Equal(t, app.Principal{
		Account: id, Email: email, RegisteredAt: now, Session: got.Token.Session(), OpenedAt: now, ExpiresAt: now.Add(time.Hour),
	}, who)
	require.NotContains(t, fmt.Sprintf("%+v", w.memory.Events()), got.Token.Reveal(), "nor is it in an event")
	require.NotContains(t, fmt.Sprintf("%+v", w.memory.Events()), "hash of")
}

func TestLogIn_CostsTheSameForAnUnknownNameAndAWrongPassword(t *testing.T) {
	t.Parallel()
	w := newAccessWorld(t)
	w.signUp(t)
	for i, try := range []struct{ email, password string }{
		{email, "wrong"}, {email, ""}, {"grace@example.org", password}, {"", password}, {"a\x00@b", password}, {"grace@example.org", ""},
	} {
		_, err := w.LogIn(t.Context(), try.email, try.password)
		require.ErrorIs(t, err, account.ErrWrongCredentials, "%q", try)
		require.Equal(t, i+1, w.passwords.Verified(), "one hash each: %q", try)
	}
	require.Len(t, w.memory.Events(), 1)
	w.passwords.Err = app.ErrOverloaded
	_, err := w.LogIn(t.Context(), email, password)
	require.ErrorIs(t, err, app.ErrOverloaded)
	require.NotErrorIs(t, err, account.ErrWrongCredentials)
}

// Another session's LogOutEverywhere commits in the middle of a login. The login,
// which returns later, must not hand out a token that was over before.
func TestLogIn_BelongsToTheGenerationThatIsCurrentWhenItCommits(t *testing.T) {
	t.Parallel()
	w := newAccessWorld(t)
	w.signUp(t)
	other := w.logIn(t)
	cutIn := sync.OnceFunc(func() { require.NoError(t, w.LogOutEverywhere(context.Background(), other)) })
	a, err := app.NewAccess(w.memory, w.memory, w.cache, w.passwords, app.AccessConfig{
		Now:   func() time.Time { return w.now },
		NewID: func() string { cutIn(); return app.NewID() }, // drawn for the event, within the transaction
	})
	require.NoError(t, err)
	got, err := a.LogIn(t.Context(), email, password)
	require.NoError(t, err)
	require.True(t, w.valid(t, got.Token.Reveal()))
	require.False(t, w.valid(t, other))
}

func TestAuthenticate_RefusesWhatIsNoTokenWithoutAskingAnybody(t *testing.T) {
	t.Parallel()
	w := newAccessWorld(t)
	w.cache.Reader = nil // a question would panic
	good := account.NewToken().Reveal()
	for _, token := range []string{
		"", " ", good[1:], good + "A", good + "=", strings.Repeat("x", 4097), good[:42] + "\x00", good[:42] + "é", good[:42] + "+",
		good[:40] + "\n\n\n", "\n" + good[1:],
	} {
		_, err := w.Authenticate(t.Context(), token)
		require.ErrorIs(t, err, account.ErrInvalidToken, "%q", token)
		require.ErrorIs(t, w.LogOut(t.Context(), token), account.ErrInvalidToken)
		require.ErrorIs(t, w.LogOutEverywhere(t.Context(), token), account.ErrInvalidToken)
	}
}

func TestAuthenticate_EndsWithTheLifeOfTheSession(t *testing.T) {
	t.Parallel()
	w := newAccessWorld(t)
	w.signUp(t)
	token := w.logIn(t)
	w.now = now.Add(time.Hour - 1)
	require.True(t, w.valid(t, token))
	w.now = now.Add(time.Hour)
	require.False(t, w.valid(t, token))
	require.ErrorIs(t, w.LogOut(t.Context(), token), account.ErrInvalidToken)
}

func TestLogOut_EndsOneSession(t *testing.T) {
	t.Parallel()
	w := newAccessWorld(t)
	w.signUp(t)
	mine, other := w.logIn(t), w.logIn(t)
	require.NoError(t, w.LogOut(t.Context(), mine))
	require.False(t, w.valid(t, mine))
	require.True(t, w.valid(t, other))
	require.ErrorIs(t, w.LogOut(t.Context(), mine), account.ErrInvalidToken, "it is over already")
	last := w.memory.Events()[3]
	require.IsType(t, account.SessionRevoked{}, last.Event)
	require.EqualValues(t, 2, last.AggregateVersion)
}

func TestLogOutEverywhere_EndsAllSessionsAndNoLaterOne(t *testing.T) {
	t.Parallel()
	w := newAccessWorld(t)
	w.signUp(t)
	_, err := w.SignUp(t.Context(), "grace@example.org", password)
	require.NoError(t, err)
	stranger, err := w.LogIn(t.Context(), "grace@example.org", password)
	require.NoError(t, err)
	before := []string{w.logIn(t), w.logIn(t), w.logIn(t)}
	require.NoError(t, w.LogOutEverywhere(t.Context(), before[1]))
	after := w.logIn(t)
	for _, token := range before {
		require.False(t, w.valid(t, token))
		require.ErrorIs(t, w.LogOutEverywhere(t.Context(), token), account.ErrInvalidToken)
	}
	require.True(t, w.valid(t, after))
	require.True(t, w.valid(t, stranger.Token.Reveal()))
}

func TestLogOut_IsDoneEvenIfTheCacheIsNotTold(t *testing.T) {
	t.Parallel()
	w := newAccessWorld(t)
	w.signUp(t)
	one, two := w.logIn(t), w.logIn(t)
	away := errors.New("connection refused")
	w.cache.Err = away
	require.NoError(t, w.LogOut(t.Context(), one))
	require.NoError(t, w.LogOutEverywhere(t.Context(), two))
	require.Equal(t, []error{away, away}, w.failed)
	require.False(t, w.valid(t, one), "the database knows")
	require.False(t, w.valid(t, two))
}

func TestSweepSessions_KeepsADayOfWhatIsOver(t *testing.T) {
	t.Parallel()
	w := newAccessWorld(t)
	w.signUp(t)
	old := w.logIn(t)
	w.now = now.Add(10 * time.Hour)
	w.logIn(t)
	w.now = now.Add(25 * time.Hour)
	n, err := w.SweepSessions(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
	w.now = now.Add(25*time.Hour + 1)
	n, err = w.SweepSessions(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)
	token, err := account.ParseToken(old)
	require.NoError(t, err)
	_, err = w.memory.SessionView(t.Context(), token.Session())
	require.ErrorIs(t, err, domain.ErrNotFound)
}

// A model that knows nothing of generations or caches says which tokens are good.
func TestAccess_AgreesWithAModelOverRandomActs(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	w := newAccessWorld(t)
	w.signUp(t)
	type session struct {
		token   string
		expires time.Time
		over    bool
	}
	var all []*session
	for range 2000 {
		var some *session
		if len(all) > 0 {
			some = all[rng.IntN(len(all))]
		}
		good := some != nil && !some.over && w.now.Before(some.expires)
		switch act := rng.IntN(10); {
		case act < 3 || some == nil:
			all = append(all, &session{token: w.logIn(t), expires: w.now.Add(time.Hour)})
		case act < 4:
			require.Equal(t, good, w.LogOut(t.Context(), some.token) == nil)
			some.over = true
		case act < 5 && rng.IntN(5) == 0:
			require.Equal(t, good, w.LogOutEverywhere(t.Context(), some.token) == nil)
			for _, s := range all {
				s.over = s.over || good
			}
		case act < 6:
			w.now = w.now.Add(time.Duration(rng.Int64N(int64(10 * time.Minute))))
		case act < 7: // the cache forgets
			w.cache = &apptest.SessionCache{Reader: w.memory}
			a, err := app.NewAccess(w.memory, w.memory, w.cache, w.passwords, app.AccessConfig{SessionLife: time.Hour, Now: func() time.Time { return w.now }})
			require.NoError(t, err)
			w.Access = a
		default:
			require.Equal(t, good, w.valid(t, some.token))
		}
	}
}
