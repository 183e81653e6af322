package cache_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache"
)

// held returns a table whose loads, once they have read, wait for the returned
// function, and a channel that reports each that has read.
func held() (tb *table, read chan string, let func()) {
	tb = newTable()
	read, gate := make(chan string, 100), make(chan struct{})
	tb.after = func(_ context.Context, id string) {
		read <- id
		<-gate
	}
	return tb, read, sync.OnceFunc(func() { close(gate) })
}

// versionOf has a reader get "a", and tells which version it was given.
func versionOf(t *testing.T, c *cache.Versioned[thing]) <-chan int64 {
	got := make(chan int64, 1)
	go func() {
		e, err := c.GetEntry(context.WithoutCancel(t.Context()), "a")
		if err != nil {
			t.Error(err)
		}
		got <- e.Version
	}()
	return got
}

// A reader loads version 1, a writer commits and puts version 2, and then the
// reader comes to fill version 1 in.
func TestTrap_StaleOverwriteByALateFill(t *testing.T) {
	t.Parallel()
	for name, between := range map[string]func(t *testing.T, rdb *redis.Client){
		"entry is there":    func(*testing.T, *redis.Client) {},
		"entry was evicted": func(t *testing.T, rdb *redis.Client) { require.NoError(t, rdb.Del(t.Context(), "thing:a").Err()) },
		"redis was flushed": func(t *testing.T, rdb *redis.Client) { require.NoError(t, rdb.FlushDB(t.Context()).Err()) },
		"a new lease is held": func(t *testing.T, rdb *redis.Client) {
			rdb.Del(t.Context(), "thing:a")
			rdb.Set(t.Context(), "lease:thing:a", "other", 30*time.Millisecond)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tb, read, let := held()
			defer let()
			c, rdb := open(t, tb, cache.StoreConfig{LoadTimeout: 20 * time.Second})
			tb.commit("a")
			got := versionOf(t, c)
			<-read
			_, err := c.Put(t.Context(), "a", tb.commit("a"))
			require.NoError(t, err)
			between(t, rdb)
			let()
			require.EqualValues(t, 2, <-got, "nor is the stale version an answer")
			e, err := c.GetEntry(t.Context(), "a")
			require.NoError(t, err)
			require.EqualValues(t, 2, e.Version)
		})
	}
}

// A reader loads version 1, somebody changes the row past the cache and then says
// so, and only now the reader comes to fill version 1 in.
func TestTrap_LateFillAfterAnInvalidation(t *testing.T) {
	t.Parallel()
	for name, invalidate := range map[string]func(ctx context.Context, c *cache.Versioned[thing], rdb *redis.Client) error{
		"of a service": func(ctx context.Context, c *cache.Versioned[thing], _ *redis.Client) error {
			return c.Invalidate(ctx, "a")
		},
		"of an operator": func(ctx context.Context, _ *cache.Versioned[thing], rdb *redis.Client) error {
			_, err := cache.Invalidate(ctx, rdb, "thing:a")
			return err
		},
		"that forgets it": func(ctx context.Context, _ *cache.Versioned[thing], rdb *redis.Client) error {
			_, err := cache.Forget(ctx, rdb, "thing:a")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tb, read, let := held()
			defer let()
			c, rdb := open(t, tb, cache.StoreConfig{LoadTimeout: 20 * time.Second})
			tb.commit("a")
			got := versionOf(t, c)
			<-read
			tb.commit("a")
			require.NoError(t, invalidate(t.Context(), c, rdb))
			let()
			require.EqualValues(t, 2, <-got, "what was read before is no answer")
			e, err := c.GetEntry(t.Context(), "a")
			require.NoError(t, err)
			require.EqualValues(t, 2, e.Version, "nor is it kept")
		})
	}
}

// A load from a replica that lags holds the lease, and yet is too old.
func TestTrap_StaleOverwriteFromAReplica(t *testing.T) {
	t.Parallel()
	tb := newTable()
	c, rdb := open(t, tb, cache.StoreConfig{})
	tb.commit("a")
	_, err := c.Put(t.Context(), "a", cache.Found(2, named("a", 2)))
	require.NoError(t, err)
	require.NoError(t, c.Invalidate(t.Context(), "a"))
	_, err = c.Get(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("%020d", 2), rdb.GetRange(t.Context(), "thing:a", 0, 19).Val(), "nothing older takes its place")
}

// The measurement behind the trap: of 400 keys with a racing reader and writer
// each, none may be stale once both have finished.
func TestTrap_StaleOverwriteOfManyRaces(t *testing.T) {
	t.Parallel()
	tb, begun := newTable(), [400]chan struct{}{}
	for i := range begun {
		begun[i] = make(chan struct{}, 100)
	}
	tb.after = func(_ context.Context, id string) {
		i, _ := strconv.Atoi(id)
		begun[i] <- struct{}{}
		pauseALittle()
	}
	c, _ := open(t, tb, cache.StoreConfig{LoadWait: time.Minute}) // the machine may be busy
	var racers sync.WaitGroup
	limit := make(chan struct{}, 64)
	for i := range begun {
		id := fmt.Sprint(i)
		tb.commit(id)
		racers.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			var two sync.WaitGroup
			two.Go(func() {
				if _, err := c.Get(t.Context(), id); err != nil {
					t.Error(err)
				}
				begun[i] <- struct{}{} // whatever became of it
			})
			two.Go(func() {
				<-begun[i] // the reader has version 1 in its hands
				pauseALittle()
				if _, err := c.Put(t.Context(), id, tb.commit(id)); err != nil {
					t.Error(err)
				}
			})
			two.Wait()
		})
	}
	racers.Wait()
	stale := 0
	for i := range begun {
		e, err := c.GetEntry(t.Context(), fmt.Sprint(i))
		require.NoError(t, err)
		if e.Version != 2 {
			stale++
		}
	}
	require.Zero(t, stale, "of 400 are stale")
}

func pauseALittle() { <-time.After(time.Duration(rand.IntN(3000)) * time.Microsecond) }
