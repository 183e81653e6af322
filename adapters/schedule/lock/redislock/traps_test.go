package redislock_test

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/adapters/schedule/lock/locktest"
	"github.com/millrace-go/millrace/adapters/schedule/lock/redislock"
	"github.com/millrace-go/millrace/test/harness"
)

// lossy carries connections to target and, when told so, loses the next answer
// together with its connection.
type lossy struct {
	addr string
	lose atomic.Int32 // so many answers
	lost atomic.Int32
}

func newLossy(t *testing.T, target string) *lossy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := &lossy{addr: listener.Addr().String()}
	var serving sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { l.carry(client, target) })
		}
	})
	return l
}

func (l *lossy) carry(client net.Conn, target string) {
	defer client.Close()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	buf := make([]byte, 4096)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		if l.lose.Load() > 0 && l.lose.Add(-1) >= 0 {
			l.lost.Add(1)
			return
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

func startRedis(t *testing.T, settings map[string]string) *redis.Client {
	t.Helper()
	server, err := harness.StartRedis(t.Context(), harness.RedisConfig{Real: true, Settings: settings})
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Stop(context.Background()) })
	return redisClient(t, strings.TrimPrefix(server.URL(), "redis://"), 0)
}

// An acquisition whose answer is lost is asked for again, and has the lock: with
// SET NX it would have been refused its own lock for the whole lease.
func TestTrap_2_5_ALostReplyDoesNotLockUsOut(t *testing.T) {
	t.Parallel()
	direct := harness.Redis(t)
	grown(t, direct, "default")
	proxy := newLossy(t, direct.Options().Addr)
	client := redisClient(t, proxy.addr, direct.Options().DB)
	locks, err := redislock.New(client, redislock.Config{})
	require.NoError(t, err)
	warm, err := locks.Acquire(t.Context(), locktest.NewRequest("warm", time.Minute)) // the script is known from now on
	require.NoError(t, err)
	require.NoError(t, locks.Release(t.Context(), warm, 0))

	proxy.lose.Store(2)
	g, err := locks.Acquire(t.Context(), locktest.NewRequest("a", time.Minute))
	require.NoError(t, err)
	require.EqualValues(t, 2, proxy.lost.Load())
	require.Equal(t, g.Owner, direct.Get(t.Context(), "job-lock:default:a").Val())
	proxy.lose.Store(1)
	require.NoError(t, locks.Renew(t.Context(), g, time.Minute))

	// When no answer comes at all, the Locker gives back what it may have been given.
	locker, err := lock.NewLocker(locks, lock.Config{})
	require.NoError(t, err)
	proxy.lose.Store(3)
	r := locker.Do(t.Context(), lock.Lock{Name: "b", AtMostFor: time.Minute}, func(context.Context) error { return nil })
	require.Error(t, r.Err)
	require.False(t, r.Executed)
	require.Zero(t, direct.Exists(t.Context(), "job-lock:default:b").Val())
}

func TestTrap_2_16_ARedisThatEvictsLocksIsRefused(t *testing.T) {
	t.Parallel()
	client := startRedis(t, map[string]string{"maxmemory": "50mb", "maxmemory-policy": "volatile-lru"})
	locks, err := redislock.New(client, redislock.Config{})
	require.NoError(t, err)
	err = locks.Check(t.Context())
	require.ErrorIs(t, err, lock.ErrUnsafeStore)
	require.ErrorContains(t, err, "volatile-lru")
	locker, err := lock.NewLocker(locks, lock.Config{})
	require.NoError(t, err)
	s, err := schedule.NewScheduler(locker, schedule.NewMemoryHistory(), nil, schedule.SchedulerConfig{})
	require.NoError(t, err)
	require.ErrorIs(t, s.Run(t.Context()), lock.ErrUnsafeStore)

	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err())
	require.NoError(t, locks.Check(t.Context()))
}

// After a flush nobody gets a lock until those that were lost must have lapsed.
func TestTrap_2_17_AFlushDoesNotGiveALockTwice(t *testing.T) {
	t.Parallel()
	client := startRedis(t, nil)
	cfg := redislock.Config{MaxLease: 2 * time.Second}
	one, err := redislock.New(client, cfg)
	require.NoError(t, err)
	claim := func() (lock.Grant, error) {
		return one.Acquire(t.Context(), locktest.NewRequest("a", 2*time.Second))
	}
	waits := func() {
		_, err := claim()
		require.ErrorIs(t, err, lock.ErrNotAcquired)
		var wait *redislock.WaitError
		require.ErrorAs(t, err, &wait)
		require.Positive(t, wait.For)
		require.LessOrEqual(t, wait.For, cfg.MaxLease)
	}
	granted := func() (g lock.Grant) {
		require.Eventually(t, func() bool { g, err = claim(); return err == nil }, 2*time.Minute, 10*time.Millisecond)
		return g
	}
	waits() // it is new
	first := granted()

	taken := time.Now()
	require.NoError(t, one.Renew(t.Context(), first, 2*time.Second))
	require.NoError(t, client.FlushAll(t.Context()).Err())
	waits()
	require.ErrorIs(t, one.Renew(t.Context(), first, time.Second), lock.ErrLost)
	second := granted()
	require.GreaterOrEqual(t, time.Since(taken), 2*time.Second, "the first holder could trust its lock until then")
	require.Greater(t, second.Fence, first.Fence, "although the counter was lost")

	require.NoError(t, client.Set(t.Context(), "job-epoch:default", time.Now().Add(time.Hour).UnixMicro(), 0).Err())
	require.NoError(t, one.Release(t.Context(), second, 0))
	waits() // the clock was set back by an hour
	granted()
}

