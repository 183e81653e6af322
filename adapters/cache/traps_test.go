package cache_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/test/harness"
)

// Kafka delivers again, and a dead letter is replayed after newer events.
func TestTrap_OutOfOrderRedeliveryAndReplay(t *testing.T) {
	t.Parallel()
	y := &tally{}
	c, rdb := open(t, newTable(), cache.StoreConfig{Hooks: y.hooks()})
	put := func(v int64, state cache.State) cache.Put[thing] {
		return cache.Put[thing]{ID: "a", Entry: cache.Entry[thing]{Version: v, State: state, Value: named("a", v)}}
	}
	for _, batch := range [][]cache.Put[thing]{
		{put(1, cache.Live), put(2, cache.Live)}, {put(1, cache.Live)}, {put(4, cache.Live), put(3, cache.Live)}, {put(5, cache.Missing)}, // deleted by 5
		{put(3, cache.Live)}, {put(4, cache.Live), put(5, cache.Missing)}, // replayed
	} {
		_, err := c.PutAll(t.Context(), batch...)
		require.NoError(t, err, "what is old is acknowledged")
	}
	_, err := c.Get(t.Context(), "a")
	require.ErrorIs(t, err, cache.ErrNotFound, "a replayed event does not bring back what was deleted")
	require.Equal(t, 3, y.of("put stored"))
	require.Equal(t, 6, y.of("put older"))
	require.Greater(t, rdb.PTTL(t.Context(), "thing:a").Val(), 23*time.Hour, "the tombstone outlives what may be replayed")
}

// Lua's numbers are doubles: ...149001 == ...149000 is true above 2^53.
func TestTrap_VersionsAbove2To53(t *testing.T) {
	t.Parallel()
	tb := newTable()
	c, _ := open(t, tb, cache.StoreConfig{})
	const base = 1763800000000149000
	for _, step := range []struct {
		version int64
		stored  bool
	}{{base, true}, {base + 1, true}, {base, false}, {base + 2, true}, {1<<63 - 2, true}, {1<<63 - 1, true}, {1<<63 - 2, false}} {
		stored, err := c.Put(t.Context(), "a", cache.Found(step.version, thing{N: step.version}))
		require.NoError(t, err)
		require.Equal(t, step.stored, stored, "%d", step.version)
	}
	e, err := c.GetEntry(t.Context(), "a")
	require.NoError(t, err)
	require.EqualValues(t, 1<<63-1, e.Version)
	for _, v := range []int64{base, base + 1} { // nor are they confused by who asks and who fills
		tb.set("b", cache.Found(v, thing{N: v}))
		e, err := c.GetAtLeast(t.Context(), "b", v)
		require.NoError(t, err)
		require.Equal(t, v, e.Version)
	}
}

// A whole topic is replayed: thousands of old events for things in use.
func TestTrap_ReplayStorm(t *testing.T) {
	t.Parallel()
	tb := newTable()
	c, rdb := open(t, tb, cache.StoreConfig{})
	const ids, versions = 20, 30
	var storm []cache.Put[thing]
	for i := range ids {
		for range versions {
			storm = append(storm, cache.Put[thing]{ID: fmt.Sprint(i), Entry: tb.commit(fmt.Sprint(i))})
		}
		_, err := c.Get(t.Context(), fmt.Sprint(i))
		require.NoError(t, err)
		require.NoError(t, rdb.PExpire(t.Context(), fmt.Sprintf("thing:%d", i), time.Hour).Err())
	}
	for range 5 {
		rand.Shuffle(len(storm), func(i, j int) { storm[i], storm[j] = storm[j], storm[i] })
		done, err := c.PutAll(t.Context(), storm...)
		require.NoError(t, err)
		require.Equal(t, cache.Applied{Older: len(storm)}, done)
	}
	for i := range ids {
		e, err := c.GetEntry(t.Context(), fmt.Sprint(i))
		require.NoError(t, err)
		require.EqualValues(t, versions, e.Version)
		require.Greater(t, rdb.PTTL(t.Context(), fmt.Sprintf("thing:%d", i)).Val(), 50*time.Minute, "its time to live is what it was")
	}
	require.EqualValues(t, ids, tb.loads.Load(), "it cost no load")
}

