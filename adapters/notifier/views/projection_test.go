package views_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/cache/rebuild"
	"github.com/millrace-go/millrace/adapters/notifier/views"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
	"github.com/millrace-go/millrace/outbox"
)

// projection is one view of a process, as something to rebuild step by step.
type projection struct {
	v    *views.Views
	name string
}

func projections(v *views.Views) (all []projection) {
	for _, name := range views.Names() {
		all = append(all, projection{v, name})
	}
	return all
}

func projectionOf(t testing.TB, v *views.Views, name string) projection {
	t.Helper()
	require.Contains(t, views.Names(), name)
	return projection{v, name}
}

func (p projection) Name() string { return p.name }

func (p projection) Generations(ctx context.Context) (cache.Generations, error) {
	return p.v.Tracker().Current(ctx, p.name)
}

func (p projection) Begin(ctx context.Context) (string, error) {
	return p.v.Tracker().Begin(ctx, p.name)
}

func (p projection) Flip(ctx context.Context, next string) error {
	return p.v.Tracker().Flip(ctx, p.name, next)
}

func (p projection) Drop(ctx context.Context, generation string) error {
	return p.v.Tracker().Drop(ctx, p.name, generation)
}

func (p projection) Fold(ctx context.Context, generation string, events ...domain.Recorded) error {
	_, err := p.v.Fold(ctx, p.name, generation, events...)
	return err
}

// newBuilder builds p again from log.
func newBuilder(p projection, log outbox.History, cfg rebuild.Config) (*rebuild.Builder, error) {
	view, err := p.v.Rebuildable(p.name, "")
	if err != nil {
		return nil, err
	}
	return rebuild.NewBuilder(p.v.Tracker(), view, log, cfg)
}

