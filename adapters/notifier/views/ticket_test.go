package views_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/views"
	"github.com/millrace-go/millrace/app"
)

// One reader holds the ticket and has read the first version; another one, without
// a ticket, read the second and answered with it. It must not see the first next.
func TestFill_IsRefusedOnceAnotherReaderWasToldSomethingNewer(t *testing.T) {
	t.Parallel()
	v, _ := open(t, views.Config{})
	id, events := history(t, 2, time.Now())
	drawn := ticket(t, v, id)
	require.Empty(t, ticket(t, v, id))
	require.NoError(t, v.FillNotificationStatus(t.Context(), "", status(t, events[1])))
	_, err := v.NotificationStatus(t.Context(), id)
	require.ErrorIs(t, err, app.ErrViewMiss, "without a ticket nothing is made")
	require.NoError(t, v.FillNotificationStatus(t.Context(), drawn, status(t, events[0])))
	require.NotEmpty(t, ticket(t, v, id), "nobody filled, and who comes next may")
}

// Readers who were told the same do not stand in each other's way, however many.
func TestFill_IsNotHeldUpByReadersWhoWereToldTheSame(t *testing.T) {
	t.Parallel()
	v, _ := open(t, views.Config{})
	id, events := history(t, 1, time.Now())
	drawn, want := ticket(t, v, id), status(t, events[0])
	for range 3 {
		require.Empty(t, ticket(t, v, id))
		require.NoError(t, v.FillNotificationStatus(t.Context(), "", want))
	}
	require.NoError(t, v.FillNotificationStatus(t.Context(), drawn, want))
	got, err := v.NotificationStatus(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// The event of an older version was written between the miss and the answer.
func TestFill_WithoutAGoodTicketStillReplacesWhatIsOlder(t *testing.T) {
	t.Parallel()
	v, _ := open(t, views.Config{})
	id, events := history(t, 2, time.Now())
	drawn := ticket(t, v, id)
	_, err := v.Apply(t.Context(), events[0])
	require.NoError(t, err)
	require.NoError(t, v.FillNotificationStatus(t.Context(), drawn, status(t, events[1])))
	got, err := v.NotificationStatus(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, status(t, events[1]), got)
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