// While Redis refuses writes nothing is acquired, and nothing is left behind that
// would keep others out later.
func TestTrap_2_18_ARedisThatIsFullLeavesNoLockBehind(t *testing.T) {
	t.Parallel()
	client := startRedis(t, map[string]string{"maxmemory-policy": "noeviction"})
	grown(t, client, "default")
	locks, err := redislock.New(client, redislock.Config{})
	require.NoError(t, err)
	held, err := locks.Acquire(t.Context(), locktest.NewRequest("held", time.Minute))
	require.NoError(t, err)
	kept, err := locks.Acquire(t.Context(), locktest.NewRequest("kept", time.Minute))
	require.NoError(t, err)

	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "1").Err())
	locker, err := lock.NewLocker(locks, lock.Config{})
	require.NoError(t, err)
	r := locker.Do(t.Context(), lock.Lock{Name: "a", AtMostFor: time.Minute}, func(context.Context) error { panic("not to be run") })
	require.False(t, r.Executed)
	require.ErrorContains(t, r.Err, "OOM")
	require.Zero(t, client.Exists(t.Context(), "job-lock:default:a").Val())
	require.NoError(t, locks.Renew(t.Context(), kept, 2*time.Minute), "what is held can be kept")
	require.NoError(t, locks.Release(t.Context(), kept, 90*time.Second))
	require.NoError(t, locks.Release(t.Context(), held, 0), "and freed")

	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "0").Err())
	again, err := locks.Acquire(t.Context(), locktest.NewRequest("held", time.Minute))
	require.NoError(t, err)
	require.Greater(t, again.Fence, held.Fence)
}

// A Redis that hangs costs what the context allows, not what the sockets do.
func TestTrap_2_19_AFrozenRedisIsGivenUpAtTheDeadline(t *testing.T) {
	t.Parallel()
	server, err := harness.StartRedis(t.Context(), harness.RedisConfig{Real: true})
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Stop(context.Background()) })
	o, err := redislock.Options(server.URL())
	require.NoError(t, err)
	require.LessOrEqual(t, o.ReadTimeout, time.Second)
	o.ReadTimeout, o.WriteTimeout = time.Hour, time.Hour // so that only the context can end it
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() })
	locks, err := redislock.New(client, redislock.Config{})
	require.NoError(t, err)
	require.NoError(t, client.Ping(t.Context()).Err())
	require.NoError(t, server.Pause())
	defer func() { require.NoError(t, server.Resume()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	answered := make(chan error, 1)
	go func() {
		_, err := locks.Acquire(ctx, locktest.NewRequest("a", time.Minute))
		answered <- err
	}()
	select {
	case err := <-answered:
		require.Error(t, err)
		require.NotErrorIs(t, err, lock.ErrNotAcquired)
	case <-time.After(2 * time.Minute):
		require.Fail(t, "the deadline was not heeded")
	}

	deaf := *o
	deaf.ContextTimeoutEnabled = false
	other := redis.NewClient(&deaf)
	t.Cleanup(func() { _ = other.Close() })
	_, err = redislock.New(other, redislock.Config{MaxLease: -1, Attempts: -1})
	for _, part := range []string{"must have ContextTimeoutEnabled", "MaxLease: must be", "Attempts: must be"} {
		require.ErrorContains(t, err, part)
	}
}

// The keys and values are ShedLock's, so that its nodes see our locks.
func TestRedisLocks_HaveShedLocksKeysAndValues(t *testing.T) {
	t.Parallel()
	client := harness.Redis(t)
	grown(t, client, "prod")
	locks := redisLocks(t, client.Options(), redislock.Config{Environment: "prod"})
	g, err := locks.Acquire(t.Context(), locktest.NewRequest("a", time.Minute))
	require.NoError(t, err)
	require.Regexp(t, `^ADDED:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z@[^:]+:[0-9a-f-]{36}$`, client.Get(t.Context(), "job-lock:prod:a").Val())
	require.Equal(t, g.Owner, client.Get(t.Context(), "job-lock:prod:a").Val())
	ttl := client.PTTL(t.Context(), "job-lock:prod:a").Val()
	require.LessOrEqual(t, ttl, time.Minute)
	require.Greater(t, ttl, 20*time.Second)
	_, err = locks.Acquire(t.Context(), locktest.NewRequest("b", time.Hour))
	require.ErrorContains(t, err, "raise MaxLease")
}
