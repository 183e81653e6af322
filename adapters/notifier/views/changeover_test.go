package views_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/cache/rebuild"
	"github.com/millrace-go/millrace/adapters/notifier/views"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/harness"
)

// hook does something around what a client sends.
type hook struct {
	redis.Hook
	before, after func(cmds []redis.Cmder) // nil for nothing
	apart         bool                     // each command of a pipeline is sent by itself
}

func (h *hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return h.around(func() error { return next(ctx, cmd) }, cmd)
	}
}

func (h *hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !h.apart {
			return h.around(func() error { return next(ctx, cmds) }, cmds...)
		}
		for _, cmd := range cmds {
			if err := h.around(func() error { return next(ctx, []redis.Cmder{cmd}) }, cmd); err != nil {
				return err
			}
		}
		return nil
	}
}

func (h *hook) around(send func() error, cmds ...redis.Cmder) error {
	if h.before != nil {
		h.before(cmds)
	}
	err := send()
	if h.after != nil {
		h.after(cmds)
	}
	return err
}

// hooked is a process whose commands pass through h.
func hooked(t *testing.T, rdb *redis.Client, cfg views.Config, h *hook) *views.Views {
	t.Helper()
	return newViews(t, rdb, nothing, cfg, h)
}

// seen is what a reader finds of one notification in the three views.
type seen struct {
	status, list int64
	counts       app.DeliveryCount
}

func lookAll(t *testing.T, rdb *redis.Client, id notification.ID) (s seen) {
	t.Helper()
	v := newViews(t, rdb, nothing, views.Config{}) // knows nothing, so it asks for the generations
	status, err := v.NotificationStatus(t.Context(), id)
	require.NoError(t, err)
	list, err := v.RecipientNotifications(t.Context(), "ada")
	require.NoError(t, err)
	for _, l := range list {
		if l.ID == id {
			s.list = l.Version
		}
	}
	counts, err := v.DeliveryCounters(t.Context(), status.RequestedAt)
	require.NoError(t, err)
	s.status, s.counts = status.Version, counts[notification.Push]
	return s
}

// A batch is several commands to Redis. Between any two of them the generation that
// is being built may begin to answer, and a reader may have looked just before.
func TestApply_AChangeOfGenerationsWithinABatchTakesNobodyBack(t *testing.T) {
	t.Parallel()
	v, rdb := open(t, views.Config{})
	var log []domain.Recorded // of the steps before
	for step := 0; ; step++ {
		id, events := history(t, 3, time.Now())
		_, err := v.Apply(t.Context(), events[0])
		require.NoError(t, err)
		fillList(t, v, events[0])
		next := map[string]string{}
		for _, p := range projections(v) {
			next[p.Name()], err = p.Begin(t.Context())
			require.NoError(t, err)
			require.NoError(t, p.Fold(t.Context(), next[p.Name()], append(log, events[0])...))
		}
		log = append(log, events...)
		at, reached := 0, false
		writer := hooked(t, rdb, views.Config{}, &hook{apart: true, before: func(cmds []redis.Cmder) {
			if cmds[0].Name() != "evalsha" && cmds[0].Name() != "hgetall" {
				return
			}
			if at++; at-1 != step {
				return
			}
			reached = true
			markLists(t, rdb, next[views.Recipients])
			before := lookAll(t, rdb, id)
			for _, p := range projections(v) {
				require.NoError(t, p.Flip(t.Context(), next[p.Name()]))
			}
			after := lookAll(t, rdb, id)
			require.GreaterOrEqual(t, after.status, before.status, "step %d", step)
			require.GreaterOrEqual(t, after.list, before.list, "step %d", step)
			require.False(t, less(after.counts, before.counts), "step %d: %v, then %v", step, before.counts, after.counts)
		}})
		_, err = writer.Apply(t.Context(), events[1:]...)
		require.NoError(t, err)
		if !reached {
			require.Greater(t, step, 9, "three views of two generations, and three looks")
			return
		}
		require.EqualValues(t, 3, lookAll(t, rdb, id).status)
	}
}

// fillList makes the list of ada complete in every generation that is filled.
func fillList(t *testing.T, v *views.Views, e domain.Recorded) {
	t.Helper()
	_, err := v.RecipientNotifications(t.Context(), "ada")
	if err == nil {
		return
	}
	require.ErrorIs(t, err, app.ErrViewMiss)
	require.NoError(t, v.FillRecipientNotifications(t.Context(), "ada", app.TicketOf(err), []app.NotificationStatus{status(t, e)}))
}

// markLists says of the lists of a generation that they are complete, as a rebuild
// does before it flips.
func markLists(t *testing.T, rdb *redis.Client, generation string) {
	t.Helper()
	for _, key := range rdb.Keys(t.Context(), "view:recipient:"+generation+":*}").Val() {
		require.NoError(t, rdb.HSet(t.Context(), key, "complete", "1").Err())
	}
}

// What a reader brings from the database may be newer than any event that was
// applied. He finds it again after the change.
func TestFill_ReachesTheGenerationThatIsBeingBuilt(t *testing.T) {
	t.Parallel()
	rdb := harness.Redis(t)
	id, events := history(t, 3, time.Now())
	newest := status(t, events[2])
	var v *views.Views
	db, _ := scripted(func() app.NotificationStatus { // the miss was before the generations
		_, listMiss := v.RecipientNotifications(t.Context(), "ada")
		for _, p := range projections(v) {
			next, err := p.Begin(t.Context())
			require.NoError(t, err)
			require.NoError(t, p.Fold(t.Context(), next, events[0])) // the log was read before the others were committed
		}
		require.NoError(t, v.FillRecipientNotifications(t.Context(), "ada", app.TicketOf(listMiss), []app.NotificationStatus{newest}))
		return newest
	})
	v = newViews(t, rdb, db, views.Config{})
	got, err := v.NotificationStatus(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, newest, got)
	before := lookAll(t, rdb, id)
	require.Equal(t, []int64{3, 3}, []int64{before.status, before.list})
	for _, p := range projections(v) {
		kept, err := p.Generations(t.Context())
		require.NoError(t, err)
		require.NoError(t, p.Flip(t.Context(), kept.Next))
	}
	after := lookAll(t, rdb, id)
	require.Equal(t, []int64{3, 3}, []int64{after.status, after.list})
}

