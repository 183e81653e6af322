package cache_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/test/harness"
)

func TestGet_LoadsOnceAndThenAnswersWithoutTheDatabase(t *testing.T) {
	t.Parallel()
	tb, y := newTable(), &tally{}
	c, rdb := open(t, tb, cache.StoreConfig{Hooks: y.hooks()})
	want := tb.commit("a")
	for range 3 {
		got, err := c.Get(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, want.Value, got)
	}
	require.EqualValues(t, 1, tb.loads.Load())
	require.Equal(t, 1, y.of("miss"))
	require.Equal(t, 2, y.of("hit"))
	require.Equal(t, 1, y.of("put stored"))
	left, err := rdb.PTTL(t.Context(), "thing:a").Result()
	require.NoError(t, err)
	require.Greater(t, left, 50*time.Second)
	require.LessOrEqual(t, left, 66*time.Second)
	require.Zero(t, rdb.Exists(t.Context(), "lease:thing:a").Val(), "the lease is given back")
}

func TestEntry_IsStoredInTheDocumentedFormat(t *testing.T) {
	t.Parallel()
	clk := newClock()
	c, rdb := open(t, newTable(), cache.StoreConfig{Now: clk.Now})
	until := clk.Now().Add(10 * time.Second)
	for id, tc := range map[string]struct {
		entry cache.Entry[thing]
		want  string
	}{
		"live":    {cache.Entry[thing]{Version: 7, Value: thing{Name: "x"}, Expires: until}, `o{"name":"x","n":0}`},
		"revoked": {cache.Entry[thing]{Version: 1<<63 - 1, State: cache.Revoked, Expires: until}, "r"},
		"missing": {cache.Entry[thing]{Version: 9, State: cache.Missing}, "n"},
	} {
		stored, err := c.Put(t.Context(), id, tc.entry)
		require.NoError(t, err)
		require.True(t, stored)
		text := rdb.Get(t.Context(), "thing:"+id).Val()
		require.Regexp(t, `^\d{20}[onr]\d{13}\d{8}`, text)
		require.Equal(t, tc.want, text[20:21]+text[42:])
		require.Equal(t, tc.entry.Version, digits(text[:20]))
		if !tc.entry.Expires.IsZero() {
			require.Equal(t, until.UnixMilli(), digits(text[21:34]))
		}
	}
}

func digits(s string) (n int64) {
	for _, c := range s {
		n = n*10 + int64(c-'0')
	}
	return n
}

func TestGet_TellsMissingRevokedAndTroubleApart(t *testing.T) {
	t.Parallel()
	tb := newTable()
	c, _ := open(t, tb, cache.StoreConfig{})
	_, err := c.Get(t.Context(), "none")
	require.ErrorIs(t, err, cache.ErrNotFound)
	_, err = c.Get(t.Context(), "none")
	require.ErrorIs(t, err, cache.ErrNotFound)
	require.EqualValues(t, 1, tb.loads.Load(), "nothing is remembered too")

	tb.set("taken", cache.Entry[thing]{Version: 4, State: cache.Revoked})
	for range 2 {
		_, err = c.Get(t.Context(), "taken")
		require.ErrorIs(t, err, cache.ErrRevoked)
	}
	require.EqualValues(t, 2, tb.loads.Load())
	e, err := c.GetEntry(t.Context(), "taken")
	require.NoError(t, err)
	require.Equal(t, cache.Revoked, e.State)
	require.EqualValues(t, 4, e.Version)

	broken := errors.New("database is away")
	tb.fail.Store(&broken)
	_, err = c.Get(t.Context(), "other")
	require.ErrorIs(t, err, broken)
	require.NotErrorIs(t, err, cache.ErrNotFound)
	tb.fail.Store(nil)
	_, err = c.Get(t.Context(), "other")
	require.ErrorIs(t, err, cache.ErrNotFound, "a load that did not work is not remembered, and its lease is given back")
}

func TestGet_RefusesIDsWithoutAskingAnybody(t *testing.T) {
	t.Parallel()
	tb := newTable()
	c, _ := open(t, tb, cache.StoreConfig{})
	for _, id := range []string{"", strings.Repeat("x", cache.MaxID+1)} {
		_, err := c.Get(t.Context(), id)
		require.ErrorIs(t, err, cache.ErrKey)
		_, err = c.Put(t.Context(), id, cache.Found(1, thing{}))
		require.ErrorIs(t, err, cache.ErrKey)
		require.ErrorIs(t, c.Invalidate(t.Context(), id), cache.ErrKey)
	}
	_, err := c.Put(t.Context(), "a", cache.Found(0, thing{}))
	require.ErrorIs(t, err, cache.ErrVersion)
	_, err = c.Put(t.Context(), "a", cache.Entry[thing]{Version: -1, State: cache.Missing})
	require.ErrorIs(t, err, cache.ErrVersion)
	require.Zero(t, tb.loads.Load())
}

