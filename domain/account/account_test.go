package account_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/account"
)

const id account.ID = "01890a5d-ac96-774b-bcce-b302099a8057"

var start = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

func registered(t *testing.T) *account.Account {
	t.Helper()
	a, err := account.Register(id, "ada@example.org", "hash", start)
	require.NoError(t, err)
	return a
}

func opened(t *testing.T, a *account.Account) *account.Session {
	t.Helper()
	s, err := account.Open(a, account.NewToken(), start, time.Hour)
	require.NoError(t, err)
	return s
}

func TestRegister_StartsAtVersionAndGenerationOne(t *testing.T) {
	t.Parallel()
	a := registered(t)
	require.EqualValues(t, 1, a.Version())
	require.EqualValues(t, 0, a.Stored())
	require.EqualValues(t, 1, a.State().Generation)
	require.Equal(t, start.Truncate(time.Microsecond), a.State().RegisteredAt)
	require.Len(t, a.Pending(), 1)
	require.NotContains(t, fmt.Sprintf("%+v", a.Pending()), "hash", "no event has the password")
}

func TestRegister_NamesEveryWrongField(t *testing.T) {
	t.Parallel()
	_, err := account.Register("7", "nobody", "", start)
	var invalid *domain.ValidationError
	require.ErrorAs(t, err, &invalid)
	var fields []string
	for _, f := range invalid.Fields {
		fields = append(fields, f.Field)
	}
	require.Equal(t, []string{"id", "email", "password"}, fields)
}

func TestIsEmail_TakesWhatHasTheFormOfOne(t *testing.T) {
	t.Parallel()
	for email, want := range map[string]bool{
		"a@b": true, "ada+tag@example.org": true, "ädä@exämple.org": true,
		"": false, "@": false, "a@": false, "@b": false, "a@b@c": false, "a b@c": false, "a@b\x00": false, "a@b\n": false, "a@\xff": false,
		strings.Repeat("a", 253) + "@b": false,
	} {
		require.Equal(t, want, account.IsEmail(email), "%q", email)
	}
	require.Equal(t, "ada@example.org", account.NormalEmail(" \tAda@Example.ORG\n"))
}

func TestValidateCredentials_BoundsThePassword(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]bool{0: false, 7: false, 8: true, 128: true, 129: false} {
		err := account.ValidateCredentials("a@b", strings.Repeat("\x00", n))
		require.Equal(t, want, err == nil, "%d bytes", n)
	}
	require.ErrorIs(t, account.ValidateCredentials("a", "long enough"), domain.ErrInvalid)
}

func TestSession_IsLiveUntilItsEndItsRevocationOrANewGeneration(t *testing.T) {
	t.Parallel()
	a := registered(t)
	s := opened(t, a)
	now := start.Add(time.Minute)
	require.True(t, s.State().Live(a.State().Generation, now))
	require.False(t, s.State().Live(a.State().Generation, s.State().ExpiresAt))
	require.True(t, s.State().Live(a.State().Generation, s.State().ExpiresAt.Add(-time.Nanosecond)))

	a.RevokeSessions(now)
	require.False(t, s.State().Live(a.State().Generation, now), "of the generation before")
	later := opened(t, a)
	require.True(t, later.State().Live(a.State().Generation, now))
	require.NoError(t, later.Revoke(now))
	require.False(t, later.State().Live(a.State().Generation, now))
	var illegal *domain.IllegalActError
	require.ErrorAs(t, later.Revoke(now), &illegal)
	require.EqualValues(t, 2, later.Version(), "a refused act changes nothing")
}

func TestOpen_RefusesALifeThatIsNone(t *testing.T) {
	t.Parallel()
	_, err := account.Open(registered(t), account.NewToken(), start, 0)
	require.ErrorIs(t, err, domain.ErrInvalid)
}

func TestActs_TimeNeverRunsBackwards(t *testing.T) {
	t.Parallel()
	a := registered(t)
	a.RevokeSessions(start.Add(-time.Hour))
	require.Equal(t, a.State().RegisteredAt, a.State().ChangedAt)
	s := opened(t, a)
	require.NoError(t, s.Revoke(start.Add(-time.Hour)))
	require.Equal(t, s.State().OpenedAt, s.State().RevokedAt)
}

func TestToken_RoundTripsAndHidesItself(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 200 {
		token := account.NewToken()
		require.False(t, seen[token.Reveal()])
		seen[token.Reveal()] = true
		parsed, err := account.ParseToken(token.Reveal())
		require.NoError(t, err)
		require.Equal(t, token, parsed)
		require.Len(t, string(token.Session()), 64)

		var log strings.Builder
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "token", token, "in", []any{token})
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "token", token)
		text, err := json.Marshal(token) //nolint:staticcheck // that nothing is shown is what is tested
		require.NoError(t, err)
		shown := fmt.Sprintf("%v %+v %#v %s %q %s", token, token, token, token, token, text) + log.String()
		require.NotContains(t, shown, token.Reveal())
	}
}

func TestToken_HashIsSHA256OfItsText(t *testing.T) {
	t.Parallel()
	token, err := account.ParseToken("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	require.NoError(t, err)
	// printf A…A (43 times) | sha256sum
	require.Equal(t, account.SessionID("0f007385b6f9d4b7eeb2748605afe1a984a0a3bfa3f014d09e2a784ce9e5cd1a"), token.Session())
}
