package cache_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/test/harness"
)

func newQuery[A, T any](t testing.TB, s *cache.Store, load func(context.Context, A) (T, error)) *cache.Query[A, T] {
	t.Helper()
	q, err := cache.NewQuery(s, "answers", load, cache.QueryConfig[T]{TTL: time.Minute, Beta: -1})
	require.NoError(t, err)
	return q
}

type filter struct {
	Status string
	Tags   []string
	Since  time.Time
	Limit  int
}

func TestQuery_KeepsTheResultOfEachArgument(t *testing.T) {
	t.Parallel()
	rdb := harness.Redis(t)
	var loads atomic.Int64
	q := newQuery(t, newStore(t, client(t, rdb), cache.StoreConfig{}), func(_ context.Context, f filter) ([]string, error) {
		loads.Add(1)
		if f.Limit == 0 {
			return nil, cache.ErrNotFound
		}
		return []string{fmt.Sprintf("%+v", f)}, nil
	})
	now := time.Now()
	filters := []filter{{Limit: 1}, {Status: "a", Limit: 1}, {Tags: []string{"a"}, Limit: 1}, {Tags: []string{""}, Limit: 1}, {Tags: []string{}, Limit: 1}, {Since: now, Limit: 1}}
	for range 3 {
		for _, f := range filters {
			got, err := q.Get(t.Context(), f)
			require.NoError(t, err)
			require.Equal(t, []string{fmt.Sprintf("%+v", f)}, got)
		}
		_, err := q.Get(t.Context(), filter{})
		require.ErrorIs(t, err, cache.ErrNotFound)
	}
	require.EqualValues(t, len(filters)+1, loads.Load())
	keys := rdb.Keys(t.Context(), "q:*").Val()
	require.Len(t, keys, len(filters)+2)
	gen := rdb.Get(t.Context(), "q:answers:1:gen").Val()
	for _, k := range keys {
		require.Regexp(t, `^q:answers:1:(gen|`+gen+`:[0-9a-f]{64})$`, k)
	}
}

func TestQuery_InvalidateEndsAllResultsEverywhere(t *testing.T) {
	t.Parallel()
	rdb := harness.Redis(t)
	var now atomic.Int64
	load := func(_ context.Context, n int) (int64, error) { return now.Load()*100 + int64(n), nil }
	here := newQuery(t, newStore(t, client(t, rdb), cache.StoreConfig{}), load)
	there := newQuery(t, newStore(t, client(t, rdb), cache.StoreConfig{}), load)
	for round := range int64(3) {
		now.Store(round)
		require.NoError(t, there.Invalidate(t.Context()))
		now.Add(50) // after the results were loaded, this must not show
		now.Add(-50)
		for n := range 3 {
			for _, q := range []*cache.Query[int, int64]{here, there} {
				got, err := q.Get(t.Context(), n)
				require.NoError(t, err)
				require.Equal(t, round*100+int64(n), got)
			}
		}
	}
}

// The result of a query that began before the generation ended is not kept.
func TestQuery_ResultOfAnEndedGenerationIsRefused(t *testing.T) {
	t.Parallel()
	rdb := harness.Redis(t)
	y := &tally{}
	read, gate := make(chan struct{}), make(chan struct{})
	var now atomic.Int64
	q := newQuery(t, newStore(t, client(t, rdb), cache.StoreConfig{Hooks: y.hooks(), LoadTimeout: time.Minute}), func(context.Context, int) (int64, error) {
		v := now.Load()
		if v == 0 {
			close(read)
			<-gate
		}
		return v, nil
	})
	slow := make(chan int64, 1)
	go func() { v, _ := q.Get(t.Context(), 1); slow <- v }()
	<-read
	now.Store(7)
	require.NoError(t, q.Invalidate(t.Context()))
	got, err := q.Get(t.Context(), 1)
	require.NoError(t, err)
	require.EqualValues(t, 7, got, "who comes after Invalidate does not get what began before")
	close(gate)
	<-slow
	got, err = q.Get(t.Context(), 1)
	require.NoError(t, err)
	require.EqualValues(t, 7, got)
	require.Equal(t, 1, y.of("put refused"))
	require.Equal(t, 1, y.of("put stored"))
}