func TestPut_StoresOnlyWhatIsNewer(t *testing.T) {
	t.Parallel()
	c, rdb := open(t, newTable(), cache.StoreConfig{})
	for _, step := range []struct {
		offer  int64
		stored bool
		shows  int64
	}{{2, true, 2}, {1, false, 2}, {2, false, 2}, {10, true, 10}, {9, false, 10}, {1 << 60, true, 1 << 60}, {1<<60 - 1, false, 1 << 60}} {
		stored, err := c.Put(t.Context(), "a", cache.Found(step.offer, named("a", step.offer)))
		require.NoError(t, err)
		require.Equal(t, step.stored, stored, "%d", step.offer)
		e, err := c.GetEntry(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, named("a", step.shows), e.Value)
	}
	require.NoError(t, rdb.PExpire(t.Context(), "thing:a", 5*time.Second).Err())
	_, err := c.Put(t.Context(), "a", cache.Found(1<<60, named("a", 1<<60)))
	require.NoError(t, err)
	require.LessOrEqual(t, rdb.PTTL(t.Context(), "thing:a").Val(), 5*time.Second, "a repetition does not prolong")
}

func TestRefresh_ReplacesAndMakesNothing(t *testing.T) {
	t.Parallel()
	y := &tally{}
	c, rdb := open(t, newTable(), cache.StoreConfig{Hooks: y.hooks()})
	stored, err := c.Refresh(t.Context(), "a", cache.Found(3, named("a", 3)))
	require.NoError(t, err)
	require.False(t, stored)
	require.Zero(t, rdb.Exists(t.Context(), "thing:a").Val())
	_, err = c.Put(t.Context(), "a", cache.Found(3, named("a", 3)))
	require.NoError(t, err)
	stored, err = c.Refresh(t.Context(), "a", cache.Found(4, named("a", 4)))
	require.NoError(t, err)
	require.True(t, stored)
	require.Equal(t, 1, y.of("put absent"))
	require.Equal(t, 2, y.of("put stored"))
}

func TestPutAll_TakesABatchAndCounts(t *testing.T) {
	t.Parallel()
	c, _ := open(t, newTable(), cache.StoreConfig{})
	var puts []cache.Put[thing]
	for i := range 1234 {
		id := cache.Key("k", string(rune('a'+i%26)), time.Duration(i/26).String())
		puts = append(puts, cache.Put[thing]{ID: id, Entry: cache.Found(2, named(id, 2))})
	}
	puts = append(puts, cache.Put[thing]{ID: puts[0].ID, Entry: cache.Found(1, thing{})})
	done, err := c.PutAll(t.Context(), puts...)
	require.NoError(t, err)
	require.Equal(t, cache.Applied{Stored: 1234, Older: 1}, done)
	done, err = c.RefreshAll(t.Context(), append(puts, cache.Put[thing]{ID: "none", Entry: cache.Found(1, thing{})})...)
	require.NoError(t, err)
	require.Equal(t, cache.Applied{Older: 1235, Absent: 1}, done)
	got, err := c.Get(t.Context(), puts[0].ID)
	require.NoError(t, err)
	require.Equal(t, puts[0].Entry.Value, got)

	_, err = c.PutAll(t.Context(), cache.Put[thing]{ID: "", Entry: cache.Found(1, thing{})}, cache.Put[thing]{ID: "v", Entry: cache.Found(-3, thing{})})
	require.ErrorIs(t, err, cache.ErrKey)
	require.ErrorIs(t, err, cache.ErrVersion, "all that is wrong is told at once")
	done, err = c.PutAll(t.Context())
	require.NoError(t, err)
	require.Zero(t, done)
}

// A server that restarted has forgotten its scripts.
func TestPutAll_SendsTheScriptAgainWhenRedisForgotIt(t *testing.T) {
	t.Parallel()
	r := harness.PrivateRedis(t, harness.RedisConfig{})
	rdb := clientOf(t, &redis.Options{Addr: r.Addr()})
	c := newVersioned(t, newStore(t, rdb, cache.StoreConfig{}), nil, cache.VersionedConfig[thing]{})
	for v := range int64(3) {
		done, err := c.PutAll(t.Context(), cache.Put[thing]{ID: "a", Entry: cache.Found(v+1, thing{})}, cache.Put[thing]{ID: "b", Entry: cache.Found(v+1, thing{})})
		require.NoError(t, err)
		require.Equal(t, 2, done.Stored)
		require.NoError(t, rdb.ScriptFlush(t.Context()).Err())
	}
}

