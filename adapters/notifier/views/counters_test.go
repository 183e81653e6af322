package views_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/views"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain/notification"
)

// sum counts by hand what the counters of a day must say.
func (w *desk) sum(t *testing.T, day time.Time, recipients ...string) app.DeliveryCounters {
	t.Helper()
	want := app.DeliveryCounters{}
	for _, r := range recipients {
		list, err := w.memory.RecipientNotifications(t.Context(), r, 1<<20)
		require.NoError(t, err)
		for _, s := range list {
			if s.RequestedAt.Format(time.DateOnly) != day.UTC().Format(time.DateOnly) {
				continue
			}
			c, add := want[s.Channel], app.CountOf(s)
			want[s.Channel] = app.DeliveryCount{
				Requested: c.Requested + add.Requested, Sent: c.Sent + add.Sent, Failed: c.Failed + add.Failed,
				Abandoned: c.Abandoned + add.Abandoned, Read: c.Read + add.Read,
			}
		}
	}
	return want
}

func TestCounters_CountEachNotificationOnceHoweverEventsCome(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	v, _ := open(t, views.Config{})
	w := newDesk(t, v)
	w.now = time.Now().UTC().Truncate(24 * time.Hour).Add(-time.Minute) // around midnight
	var recipients []string
	for i := range 5 {
		recipients = append(recipients, fmt.Sprint("user-", i))
		w.live(t, rng, recipients[i], 40)
	}
	yesterday, today := time.Now().UTC().AddDate(0, 0, -1), time.Now()
	for range 3 { // redelivered, reordered, replayed
		applyInBatches(t, v, rng, shuffled(rng, w.memory.Events()))
		for _, day := range []time.Time{yesterday, today} {
			got, err := v.DeliveryCounters(t.Context(), day)
			require.NoError(t, err)
			require.Equal(t, w.sum(t, day, recipients...), got)
			require.NotEmpty(t, got)
		}
	}
	got, err := v.DeliveryCounters(t.Context(), today.AddDate(0, 0, 1))
	require.NoError(t, err)
	require.Empty(t, got)
}

func TestCounters_AClosedDayIsNeverCountedAgain(t *testing.T) {
	t.Parallel()
	c := &clock{now: time.Now()}
	v, rdb := open(t, views.Config{CounterDays: 2, Now: c.Now})
	_, events := history(t, 2, c.Now())
	_, err := v.Apply(t.Context(), events...)
	require.NoError(t, err)
	got, err := v.DeliveryCounters(t.Context(), events[0].OccurredAt)
	require.NoError(t, err)
	require.Equal(t, app.DeliveryCounters{notification.Push: {Requested: 1, Sent: 1}}, got)

	c.Advance(4 * 24 * time.Hour)
	for _, key := range rdb.Keys(t.Context(), "view:counters:*:*").Val() { // as Redis does by then
		if rdb.Type(t.Context(), key).Val() == "hash" && rdb.PTTL(t.Context(), key).Val() > 0 {
			require.NoError(t, rdb.Del(t.Context(), key).Err())
		}
	}
	_, err = v.Apply(t.Context(), events...)
	require.NoError(t, err)
	got, err = v.DeliveryCounters(t.Context(), events[0].OccurredAt)
	require.NoError(t, err)
	require.Empty(t, got)
}
