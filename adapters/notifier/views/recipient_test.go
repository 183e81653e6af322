package views_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/views"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/app/apptest"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// desk is a service without a consumer: what it does is applied by the test.
type desk struct {
	*app.App
	memory *apptest.Memory
	now    time.Time
}

func newDesk(t *testing.T, v *views.Views) *desk {
	t.Helper()
	w := &desk{memory: &apptest.Memory{}, now: time.Now().Truncate(time.Second)}
	var err error
	w.App, err = app.New(w.memory, w.memory, v, app.Config{
		Now:        func() time.Time { return w.now },
		ViewFailed: func(_ context.Context, err error) { t.Error(err) },
	})
	require.NoError(t, err)
	return w
}

// live makes count notifications for recipient, a second apart, and lets each come
// as far as rng wants.
func (w *desk) live(t *testing.T, rng *rand.Rand, recipient string, count int) {
	t.Helper()
	for i := range count {
		w.now = w.now.Add(time.Second)
		channel := []notification.Channel{notification.Email, notification.SMS, notification.Push}[rng.IntN(3)]
		got, err := w.RequestNotification(t.Context(), app.RequestNotification{Content: notification.Content{
			Recipient: recipient, Channel: channel, Subject: fmt.Sprint(i), Body: "b",
		}})
		require.NoError(t, err)
		id := string(got.ID)
		for range rng.IntN(3) {
			require.NoError(t, w.MarkFailed(t.Context(), id, "busy"))
		}
		switch rng.IntN(4) {
		case 0:
			require.NoError(t, w.AbandonNotification(t.Context(), id, "asked to"))
		case 1:
			require.NoError(t, w.MarkSent(t.Context(), id))
		case 2:
			require.NoError(t, w.MarkSent(t.Context(), id))
			require.NoError(t, w.MarkRead(t.Context(), id))
		}
	}
}

// want is the list as the database has it.
func (w *desk) want(t *testing.T, recipient string) []app.NotificationStatus {
	t.Helper()
	list, err := w.memory.RecipientNotifications(t.Context(), recipient, app.RecipientWindow)
	require.NoError(t, err)
	return list
}