func TestRevoke_EndsAThingAndOutlastsLateLoads(t *testing.T) {
	t.Parallel()
	tb := newTable()
	c, rdb := open(t, tb, cache.StoreConfig{LoadTimeout: 4 * time.Second})
	tb.commit("a")
	_, err := c.Get(t.Context(), "a")
	require.NoError(t, err)
	require.NoError(t, c.Revoke(t.Context(), "a", 2, time.Now().Add(time.Hour)))
	_, err = c.Get(t.Context(), "a")
	require.ErrorIs(t, err, cache.ErrRevoked)
	require.Greater(t, rdb.PTTL(t.Context(), "thing:a").Val(), 59*time.Minute)
	require.NoError(t, c.Revoke(t.Context(), "b", 2, time.Now().Add(-time.Hour)))
	require.Greater(t, rdb.PTTL(t.Context(), "thing:b").Val(), 6*time.Second, "at least as long as any load that has begun, twice")
	require.NoError(t, c.Remove(t.Context(), "c", 3))
	_, err = c.Get(t.Context(), "c")
	require.ErrorIs(t, err, cache.ErrNotFound)
	require.Greater(t, rdb.PTTL(t.Context(), "thing:c").Val(), 23*time.Hour)
}

func TestInvalidate_LoadsAgainAndKeepsTheVersion(t *testing.T) {
	t.Parallel()
	tb := newTable()
	c, _ := open(t, tb, cache.StoreConfig{})
	tb.commit("a")
	tb.commit("a")
	_, err := c.Get(t.Context(), "a")
	require.NoError(t, err)
	require.NoError(t, c.Invalidate(t.Context(), "a"))
	stored, err := c.Put(t.Context(), "a", cache.Found(1, named("a", 1)))
	require.NoError(t, err)
	require.False(t, stored, "an old event does not get in")
	e, err := c.GetEntry(t.Context(), "a")
	require.NoError(t, err)
	require.EqualValues(t, 2, e.Version)
	require.EqualValues(t, 2, tb.loads.Load())
	_, err = c.Get(t.Context(), "a")
	require.NoError(t, err)
	require.EqualValues(t, 2, tb.loads.Load(), "the same version was filled in again")

	require.NoError(t, c.Invalidate(t.Context(), "a"))
	tb.remove("a")
	for range 2 {
		_, err = c.Get(t.Context(), "a")
		require.ErrorIs(t, err, cache.ErrNotFound)
	}
	require.EqualValues(t, 3, tb.loads.Load(), "that it is gone was filled in, too")
}

func TestExpires_BoundsAnEntry(t *testing.T) {
	t.Parallel()
	clk, tb := newClock(), newTable()
	c, rdb := open(t, tb, cache.StoreConfig{Now: clk.Now})
	tb.set("a", cache.Entry[thing]{Version: 1, Value: named("a", 1), Expires: clk.Now().Add(20 * time.Second)})
	_, err := c.Get(t.Context(), "a")
	require.NoError(t, err)
	require.LessOrEqual(t, rdb.PTTL(t.Context(), "thing:a").Val(), 20*time.Second)
	clk.Advance(20 * time.Second)
	_, err = c.Get(t.Context(), "a")
	require.ErrorIs(t, err, cache.ErrNotFound, "Redis has it still, and it counts for nothing")
	_, err = c.Get(t.Context(), "a")
	require.ErrorIs(t, err, cache.ErrNotFound)
	require.EqualValues(t, 2, tb.loads.Load())
}

func TestGetAtLeast_LoadsWhatIsTooOld(t *testing.T) {
	t.Parallel()
	tb := newTable()
	c, _ := open(t, tb, cache.StoreConfig{})
	tb.commit("a")
	_, err := c.Get(t.Context(), "a")
	require.NoError(t, err)
	tb.commit("a")
	e, err := c.GetEntry(t.Context(), "a")
	require.NoError(t, err)
	require.EqualValues(t, 1, e.Version)
	for range 2 {
		e, err = c.GetAtLeast(t.Context(), "a", 2)
		require.NoError(t, err)
		require.EqualValues(t, 2, e.Version)
	}
	require.EqualValues(t, 2, tb.loads.Load())
}

func TestGet_GivesEachCallerAValueOfItsOwn(t *testing.T) {
	t.Parallel()
	s := newStore(t, client(t, harness.Redis(t)), cache.StoreConfig{})
	gate := make(chan struct{})
	c, err := cache.NewVersioned(s, "list", func(context.Context, string) (cache.Entry[[]int], error) {
		<-gate
		return cache.Found(1, []int{1, 2, 3}), nil
	}, cache.VersionedConfig[[]int]{TTL: time.Minute})
	require.NoError(t, err)
	var readers sync.WaitGroup
	for i := range 8 {
		readers.Go(func() {
			got, err := c.Get(t.Context(), "a")
			if err != nil || len(got) != 3 || got[0] != 1 {
				t.Errorf("got %v, %v", got, err)
				return
			}
			got[0] = 100 + i
		})
	}
	close(gate)
	readers.Wait()
}

