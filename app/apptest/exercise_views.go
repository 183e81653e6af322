package apptest

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain/notification"
)

// ExerciseViews runs the contract of app.Views as far as readers see it. open
// returns empty views; each test gets its own.
func ExerciseViews(t *testing.T, open func(t *testing.T) app.Views) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, app.Views){
		"Status_IsWhatWasFilled":             viewsFillStatus,
		"Status_IsFilledWithAGoodTicketOnly": viewsStatusTicket,
		"Recipient_ListsTheNewestFirst":      viewsFillList,
		"Recipient_IsFilledWithAGoodTicket":  viewsListTicket,
		"Recipient_AnEmptyListIsAnAnswer":    viewsEmptyList,
		"Counters_OfADayWithoutAnyAreNone":   viewsNoCounters,
		"Tickets_OfOneDoNotFillAnother":      viewsOtherTicket,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

func statusAt(i int) app.NotificationStatus {
	at := time.Now().UTC().Truncate(time.Second).Add(time.Duration(i) * time.Second)
	return app.NotificationStatus{
		ID: notification.ID(app.NewID()), Version: 3, Recipient: "ada ✓", Channel: notification.Push, Subject: fmt.Sprintf(`"%d" \`, i),
		Status: notification.StatusSent, Attempts: 2, RequestedAt: at, ChangedAt: at, ReadAt: at,
	}
}

// missed demands a miss and returns its ticket.
func missed(t *testing.T, err error) string {
	t.Helper()
	require.ErrorIs(t, err, app.ErrViewMiss)
	require.NotEmpty(t, app.TicketOf(err))
	return app.TicketOf(err)
}

func viewsFillStatus(t *testing.T, v app.Views) {
	want := statusAt(0)
	_, err := v.NotificationStatus(t.Context(), want.ID)
	require.NoError(t, v.FillNotificationStatus(t.Context(), missed(t, err), want))
	got, err := v.NotificationStatus(t.Context(), want.ID)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func viewsStatusTicket(t *testing.T, v app.Views) {
	want := statusAt(0)
	require.NoError(t, v.FillNotificationStatus(t.Context(), "forged", want))
	_, err := v.NotificationStatus(t.Context(), want.ID)
	ticket := missed(t, err)
	require.NoError(t, v.FillNotificationStatus(t.Context(), ticket, want))
	later := want
	later.Version++
	require.NoError(t, v.FillNotificationStatus(t.Context(), ticket, later))
	got, err := v.NotificationStatus(t.Context(), want.ID)
	require.NoError(t, err)
	require.Equal(t, later, got, "what was read later replaces what is there, whoever read it")
	require.NoError(t, v.FillNotificationStatus(t.Context(), "forged", want))
	got, err = v.NotificationStatus(t.Context(), want.ID)
	require.NoError(t, err)
	require.Equal(t, later, got)
}

func viewsFillList(t *testing.T, v app.Views) {
	var filled []app.NotificationStatus
	for _, i := range []int{2, 0, 1} {
		filled = append(filled, statusAt(i))
	}
	_, err := v.RecipientNotifications(t.Context(), "ada ✓")
	require.NoError(t, v.FillRecipientNotifications(t.Context(), "ada ✓", missed(t, err), filled))
	got, err := v.RecipientNotifications(t.Context(), "ada ✓")
	require.NoError(t, err)
	sortNewest(filled)
	require.Equal(t, filled, got)
	_, err = v.RecipientNotifications(t.Context(), "ada")
	missed(t, err)
}

func viewsListTicket(t *testing.T, v app.Views) {
	require.NoError(t, v.FillRecipientNotifications(t.Context(), "ada", "forged", []app.NotificationStatus{statusAt(0)}))
	_, err := v.RecipientNotifications(t.Context(), "ada")
	missed(t, err)
}

func viewsEmptyList(t *testing.T, v app.Views) {
	_, err := v.RecipientNotifications(t.Context(), "nobody")
	require.NoError(t, v.FillRecipientNotifications(t.Context(), "nobody", missed(t, err), nil))
	got, err := v.RecipientNotifications(t.Context(), "nobody")
	require.NoError(t, err)
	require.Empty(t, got)
}

func viewsNoCounters(t *testing.T, v app.Views) {
	got, err := v.DeliveryCounters(t.Context(), time.Now())
	require.NoError(t, err)
	require.Empty(t, got)
}

func viewsOtherTicket(t *testing.T, v app.Views) {
	first, second := statusAt(0), statusAt(1)
	_, err := v.NotificationStatus(t.Context(), first.ID)
	ticket := missed(t, err)
	require.NoError(t, v.FillNotificationStatus(t.Context(), ticket, second))
	_, err = v.NotificationStatus(t.Context(), second.ID)
	require.ErrorIs(t, err, app.ErrViewMiss)
}