// A rebuild reads the log while another process goes on applying events. Nothing
// may be missing from the new generation, and no reader may see anything go back.
func TestProjection_IsRebuiltWhileEventsKeepComing(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	builder, rdb := open(t, views.Config{})
	consumer := newViews(t, rdb, nothing, views.Config{})
	const notifications, versions = 60, 8
	var mu sync.Mutex
	var log []domain.Recorded // what the outbox has: events are in it before they are applied
	ids := make([]notification.ID, notifications)
	histories := make([][]domain.Recorded, notifications)
	for i := range ids {
		ids[i], histories[i] = history(t, versions, time.Now())
	}

	var consuming sync.WaitGroup
	consuming.Go(func() {
		for version := range versions {
			for i := range ids {
				mu.Lock()
				log = append(log, histories[i][version])
				mu.Unlock()
				if _, err := consumer.Apply(t.Context(), histories[i][version]); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	rng := rand.New(rand.NewPCG(seed, 0))
	seen := map[notification.ID]int64{}
	look := func() {
		id := ids[rng.IntN(len(ids))]
		if s, err := builder.NotificationStatus(t.Context(), id); err == nil {
			require.GreaterOrEqual(t, s.Version, seen[id])
			seen[id] = s.Version
		}
	}
	p := projectionOf(t, builder, views.Status)
	for range 3 {
		look()
		before, err := p.Generations(t.Context())
		require.NoError(t, err)
		next, err := p.Begin(t.Context())
		require.NoError(t, err)
		again, err := p.Begin(t.Context())
		require.NoError(t, err)
		require.Equal(t, next, again, "an interrupted rebuild goes on")
		mu.Lock()
		past := shuffled(rng, log)
		mu.Unlock()
		require.NoError(t, p.Fold(t.Context(), next, past...))
		require.NoError(t, p.Flip(t.Context(), next))
		after, err := p.Generations(t.Context())
		require.NoError(t, err)
		require.Equal(t, cache.Generations{Live: next, Last: before.Live}, after)
		for range 200 {
			look()
		}
	}
	consuming.Wait()
	fresh := newViews(t, rdb, nothing, views.Config{})
	for i, id := range ids {
		got, err := fresh.NotificationStatus(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, status(t, histories[i][versions-1]), got)
	}
}

func TestProjection_EachViewIsRebuiltFromTheLogAlone(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	v, rdb := open(t, views.Config{})
	w := newDesk(t, v)
	w.live(t, rng, "ada", 20)
	events := w.memory.Events()
	for _, p := range projections(v) {
		next, err := p.Begin(t.Context())
		require.NoError(t, err)
		for len(events) > 0 && t.Context().Err() == nil {
			require.NoError(t, p.Fold(t.Context(), next, events...))
			break
		}
		require.NoError(t, p.Fold(t.Context(), next))
		require.NoError(t, p.Flip(t.Context(), next))
	}
	require.Zero(t, rdb.Exists(t.Context(), "view:notification:x").Val())
	for _, s := range w.want(t, "ada") {
		got, err := v.NotificationStatus(t.Context(), s.ID)
		require.NoError(t, err)
		require.Equal(t, s, got)
	}
	counters, err := v.DeliveryCounters(t.Context(), w.now)
	require.NoError(t, err)
	require.Equal(t, w.sum(t, w.now, "ada"), counters)
	list, err := w.ListRecipientNotifications(t.Context(), "ada", 100)
	require.NoError(t, err)
	require.Equal(t, w.want(t, "ada"), list.Notifications)
}

func TestProjection_DropDeletesAllButTheLiveGeneration(t *testing.T) {
	t.Parallel()
	v, rdb := open(t, views.Config{Prefix: "odd[*]?:"})
	id, events := history(t, 2, time.Now())
	_, err := v.Apply(t.Context(), events...)
	require.NoError(t, err)
	p := projectionOf(t, v, views.Status)
	kept, err := p.Generations(t.Context())
	require.NoError(t, err)
	require.ErrorIs(t, p.Drop(t.Context(), kept.Live), rebuild.ErrGeneration)
	require.ErrorIs(t, p.Drop(t.Context(), ""), rebuild.ErrGeneration)
	require.ErrorIs(t, p.Flip(t.Context(), "unknown"), rebuild.ErrGeneration)

	next, err := p.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, p.Fold(t.Context(), next, events...))
	require.NoError(t, p.Drop(t.Context(), next), "given up")
	require.Len(t, rdb.Keys(t.Context(), "odd\\[\\*]\\?:notification:*}").Val(), 1)
	got, err := v.NotificationStatus(t.Context(), id)
	require.NoError(t, err)
	require.EqualValues(t, 2, got.Version)

	next, err = p.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, p.Flip(t.Context(), next))
	require.NoError(t, p.Drop(t.Context(), kept.Live), "the one before")
	require.Empty(t, rdb.Keys(t.Context(), "odd\\[\\*]\\?:notification:*}").Val())
	_, err = v.NotificationStatus(t.Context(), id)
	require.ErrorIs(t, err, domain.ErrNotFound)
}

// After FLUSHALL the generation is another one: entries of the former, wherever
// they survived, do not come back.
func TestGeneration_IsDrawnAnewWhenItIsLost(t *testing.T) {
	t.Parallel()
	v, rdb := open(t, views.Config{})
	id, events := history(t, 2, time.Now())
	_, err := v.Apply(t.Context(), events[0])
	require.NoError(t, err)
	before := key(t, v, id)
	raw := rdb.Get(t.Context(), before).Val()
	require.NoError(t, rdb.FlushDB(t.Context()).Err())
	require.NoError(t, rdb.Set(t.Context(), before, raw, 0).Err())

	_, err = v.Apply(t.Context(), events[1])
	require.NoError(t, err, "finds the generation gone and begins another")
	other := newViews(t, rdb, nothing, views.Config{})
	require.NotEqual(t, before, key(t, other, id))
	got, err := other.NotificationStatus(t.Context(), id)
	require.NoError(t, err)
	require.EqualValues(t, 2, got.Version)
}