func TestNoLoad_MeansMissAndUnavailable(t *testing.T) {
	t.Parallel()
	r := harness.PrivateRedis(t, harness.RedisConfig{Real: true})
	s := newStore(t, clientOf(t, &redis.Options{Addr: r.Addr()}), cache.StoreConfig{})
	c := newVersioned(t, s, nil, cache.VersionedConfig[thing]{})
	_, err := c.Get(t.Context(), "a")
	require.ErrorIs(t, err, cache.ErrMiss)
	_, err = c.Put(t.Context(), "a", cache.Found(1, thing{}))
	require.NoError(t, err)
	_, err = c.Get(t.Context(), "a")
	require.NoError(t, err)
	require.NoError(t, r.Kill())
	for range 10 {
		_, err = c.Get(t.Context(), "a")
		require.ErrorIs(t, err, cache.ErrUnavailable)
		require.NotErrorIs(t, err, cache.ErrMiss)
		_, err = c.Put(t.Context(), "a", cache.Found(2, thing{}))
		require.ErrorIs(t, err, cache.ErrUnavailable)
	}
}

func TestConstructors_NameEverythingThatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := cache.NewStore(nil, cache.StoreConfig{MaxLoads: -1, LoadWait: -1, LoadTimeout: 1, LeaseWait: -1, BreakerErrors: -1, BreakerProbe: -1, WatchInterval: -1})
	for _, field := range []string{"rdb", "MaxLoads", "LoadWait", "LoadTimeout", "LeaseWait", "BreakerErrors", "BreakerProbe", "WatchInterval"} {
		require.ErrorContains(t, err, field+":")
	}
	soft := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	t.Cleanup(func() { _ = soft.Close() })
	_, err = cache.NewStore(soft, cache.StoreConfig{})
	for _, field := range []string{"ContextTimeoutEnabled", "DialTimeout", "ReadTimeout", "WriteTimeout", "PoolTimeout", "MaxRetries", "DialerRetries"} {
		require.ErrorContains(t, err, field+":")
	}
	good := redis.NewClient(cache.Options("127.0.0.1:1"))
	t.Cleanup(func() { _ = good.Close() })

	s := newStore(t, good, cache.StoreConfig{})
	for _, ttl := range []time.Duration{0, -time.Second, time.Millisecond, 999 * time.Millisecond} {
		_, err = cache.NewVersioned(s, "", nil, cache.VersionedConfig[thing]{
			TTL: ttl, NegativeTTL: ttl + 1, TombstoneTTL: ttl + 1, Encode: func(thing) ([]byte, error) { return nil, nil },
			Near: &cache.NearConfig{Entries: -1},
		})
		for _, field := range []string{"name", "TTL", "NegativeTTL", "TombstoneTTL", "Encode, Decode", "Near.Staleness", "Near.Entries"} {
			require.ErrorContains(t, err, field+":", ttl)
		}
	}
	_, err = cache.NewVersioned[thing](nil, "x", nil, cache.VersionedConfig[thing]{TTL: time.Minute})
	require.ErrorContains(t, err, "store:")
}

func TestPrefixes_OfOneStoreMustNotOverlap(t *testing.T) {
	t.Parallel()
	s := newStore(t, client(t, harness.Redis(t)), cache.StoreConfig{})
	for prefix, ok := range map[string]bool{"a:": true} {
		_, err := cache.NewVersioned[thing](s, "first", nil, cache.VersionedConfig[thing]{TTL: time.Minute, Prefix: prefix})
		require.Equal(t, ok, err == nil)
	}
	for prefix, ok := range map[string]bool{"a:": false, "a:b:": false, "a": false, "b:": true} {
		_, err := cache.NewVersioned[thing](s, "next", nil, cache.VersionedConfig[thing]{TTL: time.Minute, Prefix: prefix})
		require.Equal(t, ok, err == nil, prefix)
	}
}

func TestKey_IsDifferentForDifferentParts(t *testing.T) {
	t.Parallel()
	seen := map[string][]string{}
	for _, parts := range [][]string{{"a", "b"}, {"a:b"}, {"a%3Ab"}, {"a", "", "b"}, {"a", "b", ""}, {"", "a", "b"}, {"a b"}, {"a%20b"}, {"A", "b"}, {"ä"}, {"\x00"}} {
		key := cache.Key(parts...)
		require.Empty(t, seen[key], key)
		seen[key] = parts
		require.NotContains(t, key, " ")
		require.Len(t, cache.Digest(parts...), 64)
	}
	require.Equal(t, "a:b", cache.Key("a", "b"))
	require.Equal(t, "a%3Ab%25", cache.Key("a:b%"))
}
