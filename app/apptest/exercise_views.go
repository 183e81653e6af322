package apptest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// ExerciseViews runs the contract of app.Views as far as readers see it. open
// returns empty views of a database; each test gets its own.
func ExerciseViews(t *testing.T, open func(t *testing.T, database app.Reader) app.Views) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, app.Views, *statuses){
		"Status_IsWhatTheDatabaseSays":      viewsStatus,
		"Status_OfNothingIsNotFound":        viewsNoStatus,
		"Recipient_ListsTheNewestFirst":     viewsFillList,
		"Recipient_IsFilledWithAGoodTicket": viewsListTicket,
		"Recipient_AnEmptyListIsAnAnswer":   viewsEmptyList,
		"Counters_OfADayWithoutAnyAreNone":  viewsNoCounters,
		"Tickets_OfOneDoNotFillAnother":     viewsOtherTicket,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := &statuses{}
			test(t, open(t, database), database)
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

// statuses is a database of statuses.
type statuses struct {
	app.Reader
	mu   sync.Mutex
	rows map[notification.ID]app.NotificationStatus
}

func (d *statuses) set(s app.NotificationStatus) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.rows == nil {
		d.rows = map[notification.ID]app.NotificationStatus{}
	}
	d.rows[s.ID] = s
}

// NotificationStatus implements app.Reader.
func (d *statuses) NotificationStatus(_ context.Context, id notification.ID) (app.NotificationStatus, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, ok := d.rows[id]
	if !ok {
		return s, domain.ErrNotFound
	}
	return s, nil
}

func viewsStatus(t *testing.T, v app.Views, database *statuses) {
	want := statusAt(0)
	database.set(want)
	for range 2 {
		got, err := v.NotificationStatus(t.Context(), want.ID)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

// What is not there now may be there a moment later, and is seen then.
func viewsNoStatus(t *testing.T, v app.Views, database *statuses) {
	want := statusAt(0)
	_, err := v.NotificationStatus(t.Context(), want.ID)
	require.ErrorIs(t, err, domain.ErrNotFound)
	database.set(want)
	got, err := v.NotificationStatus(t.Context(), want.ID)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func viewsFillList(t *testing.T, v app.Views, _ *statuses) {
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

func viewsListTicket(t *testing.T, v app.Views, _ *statuses) {
	require.NoError(t, v.FillRecipientNotifications(t.Context(), "ada", "forged", []app.NotificationStatus{statusAt(0)}))
	_, err := v.RecipientNotifications(t.Context(), "ada")
	missed(t, err)
}

func viewsEmptyList(t *testing.T, v app.Views, _ *statuses) {
	_, err := v.RecipientNotifications(t.Context(), "nobody")
	require.NoError(t, v.FillRecipientNotifications(t.Context(), "nobody", missed(t, err), nil))
	got, err := v.RecipientNotifications(t.Context(), "nobody")
	require.NoError(t, err)
	require.Empty(t, got)
}

func viewsNoCounters(t *testing.T, v app.Views, _ *statuses) {
	got, err := v.DeliveryCounters(t.Context(), time.Now())
	require.NoError(t, err)
	require.Empty(t, got)
}

func viewsOtherTicket(t *testing.T, v app.Views, _ *statuses) {
	_, err := v.RecipientNotifications(t.Context(), "ada")
	ticket := missed(t, err)
	require.NoError(t, v.FillRecipientNotifications(t.Context(), "grace", ticket, nil))
	_, err = v.RecipientNotifications(t.Context(), "grace")
	require.ErrorIs(t, err, app.ErrViewMiss)
}
