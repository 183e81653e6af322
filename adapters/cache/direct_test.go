package cache_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/test/harness"
)

// nowhere is a client on an address where nobody listens.
func nowhere(t *testing.T) *redis.Client { return clientOf(t, &redis.Options{Addr: "127.0.0.1:1"}) }

// Past Redis there is no lease that tells whether a load is still the newest.
func TestDirect_ACallerNeverGetsWhatWasReadBeforeItCame(t *testing.T) {
	t.Parallel()
	tb, read, let := held()
	y := &tally{}
	s := newStore(t, nowhere(t), cache.StoreConfig{LoadTimeout: time.Minute, Hooks: y.hooks()})
	c := newVersioned(t, s, tb.load, cache.VersionedConfig[thing]{})
	t.Cleanup(let) // before the store is closed
	tb.commit("a")
	first := make(chan int64, 1)
	go func() { e, _ := c.GetEntry(t.Context(), "a"); first <- e.Version }()
	<-read
	tb.commit("a")
	var readers sync.WaitGroup
	for range 50 {
		readers.Go(func() {
			e, err := c.GetEntry(t.Context(), "a")
			if err != nil || e.Version != 2 {
				t.Errorf("got version %d, %v", e.Version, err)
			}
		})
	}
	require.Eventually(t, func() bool { return y.of("error") == 51 }, 2*time.Minute, time.Millisecond, "all have come")
	let()
	readers.Wait()
	require.EqualValues(t, 1, <-first)
	require.LessOrEqual(t, tb.most.Load(), int64(1), "and one key has one load at a time")
}

func TestDirect_IsBoundedAndSaysWhenItIsFull(t *testing.T) {
	t.Parallel()
	tb, read, let := held()
	y := &tally{}
	s := newStore(t, nowhere(t), cache.StoreConfig{MaxLoads: 3, LoadWait: time.Second, LoadTimeout: time.Minute, Hooks: y.hooks()})
	c := newVersioned(t, s, tb.load, cache.VersionedConfig[thing]{})
	t.Cleanup(let)
	var readers sync.WaitGroup
	for i := range 3 {
		id := fmt.Sprint(i)
		tb.commit(id)
		readers.Go(func() {
			if _, err := c.Get(t.Context(), id); err != nil {
				t.Error(err)
			}
		})
		<-read
	}
	require.Equal(t, 3, s.Status().Loading)
	tb.commit("more")
	fourth := make(chan error, 1)
	go func() { _, err := c.Get(t.Context(), "more"); fourth <- err }()
	select {
	case err := <-fourth:
		require.ErrorIs(t, err, cache.ErrOverloaded)
		require.NotErrorIs(t, err, cache.ErrNotFound)
	case id := <-read:
		require.Fail(t, "a fourth load is at work", id)
	}
	require.Equal(t, 1, y.of("overloaded"))
	let()
	readers.Wait()
	_, err := c.Get(t.Context(), "more")
	require.NoError(t, err)
	require.Equal(t, 3, s.Status().PeakLoading)
}

func TestClose_WaitsForLoadsAndEndsMisses(t *testing.T) {
	t.Parallel()
	tb, read, let := held()
	hold := tb.after
	tb.after = func(ctx context.Context, id string) {
		if id == "a" { // what is asked to see whether the store is closed is not held
			hold(ctx, id)
		}
	}
	rdb := harness.Redis(t)
	s, err := cache.NewStore(client(t, rdb), cache.StoreConfig{LoadTimeout: time.Hour})
	require.NoError(t, err)
	c := newVersioned(t, s, tb.load, cache.VersionedConfig[thing]{})
	t.Cleanup(let)
	tb.commit("a")
	got := make(chan error, 1)
	go func() { _, err := c.Get(t.Context(), "a"); got <- err }()
	<-read
	closed := make(chan struct{})
	go func() { _ = s.Close(); close(closed) }()
	require.Eventually(t, func() bool { _, err := c.Get(t.Context(), "b"); return errors.Is(err, cache.ErrClosed) }, 2*time.Minute, time.Millisecond)
	select {
	case <-closed:
		require.Fail(t, "did not wait for the load")
	default:
	}
	let()
	<-closed
	require.NoError(t, <-got)
	require.EqualValues(t, 1, rdb.Exists(t.Context(), "thing:a").Val())
	_, err = c.Get(t.Context(), "a")
	require.NoError(t, err, "what Redis has it still tells")
}