func TestQuery_RefreshesEarlyInTheBackground(t *testing.T) {
	t.Parallel()
	clk := newClock()
	s := newStore(t, client(t, harness.Redis(t)), cache.StoreConfig{Now: clk.Now})
	var loads atomic.Int64
	gate, ended := make(chan struct{}), make(chan error, 1)
	q, err := cache.NewQuery(s, "slow", func(ctx context.Context, _ int) (int64, error) {
		n := loads.Add(1)
		if n == 2 {
			<-gate
			ended <- context.Cause(ctx)
		}
		return n, nil
	}, cache.QueryConfig[int64]{TTL: 10 * time.Minute, Beta: 1e6})
	require.NoError(t, err)
	got, err := q.Get(t.Context(), 1)
	require.NoError(t, err)
	require.EqualValues(t, 1, got)
	// A load of a millisecond and a beta of a million: about 17 minutes early.
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		got, err := q.Get(ctx, 1)
		return err == nil && got == 1 && loads.Load() == 2
	}, 2*time.Minute, time.Millisecond, "callers get the current result while one load is at work")
	for range 20 {
		got, err = q.Get(t.Context(), 1)
		require.NoError(t, err)
		require.EqualValues(t, 1, got)
	}
	require.EqualValues(t, 2, loads.Load())
	close(gate)
	require.NotErrorIs(t, <-ended, context.Canceled, "it does not end with the caller that began it")
	require.Eventually(t, func() bool { got, err := q.Get(t.Context(), 1); return err == nil && got > 1 }, 2*time.Minute, time.Millisecond)
}

func TestQuery_AsksTheDatabaseUntilRedisHasHeardOfInvalidate(t *testing.T) {
	t.Parallel()
	r := harness.PrivateRedis(t, harness.RedisConfig{Real: true})
	proxy := harness.NewProxy(t, r.Addr())
	var now atomic.Int64
	s := newStore(t, clientOf(t, &redis.Options{Addr: proxy.Addr()}), cache.StoreConfig{BreakerProbe: time.Millisecond})
	q := newQuery(t, s, func(context.Context, int) (int64, error) { return now.Load(), nil })
	_, err := q.Get(t.Context(), 1)
	require.NoError(t, err)
	proxy.Cut()
	now.Store(1)
	require.ErrorIs(t, q.Invalidate(t.Context()), cache.ErrUnavailable)
	got, err := q.Get(t.Context(), 1)
	require.NoError(t, err)
	require.EqualValues(t, 1, got)
	require.NoError(t, proxy.Heal())
	for range 20 {
		got, err = q.Get(t.Context(), 1)
		require.NoError(t, err)
		require.EqualValues(t, 1, got, "Redis is back with the old result, and it is no answer")
	}
}

func TestQuery_RubbishIsAMissAndGivesWay(t *testing.T) {
	t.Parallel()
	rdb := harness.Redis(t)
	y := &tally{}
	var loads atomic.Int64
	q := newQuery(t, newStore(t, client(t, rdb), cache.StoreConfig{Hooks: y.hooks()}), func(context.Context, int) (int64, error) { return loads.Add(1), nil })
	_, err := q.Get(t.Context(), 1)
	require.NoError(t, err)
	key := ""
	for _, k := range rdb.Keys(t.Context(), "q:*").Val() {
		if k != "q:answers:1:gen" {
			key = k
		}
	}
	good := rdb.Get(t.Context(), key).Val()
	for i, rubbish := range []string{"", "x", good[:42] + "not json", "00000000000000000001" + good[20:]} {
		require.NoError(t, rdb.Set(t.Context(), key, rubbish, 0).Err())
		for range 2 {
			got, err := q.Get(t.Context(), 1)
			require.NoError(t, err)
			require.EqualValues(t, i+2, got)
		}
	}
	require.NoError(t, rdb.Del(t.Context(), key).Err())
	require.NoError(t, rdb.HSet(t.Context(), key, "a", 1).Err())
	for range 2 {
		_, err = q.Get(t.Context(), 1)
		require.NoError(t, err)
	}
	require.EqualValues(t, 6, loads.Load())
	require.Equal(t, 4, y.of("corrupt"))
	require.NoError(t, rdb.Set(t.Context(), "q:answers:1:gen", "rubbish", 0).Err())
	_, err = q.Get(t.Context(), 1)
	require.NoError(t, err)
}