// interrupted is a log at whose end somebody looks.
type interrupted struct {
	outbox.History
	once  sync.Once
	there func() // called when the end of the log has been read for the first time
}

func (i *interrupted) Between(ctx context.Context, since, until time.Time) (outbox.Range, error) {
	r, err := i.History.Between(ctx, since, until)
	i.once.Do(i.there)
	return r, err
}

// A process that has not heard of the new generation fills the former alone, with
// what is committed only after the fold has read the end of the log, and no
// consumer has applied that yet. Unless the fold waited until everybody has heard,
// readers of that process would go back at the change.
func TestRebuild_ReadsOnceEveryProcessKnowsTheGeneration(t *testing.T) {
	t.Parallel()
	for _, name := range []string{views.Status, views.Recipients} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLogged(t)
			id, events := history(t, 2, time.Now())
			commit := func(e domain.Recorded) {
				done, err := l.write(t.Context(), e)
				require.NoError(t, err)
				require.NoError(t, done())
			}
			commit(events[0])
			newest, found := status(t, events[1]), false
			v := newViews(t, l.rdb, database{status: func(notification.ID) (app.NotificationStatus, error) {
				if !found {
					return app.NotificationStatus{}, domain.ErrNotFound
				}
				return newest, nil
			}}, views.Config{LoadTimeout: time.Minute})
			look := func() (int64, error) {
				if name == views.Status {
					s, err := v.NotificationStatus(t.Context(), id)
					return s.Version, err
				}
				list, err := v.RecipientNotifications(t.Context(), "ada")
				if err != nil {
					return 0, err
				}
				require.Len(t, list, 1)
				return list[0].Version, nil
			}
			log := &interrupted{History: l.history}
			r, err := newBuilder(projectionOf(t, l.views(t), name), log, rebuild.Config{})
			require.NoError(t, err)
			_, miss := look()
			require.Error(t, miss)
			log.there = func() {
				commit(events[1])
				found = true
				if name == views.Recipients {
					require.NoError(t, v.FillRecipientNotifications(t.Context(), "ada", app.TicketOf(miss), []app.NotificationStatus{newest}))
				}
				version, err := look()
				require.NoError(t, err)
				require.EqualValues(t, 2, version)
			}
			res, err := r.Run(t.Context())
			require.NoError(t, err)
			require.True(t, res.Flipped)
			version, err := look()
			require.NoError(t, err)
			require.EqualValues(t, 2, version, "no consumer has applied it, and it was seen")
		})
	}
}

// A reader's process stands still after it has looked up which generation answers,
// until the former is deleted. Status and list are then not found; sums of what is
// no longer there would be zero.
func TestCounters_AReaderThatStoodStillDuringTheChangeDoesNotSeeZero(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	l.fill(t, 30)
	day := time.Now()
	_, err := l.rebuilder(t, views.Counters, rebuild.Config{}).Run(t.Context())
	require.NoError(t, err)
	var once sync.Once
	slow := hooked(t, l.rdb, views.Config{}, &hook{before: func(cmds []redis.Cmder) {
		if cmds[0].Name() == "hmget" {
			once.Do(func() {
				res, err := l.rebuilder(t, views.Counters, rebuild.Config{}).Run(t.Context())
				require.NoError(t, err)
				require.NotEmpty(t, res.Removed)
			})
		}
	}})
	got, err := slow.DeliveryCounters(t.Context(), day)
	require.NoError(t, err)
	want, err := l.views(t).DeliveryCounters(t.Context(), day)
	require.NoError(t, err)
	require.NotEmpty(t, want)
	require.Equal(t, want, got)
}

// somebodyElse takes the rebuild over when it asks for the n-th time how the server is.
func somebodyElse(rdb *redis.Client, n int, do func()) *hook {
	return &hook{after: func(cmds []redis.Cmder) {
		if cmds[0].Name() == "info" {
			if n--; n == 0 {
				do()
			}
		}
	}}
}

func TestRebuild_DoesNotFlipOnceTheLockIsLost(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	l.fill(t, 30)
	before := l.generations(t, views.Status).Live
	const state = "view:notification:generation"
	h := somebodyElse(l.rdb, 2, func() { // it asks first at the beginning, and then right before the flip
		require.NoError(t, l.rdb.HSet(t.Context(), state, "builder", "another", "builder_until", strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10)).Err())
	})
	r, err := newBuilder(projectionOf(t, hooked(t, l.rdb, views.Config{}, h), views.Status), l.history, rebuild.Config{})
	require.NoError(t, err)
	res, err := r.Run(t.Context())
	require.ErrorIs(t, err, rebuild.ErrBusy)
	require.False(t, res.Flipped)
	require.EqualValues(t, 61, res.Next, "it had all")
	require.Equal(t, cache.Generations{Live: before, Next: res.Generation}, l.generations(t, views.Status))
	require.Equal(t, "another", l.rdb.HGet(t.Context(), state, "builder").Val(), "the claim is not freed either")
}