// shuffled returns events in random order, some of them twice.
func shuffled(rng *rand.Rand, events []domain.Recorded) []domain.Recorded {
	out := slices.Clone(events)
	for range len(events) / 3 {
		out = append(out, events[rng.IntN(len(events))])
	}
	rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

func applyInBatches(t *testing.T, v *views.Views, rng *rand.Rand, events []domain.Recorded) {
	t.Helper()
	for len(events) > 0 {
		n := min(1+rng.IntN(60), len(events))
		_, err := v.Apply(t.Context(), events[:n]...)
		require.NoError(t, err)
		events = events[n:]
	}
}

func TestRecipient_ListIsTheDatabasesHoweverEventsCome(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	v, rdb := open(t, views.Config{})
	w := newDesk(t, v)
	for recipient, count := range map[string]int{"ada": app.RecipientWindow + 30, "grace": 7, "{odd} name\x01": 3} {
		w.live(t, rng, recipient, count)
	}
	_, err := v.RecipientNotifications(t.Context(), "ada")
	require.ErrorIs(t, err, app.ErrViewMiss)

	applyInBatches(t, v, rng, shuffled(rng, w.memory.Events()))
	for _, recipient := range []string{"ada", "grace", "{odd} name\x01"} {
		_, err := v.RecipientNotifications(t.Context(), recipient)
		require.ErrorIs(t, err, app.ErrViewMiss, "events alone do not tell that there were none before")
		require.NoError(t, v.FillRecipientNotifications(t.Context(), recipient, app.TicketOf(err), w.want(t, recipient)))
		got, err := v.RecipientNotifications(t.Context(), recipient)
		require.NoError(t, err)
		require.Equal(t, w.want(t, recipient), got)
	}

	applyInBatches(t, v, rng, shuffled(rng, w.memory.Events())) // a replay of everything
	got, err := v.RecipientNotifications(t.Context(), "ada")
	require.NoError(t, err)
	require.Equal(t, w.want(t, "ada"), got)
	for _, key := range rdb.Keys(t.Context(), "view:recipient:*order").Val() {
		require.LessOrEqual(t, rdb.ZCard(t.Context(), key).Val(), int64(app.RecipientWindow+20))
	}
}

// An empty fill, then events only: from then on the view needs no database.
func TestRecipient_FollowsEventsOnceItIsFilled(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	v, _ := open(t, views.Config{})
	w := newDesk(t, v)
	list, err := w.ListRecipientNotifications(t.Context(), "ada", 0)
	require.NoError(t, err)
	require.Empty(t, list.Notifications)

	w.live(t, rng, "ada", app.RecipientWindow+40)
	applyInBatches(t, v, rng, w.memory.Events())
	got, err := v.RecipientNotifications(t.Context(), "ada")
	require.NoError(t, err)
	require.Equal(t, w.want(t, "ada"), got)

	list, err = w.ListRecipientNotifications(t.Context(), "ada", 5)
	require.NoError(t, err)
	require.Equal(t, got[:5], list.Notifications)
	unread := 0
	for _, s := range got {
		if s.Status == notification.StatusSent && s.ReadAt.IsZero() {
			unread++
		}
	}
	require.Equal(t, unread, list.Unread, "counted over the whole window")
}

func TestRecipient_AFillThatAnEventOvertookIsRefused(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	v, rdb := open(t, views.Config{})
	w := newDesk(t, v)
	w.live(t, rng, "ada", 1)
	_, err := v.RecipientNotifications(t.Context(), "ada")
	drawn := app.TicketOf(err)
	require.NotEmpty(t, drawn)
	before := w.want(t, "ada") // what the reader has
	w.live(t, rng, "ada", 1)
	_, err = v.Apply(t.Context(), w.memory.Events()...)
	require.NoError(t, err)
	keys := rdb.Keys(t.Context(), "view:recipient:*}").Val()
	require.Len(t, keys, 1)
	require.NoError(t, rdb.Del(t.Context(), keys...).Err()) // evicted
	require.NoError(t, v.FillRecipientNotifications(t.Context(), "ada", drawn, before))
	_, err = v.RecipientNotifications(t.Context(), "ada")
	require.ErrorIs(t, err, app.ErrViewMiss)
}

func TestRecipient_RubbishIsAMissAndGivesWay(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	v, rdb := open(t, views.Config{})
	w := newDesk(t, v)
	w.live(t, rng, "ada", 2)
	_, err := w.ListRecipientNotifications(t.Context(), "ada", 0)
	require.NoError(t, err)
	keys := rdb.Keys(t.Context(), "view:recipient:*}").Val()
	require.Len(t, keys, 1)
	require.NoError(t, rdb.HSet(t.Context(), keys[0], string(w.want(t, "ada")[0].ID), "zzzzzzzzzzzzzzzzzzzzzzzzzzzz").Err())
	list, err := w.ListRecipientNotifications(t.Context(), "ada", 0) // misses, and fills
	require.NoError(t, err)
	require.Equal(t, w.want(t, "ada"), list.Notifications)
	got, err := v.RecipientNotifications(t.Context(), "ada")
	require.NoError(t, err)
	require.Equal(t, w.want(t, "ada"), got)
}

func TestRecipient_AFillIsRefusedOnceAnotherReaderWasToldSomethingElse(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	v, _ := open(t, views.Config{})
	w := newDesk(t, v)
	w.live(t, rng, "ada", 1)
	_, err := v.RecipientNotifications(t.Context(), "ada")
	drawn, before := app.TicketOf(err), w.want(t, "ada")
	require.NotEmpty(t, drawn)
	for range 2 { // two readers who were told the same do not matter, and then one who was told more
		require.NoError(t, v.FillRecipientNotifications(t.Context(), "ada", "", before))
	}
	w.live(t, rng, "ada", 1)
	require.NoError(t, v.FillRecipientNotifications(t.Context(), "ada", "", w.want(t, "ada")))
	require.NoError(t, v.FillRecipientNotifications(t.Context(), "ada", drawn, before))
	_, err = v.RecipientNotifications(t.Context(), "ada")
	require.ErrorIs(t, err, app.ErrViewMiss)
	require.NotEmpty(t, app.TicketOf(err))

	require.NoError(t, v.FillRecipientNotifications(t.Context(), "ada", app.TicketOf(err), w.want(t, "ada")))
	got, err := v.RecipientNotifications(t.Context(), "ada")
	require.NoError(t, err)
	require.Equal(t, w.want(t, "ada"), got)
}
