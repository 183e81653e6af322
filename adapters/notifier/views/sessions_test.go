package views_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/notifier/views"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/app/apptest"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/account"
	migrations "github.com/millrace-go/millrace/sql"
	"github.com/millrace-go/millrace/test/harness"
)

func TestSessions_PassTheCacheContract(t *testing.T) {
	t.Parallel()
	apptest.ExerciseSessionCache(t, func(t *testing.T, reader app.AccountReader) app.SessionCache {
		store, err := cache.NewStore(hardened(t, answering(t)), cache.StoreConfig{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, store.Close()) })
		s, err := views.NewSessions(store, reader, views.SessionsConfig{})
		require.NoError(t, err)
		return s
	})
}

func world(t *testing.T) nodeConfig {
	t.Helper()
	return nodeConfig{dsn: harness.NewDatabase(t, migrations.Lines()...).DSN, redis: answering(t)}
}

func TestAuthenticate_AnswersAValidTokenWithoutAnySQL(t *testing.T) {
	t.Parallel()
	cfg := world(t)
	n := newNode(t, cfg)
	id := n.signUp(t)
	token := n.logIn(t)
	other := newNode(t, cfg) // another process, which has never seen the token
	for _, at := range []*node{n, other} {
		before := at.statements.Load()
		for range 200 {
			who, err := at.Authenticate(t.Context(), token)
			require.NoError(t, err)
			require.Equal(t, id, who.Account)
			require.Equal(t, email, who.Email)
		}
		require.Equal(t, before, at.statements.Load(), "login has told Redis: not even the first request asks the database")
	}
	require.Positive(t, n.statements.Load(), "the counter counts")
}

func TestAuthenticate_AsksNobodyAboutWhatIsNoToken(t *testing.T) {
	t.Parallel()
	n := newNode(t, nodeConfig{dsn: "postgres://nobody@127.0.0.1:1/none?sslmode=disable", redis: &redis.Options{Addr: "127.0.0.1:1"}})
	for _, token := range []string{"", "abc", strings.Repeat("a", 4097), strings.Repeat("\x00", 43)} {
		_, err := n.Authenticate(t.Context(), token)
		require.ErrorIs(t, err, account.ErrInvalidToken)
	}
	require.Zero(t, n.statements.Load())
	require.Zero(t, n.rdb.PoolStats().Misses)
}

func TestToken_IsStoredNowhere(t *testing.T) {
	t.Parallel()
	cfg := world(t)
	n := newNode(t, cfg)
	n.signUp(t)
	token, gone := n.logIn(t), n.logIn(t)
	require.True(t, n.valid(t, token))
	require.NoError(t, n.LogOut(t.Context(), gone))

	var stored strings.Builder
	for _, query := range []string{
		`SELECT coalesce(string_agg(s::text, ''), '') FROM session s`, `SELECT coalesce(string_agg(a::text, ''), '') FROM account a`,
		`SELECT coalesce(string_agg(o::text || convert_from(payload, 'UTF8'), ''), '') FROM outbox o`,
	} {
		var text string
		require.NoError(t, n.db.QueryRow(query).Scan(&text))
		require.NotEmpty(t, text)
		stored.WriteString(text)
	}
	keys, err := n.rdb.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	require.Contains(t, keys, "auth:tok:"+string(idOf(t, token)))
	for _, key := range keys {
		value, err := n.rdb.Get(t.Context(), key).Result()
		require.NoError(t, err)
		stored.WriteString(key + value)
	}
	for _, secret := range []string{token, gone} {
		require.NotContains(t, stored.String(), secret)
		require.Contains(t, stored.String(), string(idOf(t, secret)), "its hash is")
	}
	require.NotContains(t, stored.String(), "password=", "sanity")
}

func TestAuthenticate_EndsWithTheSessionWhateverRedisHolds(t *testing.T) {
	t.Parallel()
	c := &clock{now: time.Now()}
	cfg := world(t)
	cfg.now, cfg.life = c.Now, time.Hour
	n := newNode(t, cfg)
	n.signUp(t)
	token := n.logIn(t)
	left, err := n.rdb.PTTL(t.Context(), "auth:tok:"+string(idOf(t, token))).Result()
	require.NoError(t, err)
	require.LessOrEqual(t, left, 33*time.Minute, "30 minutes and a tenth, although the session is good for an hour")

	c.Advance(time.Hour - 10*time.Minute)
	require.True(t, n.valid(t, token))
	left, err = n.rdb.PTTL(t.Context(), "auth:tok:"+string(idOf(t, token))).Result()
	require.NoError(t, err)
	require.LessOrEqual(t, left, 10*time.Minute, "no longer than the session")
	c.Advance(10*time.Minute - time.Millisecond)
	require.True(t, n.valid(t, token))
	c.Advance(time.Millisecond)
	require.False(t, n.valid(t, token))
	require.NoError(t, n.rdb.FlushDB(t.Context()).Err())
	require.False(t, n.valid(t, token), "nor does a flush bring it back")
}