func TestLoad_ThatTakesTooLongOrPanicsIsAnError(t *testing.T) {
	t.Parallel()
	tb := newTable()
	rdb := harness.Redis(t)
	brief := newVersioned(t, newStore(t, client(t, rdb), cache.StoreConfig{LoadTimeout: 50 * time.Millisecond}), tb.load, cache.VersionedConfig[thing]{})
	c := newVersioned(t, newStore(t, client(t, rdb), cache.StoreConfig{LoadTimeout: time.Minute}), tb.load, cache.VersionedConfig[thing]{})
	tb.before = func(ctx context.Context, id string) {
		if id == "panic" {
			panic("in the middle")
		}
		<-ctx.Done()
	}
	_, err := brief.Get(t.Context(), "slow")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = c.Get(t.Context(), "panic")
	require.ErrorContains(t, err, "in the middle")
	tb.before = nil
	_, err = c.Get(t.Context(), "panic")
	require.ErrorIs(t, err, cache.ErrNotFound)
	tb.set("bad", cache.Entry[thing]{Version: 0, Value: thing{}})
	_, err = c.Get(t.Context(), "bad")
	require.ErrorIs(t, err, cache.ErrVersion, "a thing without a version cannot be kept")
}

// A process that died in a load left its lease behind.
func TestLease_OfADeadProcessIsTakenOver(t *testing.T) {
	t.Parallel()
	tb := newTable()
	c, rdb := open(t, tb, cache.StoreConfig{LeaseWait: 50 * time.Millisecond, LoadTimeout: time.Minute})
	tb.commit("a")
	require.NoError(t, rdb.Set(t.Context(), "lease:thing:a", "of the dead", time.Hour).Err())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for range 3 {
		_, err := c.Get(ctx, "a")
		require.NoError(t, err, "it does not wait for the lease of the dead")
	}
	require.EqualValues(t, 1, tb.loads.Load(), "and the taker fills")
	require.Zero(t, rdb.Exists(t.Context(), "lease:thing:a").Val())
}

// Many processes, one cold key.
func TestStampede_OfManyProcessesIsOneLoad(t *testing.T) {
	t.Parallel()
	rdb := harness.Redis(t)
	tb := newTable()
	tb.after = func(context.Context, string) { <-time.After(30 * time.Millisecond) }
	tb.commit("a")
	var readers sync.WaitGroup
	start := make(chan struct{})
	for range 5 {
		c := newVersioned(t, newStore(t, client(t, rdb), cache.StoreConfig{LeaseWait: time.Minute, LoadTimeout: time.Minute}), tb.load, cache.VersionedConfig[thing]{})
		for range 200 {
			readers.Go(func() {
				<-start
				got, err := c.Get(t.Context(), "a")
				if err != nil || got != named("a", 1) {
					t.Error(got, err)
				}
			})
		}
	}
	close(start)
	readers.Wait()
	require.EqualValues(t, 1, tb.loads.Load())
}

func TestEntry_RubbishIsAMissAndGivesWay(t *testing.T) {
	t.Parallel()
	tb, y := newTable(), &tally{}
	c, rdb := open(t, tb, cache.StoreConfig{Hooks: y.hooks()})
	want := tb.commit("a")
	_, err := c.Get(t.Context(), "a")
	require.NoError(t, err)
	good := rdb.Get(t.Context(), "thing:a").Val()
	rubbish := []string{"", "x", good[:42] + "{not json", "x" + good[1:], "99999999999999999999" + good[20:], good[:20] + "?" + good[21:]}
	for i, text := range rubbish {
		require.NoError(t, rdb.Set(t.Context(), "thing:a", text, 0).Err())
		for range 2 {
			got, err := c.Get(t.Context(), "a")
			require.NoError(t, err, "%q", text)
			require.Equal(t, want.Value, got)
		}
		require.EqualValues(t, i+2, tb.loads.Load(), "%q", text)
		require.Equal(t, i+1, y.of("corrupt"))
	}
	for _, act := range []func() error{
		func() error { _, err := c.Get(t.Context(), "a"); return err },
		func() error { _, err := c.Put(t.Context(), "a", want); return err },
		func() error { return c.Invalidate(t.Context(), "a") },
	} {
		require.NoError(t, rdb.Del(t.Context(), "thing:a").Err())
		require.NoError(t, rdb.HSet(t.Context(), "thing:a", "of another", "type").Err())
		require.NoError(t, act())
		got, err := c.Get(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, want.Value, got)
		require.Equal(t, "string", rdb.Type(t.Context(), "thing:a").Val())
	}
}
