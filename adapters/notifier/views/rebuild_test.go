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
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

var everyView = []string{views.Status, views.Recipients, views.Counters}

// Writers commit, some of them late, consumers apply with a lag, readers look and
// fill: each view is rebuilt beneath them. Nothing is missing afterwards, and no
// reader sees anything go back.
func TestRebuild_EqualsTheLogAndNothingGoesBackWhileWritersGoOn(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	l := newLogged(t)
	const writers, each = 3, 40
	db := &truth{newest: map[notification.ID]domain.Recorded{}}
	applied := make(chan domain.Recorded, 10_000)
	stop := make(chan struct{})
	var running sync.WaitGroup
	for w := range writers {
		running.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(w)))
			for round := 0; ; round++ {
				histories := make([][]domain.Recorded, each)
				for i := range histories {
					_, histories[i] = history(t, 2+rng.IntN(5), time.Now())
				}
				for len(histories) > 0 {
					select {
					case <-stop:
						return
					default:
					}
					var commits []func() error
					var events []domain.Recorded
					for range 1 + rng.IntN(3) { // the first commits last
						i := rng.IntN(len(histories))
						e := histories[i][0]
						commit, err := l.write(t.Context(), e)
						if err != nil {
							t.Error(err)
							return
						}
						commits, events = append(commits, commit), append(events, e)
						if histories[i] = histories[i][1:]; len(histories[i]) == 0 {
							histories = append(histories[:i], histories[i+1:]...)
						}
						if len(histories) == 0 {
							break
						}
					}
					for i := len(commits) - 1; i >= 0; i-- {
						if err := commits[i](); err != nil {
							t.Error(err)
							return
						}
						db.add(events[i])
						applied <- events[i]
					}
				}
			}
		})
	}
	var consuming sync.WaitGroup
	for range 2 {
		v := l.views(t)
		consuming.Go(func() {
			for e := range applied {
				batch := []domain.Recorded{e}
				for len(batch) < 20 && len(applied) > 0 {
					if more, ok := <-applied; ok {
						batch = append(batch, more)
					}
				}
				if _, err := v.Apply(t.Context(), batch...); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	readers := make([]*reader, 3)
	for i := range readers {
		readers[i] = newReader(newViews(t, l.rdb, db, views.Config{}))
		running.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(100+i)))
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := readers[i].look(t.Context(), rng, db, "ada"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	require.Eventually(t, func() bool { return db.len() > 100 }, 2*time.Minute, time.Millisecond)
	for _, name := range everyView {
		before := l.generations(t, name)
		res, err := l.rebuilder(t, name, rebuild.Config{Batch: 50}).Run(t.Context())
		require.NoError(t, err)
		require.True(t, res.Flipped)
		require.Positive(t, res.Events)
		require.Equal(t, before.Live, res.Removed)
		require.Equal(t, cache.Generations{Live: res.Generation}, l.generations(t, name))
		require.Zero(t, l.generation(t, name, res.Removed))
	}
	close(stop)
	running.Wait()
	close(applied)
	consuming.Wait()
	for _, r := range readers {
		for view, looks := range r.looks {
			require.Greater(t, looks, 100, everyView[view])
		}
	}
	l.agrees(t)
}

func (l *logged) generations(t *testing.T, name string) cache.Generations {
	t.Helper()
	g, err := projectionOf(t, l.views(t), name).Generations(t.Context())
	require.NoError(t, err)
	return g
}

func TestRebuild_GoesOnWhereItWasStopped(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	l.fill(t, 900) // 1,800 events
	for _, name := range everyView {
		before := l.generations(t, name).Live
		ctx, kill := context.WithCancel(t.Context())
		first, err := l.rebuilder(t, name, rebuild.Config{Batch: 100, OnProgress: func(r rebuild.Result) {
			if r.Next > 500 {
				kill()
			}
		}}).Run(ctx)
		require.ErrorIs(t, err, context.Canceled)
		require.False(t, first.Flipped)
		require.Equal(t, before, l.generations(t, name).Live, "the former still answers")

		_, err = l.rebuilder(t, name, rebuild.Config{From: 7}).Run(t.Context())
		require.ErrorIs(t, err, rebuild.ErrResumes)
		plan, err := l.rebuilder(t, name, rebuild.Config{}).Plan(t.Context())
		require.NoError(t, err)
		require.True(t, plan.Resumed)
		rest, err := l.rebuilder(t, name, rebuild.Config{Batch: 100}).Run(t.Context())
		require.NoError(t, err)
		require.Equal(t, first.Generation, rest.Generation)
		require.True(t, rest.Resumed && rest.Flipped)
		require.Less(t, rest.Events, int64(1800), "it did not begin again")
		require.GreaterOrEqual(t, first.Events+rest.Events, int64(1800))
	}
	l.agrees(t)
}

func TestRebuild_StopsAtAPositionAndAnswersOnlyWhenItHasAll(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	l.fill(t, 300) // 600 events
	before := l.generations(t, views.Status).Live
	res, err := l.rebuilder(t, views.Status, rebuild.Config{To: 250}).Run(t.Context())
	require.NoError(t, err)
	require.Equal(t, []int64{1, 250, 251, 250}, []int64{res.From, res.To, res.Next, res.Events})
	require.False(t, res.Flipped)
	require.Equal(t, cache.Generations{Live: before, Next: res.Generation}, l.generations(t, views.Status))

	plan, err := l.rebuilder(t, views.Status, rebuild.Config{}).PlanAbort(t.Context())
	require.NoError(t, err)
	require.Equal(t, res.Generation, l.generations(t, views.Status).Next, "a plan changes nothing")
	removed, err := l.rebuilder(t, views.Status, rebuild.Config{}).Abort(t.Context())
	require.NoError(t, err)
	require.Equal(t, plan, removed)
	require.Equal(t, rebuild.AbortResult{View: views.Status, Removed: res.Generation, Former: []string{}, Answers: before}, removed)
	require.Equal(t, cache.Generations{Live: before}, l.generations(t, views.Status))
	require.Zero(t, l.generation(t, views.Status, removed.Removed))
	removed, err = l.rebuilder(t, views.Status, rebuild.Config{}).Abort(t.Context())
	require.NoError(t, err)
	require.Empty(t, removed.Removed)

	res, err = l.rebuilder(t, views.Status, rebuild.Config{From: 590, To: 600}).Run(t.Context())
	require.NoError(t, err)
	require.Equal(t, []any{int64(11), true}, []any{res.Events, res.Flipped})
}

// A rebuild that was killed between the flip and the end leaves the former
// generation behind: an abort says so, and removes it.
func TestAbort_RemovesWhatIsLeftOfFormerGenerations(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	l.fill(t, 30)
	before := l.generations(t, views.Status).Live
	ctx, kill := context.WithCancel(t.Context())
	res, err := l.rebuilder(t, views.Status, rebuild.Config{OnProgress: func(r rebuild.Result) {
		if r.Flipped {
			kill()
		}
	}}).Run(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, res.Flipped)
	require.Empty(t, res.Removed)
	for _, act := range []func(context.Context) (rebuild.AbortResult, error){
		l.rebuilder(t, views.Status, rebuild.Config{}).PlanAbort, l.rebuilder(t, views.Status, rebuild.Config{}).Abort,
	} {
		got, err := act(t.Context())
		require.NoError(t, err)
		require.Equal(t, rebuild.AbortResult{View: views.Status, Former: []string{before}, Answers: res.Generation}, got)
	}
	require.Equal(t, cache.Generations{Live: res.Generation}, l.generations(t, views.Status))
}

func TestRebuild_IsRefusedWhileAnotherIsUnderWay(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	l.fill(t, 300)
	inside, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	first := make(chan error, 1)
	slow := l.rebuilder(t, views.Status, rebuild.Config{Batch: 100, OnProgress: func(rebuild.Result) {
		once.Do(func() { close(inside); <-goOn })
	}})
	go func() { _, err := slow.Run(t.Context()); first <- err }()
	<-inside
	_, err := l.rebuilder(t, views.Status, rebuild.Config{}).Run(t.Context())
	require.ErrorIs(t, err, rebuild.ErrBusy)
	_, err = l.rebuilder(t, views.Status, rebuild.Config{}).Abort(t.Context())
	require.ErrorIs(t, err, rebuild.ErrBusy)

	// Taken over by force, as after a long pause of the first: it must not flip.
	require.NoError(t, l.rdb.HSet(t.Context(), "view:notification:generation", "builder", "another", "builder_until", "99999999999999").Err())
	close(goOn)
	require.ErrorIs(t, <-first, rebuild.ErrBusy)
	require.NotEmpty(t, l.generations(t, views.Status).Next)
	require.NoError(t, l.rdb.HSet(t.Context(), "view:notification:generation", "builder_until", "1").Err())
	res, err := l.rebuilder(t, views.Status, rebuild.Config{}).Run(t.Context())
	require.NoError(t, err, "the claim of a dead process ends")
	require.True(t, res.Flipped)
}

func TestRebuild_RefusesALogThatHasLostWhatTheViewShows(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	l.fill(t, 100)
	_, err := l.rebuilder(t, views.Counters, rebuild.Config{Floor: 50}).Run(t.Context())
	require.ErrorIs(t, err, rebuild.ErrTrimmed)
	require.ErrorContains(t, err, "give 50 as first position")
	require.Empty(t, l.generations(t, views.Counters).Next, "nothing was begun")
	res, err := l.rebuilder(t, views.Recipients, rebuild.Config{Floor: 50, From: 50}).Run(t.Context())
	require.NoError(t, err)
	require.True(t, res.Flipped)
	_, err = l.views(t).RecipientNotifications(t.Context(), "user-90")
	require.ErrorIs(t, err, app.ErrViewMiss, "lists may lack something, so readers ask the database")
}

// FLUSHALL takes generation and progress away together: the rebuild ends without
// a flip, and the next one begins from the start.
func TestRebuild_StartsOverWhenRedisIsFlushed(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	l.fill(t, 300)
	var once sync.Once
	_, err := l.rebuilder(t, views.Status, rebuild.Config{Batch: 100, OnProgress: func(rebuild.Result) {
		once.Do(func() { l.rdb.FlushDB(context.WithoutCancel(t.Context())) })
	}}).Run(t.Context())
	require.Error(t, err)
	for _, name := range everyView {
		res, err := l.rebuilder(t, name, rebuild.Config{}).Run(t.Context())
		require.NoError(t, err)
		require.Equal(t, []any{false, int64(1), int64(600)}, []any{res.Resumed, res.From, res.Events})
	}
	l.agrees(t)
}

func TestRebuild_CountsWhatIsNotOfTheView(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	l.fill(t, 3)
	for _, sql := range []string{
		`SELECT outbox_append('other.v1', 'k', 'x'::text)`,
		`SELECT outbox_append('notification.v1', 'k', 'no JSON'::text, 'notification.sent')`,
	} {
		_, err := l.db.DB.ExecContext(t.Context(), sql)
		require.NoError(t, err)
	}
	res, err := l.rebuilder(t, views.Status, rebuild.Config{}).Run(t.Context())
	require.NoError(t, err)
	require.Equal(t, []int64{6, 1, 1, 8}, []int64{res.Events, res.Ignored, res.Undecodable, res.Example})
}

// BenchmarkRebuild folds 200,000 events into each view.
func BenchmarkRebuild(b *testing.B) {
	l := newLogged(b)
	l.fill(b, 100_000)
	for _, name := range everyView {
		b.Run(name, func(b *testing.B) {
			var events, seconds float64
			for b.Loop() {
				res, err := l.rebuilder(b, name, rebuild.Config{}).Run(b.Context())
				require.NoError(b, err)
				events, seconds = events+float64(res.Events), seconds+res.Seconds
			}
			b.ReportMetric(events/seconds, "events/s")
		})
	}
}
