package views_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

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

func open(t *testing.T, cfg views.Config) (*views.Views, *redis.Client) {
	t.Helper()
	rdb := harness.Redis(t)
	v, err := views.New(rdb, cfg)
	require.NoError(t, err)
	return v, rdb
}

func TestViews_PassTheContractOfReaders(t *testing.T) {
	t.Parallel()
	apptest.ExerciseViews(t, func(t *testing.T) app.Views {
		v, _ := open(t, views.Config{})
		return v
	})
}

func TestApply_KeepsTheNewestVersionInAnyOrder(t *testing.T) {
	t.Parallel()
	v, _ := open(t, views.Config{})
	id, events := history(t, 4, time.Now())
	_, err := v.NotificationStatus(t.Context(), id)
	require.ErrorIs(t, err, app.ErrViewMiss)

	for _, step := range []struct{ deliver, shows int }{{2, 2}, {0, 2}, {2, 2}, {1, 2}, {3, 3}, {2, 3}, {3, 3}} {
		_, err := v.Apply(t.Context(), events[step.deliver])
		require.NoError(t, err)
		got, err := v.NotificationStatus(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, status(t, events[step.shows]), got)
	}
}

func TestApply_TakesABatchInOnePipeline(t *testing.T) {
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

// ticket draws the ticket of a miss.
func ticket(t *testing.T, v *views.Views, id notification.ID) string {
	t.Helper()
	_, err := v.NotificationStatus(t.Context(), id)
	require.ErrorIs(t, err, app.ErrViewMiss)
	return app.TicketOf(err)
}

func TestFill_NeverReplacesTheSameOrALaterVersion(t *testing.T) {
	t.Parallel()
	c := &clock{now: time.Now()}
	v, _ := open(t, views.Config{Now: c.Now})
	id, events := history(t, 3, time.Now())
	_, err := v.Apply(t.Context(), events[1])
	require.NoError(t, err)
	c.Advance(48 * time.Hour) // the entry is there and counts for nothing: a miss
	require.NoError(t, v.FillNotificationStatus(t.Context(), ticket(t, v, id), status(t, events[0])))
	c.Advance(-48 * time.Hour)
	got, err := v.NotificationStatus(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, status(t, events[1]), got)

	c.Advance(48 * time.Hour)
	require.NoError(t, v.FillNotificationStatus(t.Context(), ticket(t, v, id), status(t, events[2])))
	got, err = v.NotificationStatus(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, notification.StatusSent, got.Status)
}

// The event may have been evicted between the write and the fill: version alone
// could not tell that the reader is behind.
func TestFill_IsRefusedOnceAnEventWasWritten(t *testing.T) {
	t.Parallel()
	v, rdb := open(t, views.Config{})
	id, events := history(t, 3, time.Now())
	drawn := ticket(t, v, id)
	require.NotEmpty(t, drawn)
	require.Empty(t, ticket(t, v, id), "one reader fills")
	_, err := v.Apply(t.Context(), events...)
	require.NoError(t, err)
	require.NoError(t, rdb.Del(t.Context(), key(t, v, id)).Err())
	require.NoError(t, v.FillNotificationStatus(t.Context(), drawn, status(t, events[0])))
	_, err = v.NotificationStatus(t.Context(), id)
	require.ErrorIs(t, err, app.ErrViewMiss, "nothing is better than something old")

	drawn = app.TicketOf(err)
	require.NoError(t, v.FillNotificationStatus(t.Context(), "forged", status(t, events[2])))
	_, err = v.NotificationStatus(t.Context(), id)
	require.ErrorIs(t, err, app.ErrViewMiss)
	require.NoError(t, v.FillNotificationStatus(t.Context(), drawn, status(t, events[2])))
	require.NoError(t, v.FillNotificationStatus(t.Context(), drawn, status(t, events[2])), "twice")
	_, err = v.NotificationStatus(t.Context(), id)
	require.NoError(t, err)
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

func TestBury_KeepsOlderEventsFromComingBack(t *testing.T) {
	t.Parallel()
	v, _ := open(t, views.Config{})
	id, events := history(t, 3, time.Now())
	_, err := v.Apply(t.Context(), events[0])
	require.NoError(t, err)
	require.NoError(t, v.Bury(t.Context(), id, 3))
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
	require.ErrorIs(t, err, app.ErrViewMiss)

	require.NoError(t, rdb.FlushDB(t.Context()).Err())
	done, err := v.Apply(t.Context(), events[0])
	require.NoError(t, err)
	require.Equal(t, views.Applied{Older: 1}, done, "a replay of old news makes no entry")
	require.NoError(t, v.FillNotificationStatus(t.Context(), ticket(t, v, id), status(t, events[0])))
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
		require.ErrorIs(t, err, app.ErrViewMiss)
		_, err = v.Apply(t.Context(), events...)
		require.NoError(t, err)
		_, err = v.NotificationStatus(t.Context(), id)
		require.NoError(t, err)
	}
}

func TestNew_NamesEveryWrongField(t *testing.T) {
	t.Parallel()
	_, err := views.New(nil, views.Config{TTL: time.Millisecond, TombstoneTTL: -1, CounterDays: -1, LoadTimeout: -1})
	require.ErrorContains(t, err, "CounterDays")
	require.ErrorContains(t, err, "LoadTimeout")
	require.ErrorContains(t, err, "rdb")
	require.ErrorContains(t, err, "TTL")
	require.ErrorContains(t, err, "TombstoneTTL")
}

// Several deliverers hand over the same histories in random order, in batches
// and more than once, while readers fill from a database that is behind. No
// reader may ever see a notification go back, and in the end all are current.
func TestViews_NeverGoBackwards(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	v, _ := open(t, views.Config{})
	const notifications, versions, deliverers, readers = 20, 12, 6, 4
	ids := make([]notification.ID, notifications)
	var all []domain.Recorded
	events := map[notification.ID][]domain.Recorded{}
	for i := range ids {
		id, h := history(t, versions, time.Now())
		ids[i], events[id] = id, h
		all = append(all, h...)
	}

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
				s, err := v.NotificationStatus(t.Context(), id)
				if ticket := app.TicketOf(err); ticket != "" {
					stale := status(t, events[id][rng.IntN(versions)])
					if err := v.FillNotificationStatus(t.Context(), ticket, stale); err != nil {
						t.Error(err)
						return
					}
				}
				if err == nil && (s.Version < seen[id] || s != status(t, events[id][s.Version-1])) {
					t.Errorf("%s went from version %d to %+v", id, seen[id], s)
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
