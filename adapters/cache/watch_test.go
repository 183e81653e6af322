package cache_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/test/harness"
)

func TestTrap_EvictionPolicyIsCheckedAtTheStart(t *testing.T) {
	t.Parallel()
	r := harness.PrivateRedis(t, harness.RedisConfig{Real: true})
	rdb := clientOf(t, &redis.Options{Addr: r.Addr()})
	s := newStore(t, rdb, cache.StoreConfig{})
	for _, tc := range []struct{ limit, policy, warns string }{
		{"0", "noeviction", "maxmemory is 0"},
		{"100mb", "noeviction", "noeviction"},
		{"100mb", "volatile-lru", "tombstones and locks"},
		{"100mb", "volatile-ttl", "tombstones and locks"},
		{"100mb", "allkeys-random", "in use"},
		{"100mb", "allkeys-lru", ""},
		{"100mb", "allkeys-lfu", ""},
	} {
		require.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory", tc.limit).Err())
		require.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory-policy", tc.policy).Err())
		warnings, err := s.Check(t.Context())
		require.NoError(t, err)
		if tc.warns == "" {
			require.Empty(t, warnings)
			continue
		}
		require.Len(t, warnings, 1)
		require.Contains(t, warnings[0], tc.warns)
	}
	require.NoError(t, r.Kill())
	_, err := s.Check(t.Context())
	require.ErrorIs(t, err, cache.ErrUnavailable)
}

// The one who runs a service learns of it from the log, without calling Check.
func TestTrap_EvictionPolicyIsToldByRun(t *testing.T) {
	t.Parallel()
	r := harness.PrivateRedis(t, harness.RedisConfig{Real: true})
	rdb := clientOf(t, &redis.Options{Addr: r.Addr()})
	require.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory", "100mb").Err())
	require.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory-policy", "volatile-lru").Err())
	told := make(chan string, 100)
	s := newStore(t, rdb, cache.StoreConfig{WatchInterval: 5 * time.Millisecond, Hooks: cache.Hooks{Warning: func(text string) { told <- text }}})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	require.Contains(t, soon(t, told), "volatile-lru")
	require.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-random").Err())
	require.NoError(t, rdb.FlushAll(t.Context()).Err())
	require.Contains(t, soon(t, told), "allkeys-random", "it looks again when the data are gone")
	stop()
	require.NoError(t, <-ended)
	require.Empty(t, told, "once each")
}

// asked counts the commands of a client, and lets INFO fail if it is told to.
type asked struct {
	mu     sync.Mutex
	counts map[string]int
	broken func(n int) error // of the n-th INFO
}

func (a *asked) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a *asked) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (a *asked) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		a.mu.Lock()
		a.counts[cmd.Name()]++
		n := a.counts[cmd.Name()]
		a.mu.Unlock()
		if cmd.Name() == "info" && a.broken != nil {
			if err := a.broken(n); err != nil {
				cmd.SetErr(err)
				return err
			}
		}
		return next(ctx, cmd)
	}
}

func (a *asked) of(name string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.counts[name]
}

// watched runs a store on a Redis whose policy is bad, as the user that is given,
// and returns what its hooks tell.
func watched(t *testing.T, r *harness.RedisServer, a *asked, user string) (warnings chan string, troubles chan error) {
	t.Helper()
	admin := clientOf(t, &redis.Options{Addr: r.Addr()})
	require.NoError(t, admin.ConfigSet(t.Context(), "maxmemory", "100mb").Err())
	require.NoError(t, admin.ConfigSet(t.Context(), "maxmemory-policy", "volatile-lru").Err())
	rdb := clientOf(t, &redis.Options{Addr: r.Addr(), Username: user, Password: user})
	rdb.AddHook(a)
	warnings, troubles = make(chan string, 1000), make(chan error, 1000)
	run(t, newStore(t, rdb, cache.StoreConfig{WatchInterval: 2 * time.Millisecond, Hooks: cache.Hooks{
		Warning: func(text string) { warnings <- text },
		Trouble: func(_ string, err error) { troubles <- err },
	}}))
	return warnings, troubles
}

func TestRun_AsksAgainForThePolicyUntilRedisAnswers(t *testing.T) {
	t.Parallel()
	a := &asked{counts: map[string]int{}, broken: func(n int) error {
		if n <= 20 {
			return fmt.Errorf("read tcp 127.0.0.1:%d: i/o timeout", 40000+n)
		}
		return nil
	}}
	warnings, troubles := watched(t, harness.PrivateRedis(t, harness.RedisConfig{Real: true}), a, "")
	require.Contains(t, soon(t, warnings), "volatile-lru")
	require.Equal(t, 21, a.of("info"))
	require.ErrorIs(t, soon(t, troubles), cache.ErrUnavailable)
	require.Empty(t, troubles, "once, not with each look")
	looks := a.of("evalsha")
	require.Eventually(t, func() bool { return a.of("evalsha") > looks+20 }, 2*time.Minute, time.Millisecond)
	require.Equal(t, 21, a.of("info"), "now it knows")
	require.Empty(t, warnings)
}

func TestRun_TellsOnceWhatRedisRefuses(t *testing.T) {
	t.Parallel()
	r := harness.PrivateRedis(t, harness.RedisConfig{Real: true})
	admin := clientOf(t, &redis.Options{Addr: r.Addr()})
	allow := func(rules ...any) {
		require.NoError(t, admin.Do(t.Context(), append([]any{"ACL", "SETUSER", "service"}, rules...)...).Err())
	}
	allow("on", ">service", "~*", "+@all", "-info")
	a := &asked{counts: map[string]int{}}
	warnings, troubles := watched(t, r, a, "service")
	next := func(want string, more int, command string) {
		t.Helper()
		require.ErrorContains(t, soon(t, troubles), want)
		before := a.of(command)
		require.Eventually(t, func() bool { return a.of(command) > before+more }, 2*time.Minute, time.Millisecond, "it tries again")
		require.Empty(t, troubles, "and says no more")
	}
	next("'info'", 20, "info")
	require.Empty(t, warnings)
	allow("+info")
	require.Contains(t, soon(t, warnings), "volatile-lru")
	allow("-evalsha", "-eval")
	next("'evalsha'", 20, "evalsha")
	allow("+@all")
	looks := a.of("evalsha")
	require.Eventually(t, func() bool { return a.of("evalsha") > looks+5 }, 2*time.Minute, time.Millisecond)
	allow("-evalsha", "-eval")
	next("'evalsha'", 5, "evalsha")
	require.Empty(t, warnings)
}
