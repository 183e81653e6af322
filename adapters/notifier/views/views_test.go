package views_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
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
	"github.com/millrace-go/millrace/domain/notification"
	"github.com/millrace-go/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// history returns the events of a new notification that fails until it has n
// events, the last of which sends it.
func history(t *testing.T, n int, at time.Time) (notification.ID, []domain.Recorded) {
	t.Helper()
	id := notification.ID(app.NewID())
	c := notification.Content{Recipient: "ada", Channel: notification.Push, Subject: "Hello", Body: "World"}
	agg, err := notification.Request(id, c, at)
	require.NoError(t, err)
	for i := 1; i < n-1; i++ {
		require.NoError(t, agg.MarkFailed(fmt.Sprintf("attempt %d", i), at.Add(time.Duration(i)*time.Millisecond)))
	}
	if n > 1 {
		require.NoError(t, agg.MarkSent(at.Add(time.Duration(n)*time.Millisecond)))
	}
	return id, domain.Envelopes(notification.Aggregate, string(id), agg.Version(), agg.Pending(), domain.Trace{}, app.NewID)
}

func status(t *testing.T, e domain.Recorded) app.NotificationStatus {
	t.Helper()
	s, ok := app.ProjectStatus(e)
	require.True(t, ok)
	return s
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// database answers the views' questions about statuses, when they have none.
type database struct {
	app.Reader
	status func(id notification.ID) (app.NotificationStatus, error)
}

func (d database) NotificationStatus(_ context.Context, id notification.ID) (app.NotificationStatus, error) {
	return d.status(id)
}

// nothing is an empty database: only what a view has itself is found.
var nothing = database{status: func(notification.ID) (app.NotificationStatus, error) {
	return app.NotificationStatus{}, domain.ErrNotFound
}}

// always is a database that has one status.
func always(s app.NotificationStatus) database {
	return database{status: func(notification.ID) (app.NotificationStatus, error) { return s, nil }}
}

// newViews is a process of its own, with a client like that of rdb and a database.
func newViews(t testing.TB, rdb *redis.Client, reader app.Reader, cfg views.Config, hooks ...redis.Hook) *views.Views {
	t.Helper()
	opt := *rdb.Options()
	cache.Harden(&opt)
	opt.DialTimeout, opt.ReadTimeout, opt.WriteTimeout, opt.PoolTimeout = time.Second, time.Second, time.Second, time.Second
	own := redis.NewClient(&opt)
	t.Cleanup(func() { _ = own.Close() })
	for _, h := range hooks {
		own.AddHook(h)
	}
	store, err := cache.NewStore(own, cache.StoreConfig{Now: cfg.Now, LoadWait: time.Minute, LoadTimeout: time.Minute, BreakerErrors: math.MaxInt32})
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	v, err := views.New(own, store, reader, cfg)
	require.NoError(t, err)
	return v
}

func open(t testing.TB, cfg views.Config) (*views.Views, *redis.Client) {
	t.Helper()
	rdb := harness.Redis(t)
	return newViews(t, rdb, nothing, cfg), rdb
}

func TestViews_PassTheContractOfReaders(t *testing.T) {
	t.Parallel()
	apptest.ExerciseViews(t, func(t *testing.T, database app.Reader) app.Views {
		return newViews(t, harness.Redis(t), database, views.Config{})
	})
}

func TestApply_KeepsTheNewestVersionInAnyOrder(t *testing.T) {
	t.Parallel()
	v, _ := open(t, views.Config{})
	id, events := history(t, 4, time.Now())
	_, err := v.NotificationStatus(t.Context(), id)
	require.ErrorIs(t, err, domain.ErrNotFound)

	for _, step := range []struct{ deliver, shows int }{{2, 2}, {0, 2}, {2, 2}, {1, 2}, {3, 3}, {2, 3}, {3, 3}} {
		_, err := v.Apply(t.Context(), events[step.deliver])
		require.NoError(t, err)
		got, err := v.NotificationStatus(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, status(t, events[step.shows]), got)
	}
}

func TestApply_TakesABatch(t *testing.T) {
	t.Parallel()
	v, _ := open(t, views.Config{})
	first, a := history(t, 3, time.Now())
	second, b := history(t, 2, time.Now())
	batch := append([]domain.Recorded{b[1], {AggregateID: "of another aggregate"}, b[0]}, a...)

	got, err := v.Apply(t.Context(), batch...)
	require.NoError(t, err)
	require.Equal(t, views.Applied{Stored: 2, Older: 3, Ignored: 1}, got)
	got, err = v.Apply(t.Context(), batch...)
	require.NoError(t, err)
	require.Equal(t, views.Applied{Older: 5, Ignored: 1}, got)

	for id, last := range map[notification.ID]domain.Recorded{first: a[2], second: b[1]} {
		s, err := v.NotificationStatus(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, status(t, last), s)
	}
	_, err = v.Apply(t.Context())
	require.NoError(t, err, "nothing is a batch too")
}

// key is where the entry of a notification is.
func key(t *testing.T, v *views.Views, id notification.ID) string {
	t.Helper()
	key, err := v.Key(t.Context(), id)
	require.NoError(t, err)
	return key
}

// 2^53+1 and its neighbours are one number to Lua; as text they are not.
func TestPut_ComparesVersionsBeyondWhatADoubleHolds(t *testing.T) {
	t.Parallel()
	v, _ := open(t, views.Config{})
	id, events := history(t, 1, time.Now())
	const base = int64(1) << 53
	newest := int64(0)
	for _, version := range []int64{base, base + 1, base, 9, base + 2, base + 1, base + 3} {
		e := events[0]
		e.AggregateVersion = version
		_, err := v.Apply(t.Context(), e)
		require.NoError(t, err)
		newest = max(newest, version)
		got, err := v.NotificationStatus(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, newest, got.Version)
	}
}

func TestRemove_KeepsOlderEventsFromComingBack(t *testing.T) {
	t.Parallel()
	v, _ := open(t, views.Config{})
	id, events := history(t, 3, time.Now())
	_, err := v.Apply(t.Context(), events[0])
	require.NoError(t, err)
	require.NoError(t, v.Remove(t.Context(), id, 3))
	_, err = v.Apply(t.Context(), events...)
	require.NoError(t, err)
	_, err = v.NotificationStatus(t.Context(), id)
	require.ErrorIs(t, err, domain.ErrNotFound)
}

func TestEntry_EndsWithItsAgeAndStaysAwayForEarlierEvents(t *testing.T) {
	t.Parallel()
	c := &clock{now: time.Now()}
	v, rdb := open(t, views.Config{TTL: time.Hour, Now: c.Now})
	id, events := history(t, 2, c.Now())
	_, err := v.Apply(t.Context(), events...)
	require.NoError(t, err)
	ttl, err := rdb.PTTL(t.Context(), key(t, v, id)).Result()
	require.NoError(t, err)
	require.InDelta(t, 63*time.Minute, ttl, float64(4*time.Minute), "an hour and up to a tenth")

	c.Advance(2 * time.Hour) // Redis still has it, but it counts for nothing
	_, err = v.NotificationStatus(t.Context(), id)
	require.ErrorIs(t, err, domain.ErrNotFound)

	require.NoError(t, rdb.FlushDB(t.Context()).Err())
	done, err := v.Apply(t.Context(), events[0])
	require.NoError(t, err)
	require.Equal(t, views.Applied{Older: 1}, done, "a replay of old news makes no entry")
	reader := newViews(t, rdb, always(status(t, events[0])), views.Config{TTL: time.Hour, Now: c.Now})
	_, err = reader.NotificationStatus(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, "00000000000000000001", rdb.Get(t.Context(), key(t, v, id)).Val()[:20], "a reader does")
	_, err = v.Apply(t.Context(), events[1])
	require.NoError(t, err)
	raw, err := rdb.Get(t.Context(), key(t, v, id)).Result()
	require.NoError(t, err)
	require.Equal(t, "00000000000000000002", raw[:20], "but it replaces what is older still")
	require.Positive(t, rdb.PTTL(t.Context(), key(t, v, id)).Val())
}

func TestEntry_RubbishIsAMissAndGivesWay(t *testing.T) {
	t.Parallel()
	v, rdb := open(t, views.Config{})
	for _, rubbish := range []string{"", "x", "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", "99999999999999999999o00000000000000000000{}"} {
		id, events := history(t, 1, time.Now())
		require.NoError(t, rdb.Set(t.Context(), key(t, v, id), rubbish, 0).Err())
		_, err := v.NotificationStatus(t.Context(), id)
		require.ErrorIs(t, err, domain.ErrNotFound)
		_, err = v.Apply(t.Context(), events...)
		require.NoError(t, err)
		_, err = v.NotificationStatus(t.Context(), id)
		require.NoError(t, err)
	}
}

func TestNew_NamesEveryWrongField(t *testing.T) {
	t.Parallel()
	_, err := views.New(nil, nil, nil, views.Config{TTL: time.Millisecond, TombstoneTTL: -1, CounterDays: -1, LoadTimeout: -1})
	require.ErrorContains(t, err, "CounterDays")
	require.ErrorContains(t, err, "LoadTimeout")
	require.ErrorContains(t, err, "rdb")
	require.ErrorContains(t, err, "store")
	require.ErrorContains(t, err, "reader")
	require.ErrorContains(t, err, "TTL: must be at least 1s, is 1ms")
	require.ErrorContains(t, err, "TombstoneTTL")
}

// Several deliverers commit events and hand the same histories over in random
// order, in batches and more than once, while readers of two processes fill from
// the database. No reader may ever see a notification go back, and in the end all
// are current.
func TestViews_NeverGoBackwards(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	v, rdb := open(t, views.Config{})
	const notifications, versions, deliverers, readers = 20, 12, 6, 4
	ids := make([]notification.ID, notifications)
	var all []domain.Recorded
	events := map[notification.ID][]domain.Recorded{}
	for i := range ids {
		id, h := history(t, versions, time.Now())
		ids[i], events[id] = id, h
		all = append(all, h...)
	}
	db := &truth{newest: map[notification.ID]domain.Recorded{}}
	processes := []*views.Views{newViews(t, rdb, db, views.Config{}), newViews(t, rdb, db, views.Config{})}

	var delivering, reading sync.WaitGroup
	stop := make(chan struct{})
	for d := range deliverers {
		delivering.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(d)))
			for range 3 {
				order := rng.Perm(len(all))
				for len(order) > 0 {
					n := min(1+rng.IntN(8), len(order))
					batch := make([]domain.Recorded, n)
					for i, at := range order[:n] {
						batch[i] = all[at]
						db.add(all[at])
					}
					order = order[n:]
					if _, err := v.Apply(t.Context(), batch...); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for r := range readers {
		reading.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(100+r)))
			seen := map[notification.ID]int64{}
			for reads := 0; ; reads++ {
				select {
				case <-stop:
					return
				default:
				}
				id := ids[rng.IntN(len(ids))]
				s, err := processes[r%len(processes)].NotificationStatus(t.Context(), id)
				if errors.Is(err, domain.ErrNotFound) && seen[id] == 0 {
					continue
				}
				if err != nil || s.Version < seen[id] || s != status(t, events[id][s.Version-1]) {
					t.Errorf("%s went from version %d to %+v: %v", id, seen[id], s, err)
					return
				}
				seen[id] = max(seen[id], s.Version)
			}
		})
	}
	delivering.Wait()
	close(stop)
	reading.Wait()
	for _, id := range ids {
		s, err := v.NotificationStatus(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, status(t, events[id][versions-1]), s)
	}
}