// A counter that was evicted begins at 1 again, and results of an earlier
// generation 1 come back to life.
func TestTrap_GenerationIsNoCounter(t *testing.T) {
	t.Parallel()
	rdb := harness.Redis(t)
	answer := "first"
	q := newQuery(t, newStore(t, client(t, rdb), cache.StoreConfig{}), func(context.Context, int) (string, error) { return answer, nil })
	seen := map[string]bool{}
	for i := range 20 {
		answer = fmt.Sprintf("answer %d", i)
		if i%2 == 0 {
			require.NoError(t, rdb.Del(t.Context(), "q:answers:1:gen").Err()) // evicted
		} else {
			require.NoError(t, q.Invalidate(t.Context()))
		}
		got, err := q.Get(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, answer, got, "no result of an earlier generation comes back")
		gen := rdb.Get(t.Context(), "q:answers:1:gen").Val()
		require.Regexp(t, `^\d{20}$`, gen)
		require.False(t, seen[gen])
		seen[gen] = true
		require.Equal(t, time.Duration(-1), rdb.PTTL(t.Context(), "q:answers:1:gen").Val(), "volatile policies do not pick it")
	}
}

// Tombstones have a time to live, so volatile policies evict exactly them. Then
// the database knows.
func TestTrap_EvictionTakesTombstones(t *testing.T) {
	t.Parallel()
	tb := newTable()
	c, rdb := open(t, tb, cache.StoreConfig{})
	tb.commit("a")
	_, err := c.Get(t.Context(), "a")
	require.NoError(t, err)
	tb.set("a", cache.Entry[thing]{Version: 2, State: cache.Revoked, Expires: time.Now().Add(time.Hour)})
	require.NoError(t, c.Revoke(t.Context(), "a", 2, time.Now().Add(time.Hour)))
	require.NoError(t, rdb.Del(t.Context(), "thing:a").Err())
	stored, err := c.Refresh(t.Context(), "a", cache.Found(1, named("a", 1)))
	require.NoError(t, err)
	require.False(t, stored, "an old event makes no entry where the tombstone was")
	_, err = c.Get(t.Context(), "a")
	require.ErrorIs(t, err, cache.ErrRevoked)
}

// go-redis ignores a context's deadline unless told otherwise: on a paused Redis
// a call with 50 ms takes seconds.
func TestTrap_DeadlineIsIgnored(t *testing.T) {
	t.Parallel()
	r := harness.PrivateRedis(t, harness.RedisConfig{Real: true})
	opt := cache.Harden(&redis.Options{Addr: r.Addr()})
	opt.ReadTimeout = 5 * time.Minute // so that only the deadline can end the call
	rdb := redis.NewClient(opt)
	t.Cleanup(func() { _ = rdb.Close() })
	require.NoError(t, rdb.Ping(t.Context()).Err())
	require.NoError(t, r.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- rdb.Get(ctx, "a").Err() }()
	select {
	case err := <-done:
		require.Error(t, err)
	case <-time.After(2 * time.Minute):
		require.Fail(t, "the deadline was ignored")
	}
	require.NoError(t, r.Resume())
}

// The first caller goes away while the load is at work. The others must not get
// its context's error.
func TestTrap_FirstCallerIsCancelled(t *testing.T) {
	t.Parallel()
	tb, read, let := held()
	defer let()
	c, _ := open(t, tb, cache.StoreConfig{LoadTimeout: time.Minute})
	want := tb.commit("a")
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { _, err := c.Get(ctx, "a"); first <- err }()
	<-read
	go func() {
		got, err := c.Get(t.Context(), "a")
		if err == nil && got != want.Value {
			err = fmt.Errorf("got %+v", got)
		}
		second <- err
	}()
	cancel()
	require.ErrorIs(t, <-first, context.Canceled, "it does not wait")
	let()
	require.NoError(t, <-second)
	require.EqualValues(t, 1, tb.loads.Load())
}

// Past Redis, who waits for a turn may share it with others who stay.
func TestTrap_FirstCallerIsCancelledPastRedis(t *testing.T) {
	t.Parallel()
	tb, read, let := held()
	wait, alive := tb.after, atomic.Int64{}
	tb.after = func(ctx context.Context, id string) {
		wait(ctx, id)
		if ctx.Err() == nil {
			alive.Add(1)
		}
	}
	s := newStore(t, nowhere(t), cache.StoreConfig{LoadTimeout: time.Minute})
	c := newVersioned(t, s, tb.load, cache.VersionedConfig[thing]{})
	t.Cleanup(let) // before the store is closed
	tb.commit("a")
	before := make(chan error, 1)
	go func() { _, err := c.Get(t.Context(), "a"); before <- err }()
	<-read
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := c.Get(ctx, "a")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	let()
	require.NoError(t, <-before)
	require.NoError(t, s.Close(), "waits for the turn")
	require.EqualValues(t, 2, alive.Load(), "its turn is not cancelled with it")
}