func TestNewQuery_NamesEverythingThatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := cache.NewQuery[any](nil, "", nil, cache.QueryConfig[int]{NegativeTTL: 1, SchemaVersion: -1, Beta: -3, Decode: func([]byte) (int, error) { return 0, nil }})
	for _, field := range []string{"store", "name", "load", "arguments", "TTL", "NegativeTTL", "SchemaVersion", "Beta", "Encode, Decode"} {
		require.ErrorContains(t, err, field+":")
	}
}

func TestArguments_ThatCannotBeAKeyAreRefused(t *testing.T) {
	t.Parallel()
	s := newStore(t, client(t, harness.Redis(t)), cache.StoreConfig{})
	refused := func(err error) { t.Helper(); require.ErrorContains(t, err, "arguments:") }
	refused(tryArgs[any](s))
	refused(tryArgs[func()](s))
	refused(tryArgs[chan int](s))
	refused(tryArgs[struct{ hidden int }](s))
	refused(tryArgs[struct{ In struct{ hidden int } }](s))
	refused(tryArgs[map[string]any](s))
	refused(tryArgs[recursive](s))
	refused(tryArgs[struct {
		time.Time
		Zone string
	}](s))
	require.NoError(t, tryArgs[struct {
		A map[string][]*int
		B [3]bool
		C *time.Time
		D float32
	}](s))
}

type recursive struct{ Next *recursive }

func tryArgs[A any](s *cache.Store) error {
	_, err := cache.NewQuery(s, fmt.Sprintf("%T", *new(A)), func(context.Context, A) (int, error) { return 0, nil }, cache.QueryConfig[int]{TTL: time.Minute})
	return err
}

func TestArguments_DifferentOnesNeverShareAResult(t *testing.T) {
	t.Parallel()
	type args struct {
		S    string
		L    []string
		M    map[string]int
		P    *int
		F    float64
		U    uint8
		B    bool
		T    time.Time
		Last string
	}
	one, zero := 1, 0
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	all := []args{
		{}, {S: "a"}, {Last: "a"}, {S: "a", Last: "b"}, {S: "ab"}, {L: []string{}}, {L: []string{""}}, {L: []string{"a", "b"}}, {L: []string{"ab"}},
		{L: []string{"b", "a"}}, {M: map[string]int{}}, {M: map[string]int{"a": 1}}, {M: map[string]int{"a": 1, "b": 2}}, {M: map[string]int{"a": 2, "b": 1}},
		{P: &zero}, {P: &one}, {F: 0.1}, {F: 0.2}, {F: math.Inf(1)}, {U: 1}, {B: true}, {T: at}, {T: at.Add(1)},
	}
	s := newStore(t, client(t, harness.Redis(t)), cache.StoreConfig{})
	var mu sync.Mutex
	next := 0
	q := newQuery(t, s, func(context.Context, args) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next, nil
	})
	for range 2 {
		for i, a := range all {
			got, err := q.Get(t.Context(), a)
			require.NoError(t, err)
			require.Equal(t, i+1, got, "%+v", a)
		}
	}
	same, err := q.Get(t.Context(), args{T: at.In(time.FixedZone("x", 3600))})
	require.NoError(t, err)
	require.Equal(t, 22, same, "the same instant in another zone")
}

func TestQuery_LoadErrorsAreTheCallers(t *testing.T) {
	t.Parallel()
	broken := errors.New("no database")
	q := newQuery(t, newStore(t, client(t, harness.Redis(t)), cache.StoreConfig{}), func(_ context.Context, n int) (int, error) {
		if n == 0 {
			panic("at the worst time")
		}
		return 0, broken
	})
	_, err := q.Get(t.Context(), 1)
	require.ErrorIs(t, err, broken)
	_, err = q.Get(t.Context(), 0)
	require.ErrorContains(t, err, "at the worst time")
}