func TestLogOut_LeavesATombstoneForTheRestOfTheSessionsLife(t *testing.T) {
	t.Parallel()
	cfg := world(t)
	cfg.life = time.Hour
	n, other := newNode(t, cfg), newNode(t, cfg)
	n.signUp(t)
	token := n.logIn(t)
	require.True(t, other.valid(t, token))
	require.NoError(t, n.LogOut(t.Context(), token))
	key := "auth:tok:" + string(idOf(t, token))
	text, err := n.rdb.Get(t.Context(), key).Result()
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(text, fmt.Sprintf("%020dr", 2)), "version 2, revoked: %q", text)
	left, err := n.rdb.PTTL(t.Context(), key).Result()
	require.NoError(t, err)
	require.Greater(t, left, 50*time.Minute)
	before := other.statements.Load()
	require.False(t, other.valid(t, token), "another process learns it from Redis")
	require.Equal(t, before, other.statements.Load())
}

// The reader that stands between has the row in its hands while the session is
// revoked, and hands it over afterwards, with a flush of Redis in between or not.
func TestLogOut_IsNotUndoneByALateFill(t *testing.T) {
	t.Parallel()
	for _, flush := range []bool{false, true} {
		for _, everywhere := range []bool{false, true} {
			t.Run(fmt.Sprintf("flush %v everywhere %v", flush, everywhere), func(t *testing.T) {
				t.Parallel()
				cfg := world(t)
				writer := newNode(t, cfg)
				late := newLateReader(everywhere)
				cfg.reader = func(r app.AccountReader) app.AccountReader { late.AccountReader = r; return late }
				reader := newNode(t, cfg)
				writer.signUp(t)
				token := writer.logIn(t)
				require.NoError(t, writer.rdb.FlushDB(t.Context()).Err())

				late.hold.Store(true)
				t.Cleanup(late.free)
				verdict := make(chan error, 1)
				go func() { _, err := reader.Authenticate(t.Context(), token); verdict <- err }()
				<-late.read // it holds the row of the good session, or of the account as it was
				if everywhere {
					require.NoError(t, writer.LogOutEverywhere(t.Context(), token))
				} else {
					require.NoError(t, writer.LogOut(t.Context(), token))
				}
				require.Zero(t, writer.untold.Load())
				if flush {
					require.NoError(t, writer.rdb.FlushDB(t.Context()).Err())
				}
				late.free()
				if err := <-verdict; err != nil { // asked before the logout: either answer was true
					require.ErrorIs(t, err, account.ErrInvalidToken)
				}
				for range 20 {
					require.False(t, reader.valid(t, token))
					require.False(t, writer.valid(t, token))
				}
			})
		}
	}
}

// An outage hides the logout from Redis: every process that can reach it would
// go on with the entry it has. The event of the logout fixes that.
func TestApply_EndsSessionsWhoseLogoutDidNotReachRedis(t *testing.T) {
	t.Parallel()
	cfg := world(t)
	n, other := newNode(t, cfg), newNode(t, cfg)
	proxy := harness.NewProxy(t, cfg.redis.Addr)
	cutOff := cfg
	cutOff.redis = &redis.Options{Addr: proxy.Addr(), DB: cfg.redis.DB}
	lonely := newNode(t, cutOff)
	n.signUp(t)
	one, two, three := n.logIn(t), n.logIn(t), n.logIn(t)
	proxy.Cut()
	require.NoError(t, lonely.LogOut(t.Context(), one), "the database is enough")
	require.EqualValues(t, 1, lonely.untold.Load())
	require.False(t, lonely.valid(t, one))
	require.True(t, other.valid(t, one), "others do not know yet")

	events := recordedSessions(t, n)
	require.NoError(t, other.sessions.Apply(t.Context(), events...))
	require.False(t, other.valid(t, one))
	require.True(t, other.valid(t, two))

	require.NoError(t, lonely.LogOutEverywhere(t.Context(), two))
	require.True(t, other.valid(t, three))
	events = recordedSessions(t, n)
	for _, order := range [][]domain.Recorded{events, reversed(events), events} { // any order, any number of times
		require.NoError(t, other.sessions.Apply(t.Context(), order...))
		for _, token := range []string{one, two, three} {
			require.False(t, other.valid(t, token))
		}
	}
}

func TestNewSessions_NamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := views.NewSessions(nil, nil, views.SessionsConfig{})
	require.ErrorContains(t, err, "reader")
	_, err = views.NewSessions(nil, &apptest.Memory{}, views.SessionsConfig{TTL: time.Millisecond})
	require.ErrorContains(t, err, "store")
	require.ErrorContains(t, err, "TTL")
}

// A thousand readers of one cold token: the database is asked once for the session
// and once for the account, and in the place of a Redis that is too slow.
func TestAuthenticate_OfAColdTokenLoadsOnce(t *testing.T) {
	t.Parallel()
	cfg := world(t)
	n := newNode(t, cfg)
	n.signUp(t)
	token := n.logIn(t)
	require.NoError(t, n.rdb.FlushDB(t.Context()).Err())
	before := n.statements.Load()
	errs := make([]error, 1000)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), within)
			defer cancel()
			_, errs[i] = n.Authenticate(ctx, token)
		})
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	t.Logf("%d statements for %d readers", n.statements.Load()-before, len(errs))
	require.LessOrEqual(t, n.statements.Load()-before, int64(len(errs)/10), "two, and some for those whom a busy Redis did not answer in time")
}