// Without a breaker each call waits for a Redis that is away.
func TestTrap_EveryCallAsksARedisThatIsAway(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	rdb := clientOf(t, &redis.Options{Addr: "away", Dialer: func(context.Context, string, string) (net.Conn, error) {
		asked.Add(1)
		return nil, errors.New("nobody is there")
	}})
	tb, clk := newTable(), newClock()
	s := newStore(t, rdb, cache.StoreConfig{BreakerErrors: 3, BreakerProbe: time.Second, Now: clk.Now})
	c := newVersioned(t, s, tb.load, cache.VersionedConfig[thing]{})
	want := tb.commit("a")
	get := func(times int) {
		for range times {
			got, err := c.Get(t.Context(), "a")
			require.NoError(t, err)
			require.Equal(t, want.Value, got)
			_, err = c.Put(t.Context(), "a", want)
			require.ErrorIs(t, err, cache.ErrUnavailable)
		}
	}
	get(2)
	require.True(t, s.Status().BreakerOpen)
	before := asked.Load()
	require.Positive(t, before)
	get(20)
	require.Equal(t, before, asked.Load(), "it is left alone")
	clk.Advance(time.Second)
	get(20)
	require.Equal(t, before+1, asked.Load(), "but for one try each probe")
}

// Somebody asks for a thing just before it is made.
func TestTrap_NegativeEntryHidesWhatWasJustMade(t *testing.T) {
	t.Parallel()
	tb := newTable()
	c, rdb := open(t, tb, cache.StoreConfig{})
	for name, write := range map[string]func(context.Context, string, cache.Entry[thing]) (bool, error){"put": c.Put, "refresh": c.Refresh} {
		_, err := c.Get(t.Context(), name)
		require.ErrorIs(t, err, cache.ErrNotFound)
		require.LessOrEqual(t, rdb.PTTL(t.Context(), "thing:"+name).Val(), 33*time.Second)
		stored, err := write(t.Context(), name, tb.commit(name))
		require.NoError(t, err)
		require.Equal(t, name == "put", stored, "a refresh takes the negative entry away")
		got, err := c.Get(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, named(name, 1), got)
	}
}

// Memory ends while a load is at work, and a batch comes with what is new and
// what is known: writes are refused in the middle of a script.
func TestTrap_MemoryEndsInTheMiddleOfAScript(t *testing.T) {
	t.Parallel()
	r := harness.PrivateRedis(t, harness.RedisConfig{Real: true})
	rdb := clientOf(t, &redis.Options{Addr: r.Addr()})
	tb, read, let := held()
	hold := tb.after
	tb.after = nil
	s := newStore(t, clientOf(t, &redis.Options{Addr: r.Addr()}), cache.StoreConfig{LoadTimeout: time.Minute})
	t.Cleanup(let) // before the store is closed
	c := newVersioned(t, s, tb.load, cache.VersionedConfig[thing]{})
	known := []string{"1", "3", "5"}
	for _, id := range known {
		tb.commit(id)
		_, err := c.Get(t.Context(), id)
		require.NoError(t, err)
	}
	tb.after = hold
	tb.commit("loading")
	got := make(chan error, 1)
	go func() { _, err := c.Get(t.Context(), "loading"); got <- err }()
	soon(t, read)
	require.NoError(t, rdb.Set(t.Context(), "lease:thing:2", "of somebody", time.Hour).Err())
	limitMemory(t, rdb, "noeviction", -1)
	let()
	require.NoError(t, soon(t, got))
	require.Zero(t, rdb.Exists(t.Context(), "thing:loading").Val())
	require.Zero(t, rdb.Exists(t.Context(), "lease:thing:loading").Val(), "nobody waits for a lease of a fill that was refused")

	var batch []cache.Put[thing]
	for _, id := range []string{"0", "1", "2", "3", "4", "5"} {
		batch = append(batch, cache.Put[thing]{ID: id, Entry: cache.Found(2, named(id, 2))})
	}
	done, err := c.PutAll(t.Context(), batch...)
	require.ErrorIs(t, err, cache.ErrUnavailable, "so the batch comes again")
	require.Equal(t, cache.Applied{Stored: len(known)}, done)
	for _, id := range known {
		require.Equal(t, fmt.Sprintf("%020d", 2), rdb.GetRange(t.Context(), "thing:"+id, 0, 19).Val(), "what is known is brought up to date")
	}
	require.Zero(t, rdb.Exists(t.Context(), "thing:0", "thing:2", "thing:4", "lease:thing:2").Val())
}
