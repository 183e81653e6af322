package apptest

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// Views is a view in memory. The zero value is empty and ready to use.
type Views struct {
	mu      sync.Mutex
	entries map[notification.ID]app.NotificationStatus
	lists   map[string][]app.NotificationStatus
	days    map[string]app.DeliveryCounters
	tickets map[string]string // what each is for
	drawn   int
	// Reader is the database that answers when there is no entry.
	Reader app.Reader
	// Err, if set, is what every call about lists and counters answers: memory cannot
	// be reached.
	Err error
}

var _ app.Views = (*Views)(nil)

// NotificationStatus implements app.Views.
func (v *Views) NotificationStatus(ctx context.Context, id notification.ID) (app.NotificationStatus, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s, ok := v.entries[id]
	if ok && v.Err == nil {
		return s, nil
	}
	if v.Reader == nil {
		return app.NotificationStatus{}, domain.ErrNotFound
	}
	s, err := v.Reader.NotificationStatus(ctx, id)
	if err == nil && v.Err == nil {
		v.put(s)
	}
	return s, err
}

// Put makes s the entry of its notification, unless a later one is there.
func (v *Views) Put(s app.NotificationStatus) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.put(s)
}

func (v *Views) put(s app.NotificationStatus) {
	if v.entries == nil {
		v.entries = map[notification.ID]app.NotificationStatus{}
	}
	if v.entries[s.ID].Version < s.Version {
		v.entries[s.ID] = s
	}
}

// RecipientNotifications implements app.Views.
func (v *Views) RecipientNotifications(_ context.Context, recipient string) ([]app.NotificationStatus, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.Err != nil {
		return nil, v.Err
	}
	list, ok := v.lists[recipient]
	if !ok {
		return nil, v.miss("recipient " + recipient)
	}
	return slices.Clone(list), nil
}

// FillRecipientNotifications implements app.Views.
func (v *Views) FillRecipientNotifications(_ context.Context, recipient, ticket string, list []app.NotificationStatus) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.Err != nil {
		return v.Err
	}
	if !v.redeem(ticket, "recipient "+recipient) {
		return nil
	}
	if v.lists == nil {
		v.lists = map[string][]app.NotificationStatus{}
	}
	sortNewest(list)
	v.lists[recipient] = slices.Clone(list)
	return nil
}

// DeliveryCounters implements app.Views.
func (v *Views) DeliveryCounters(_ context.Context, day time.Time) (app.DeliveryCounters, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.days[day.UTC().Format(time.DateOnly)], v.Err
}

// Count sets the counters of a day.
func (v *Views) Count(day time.Time, c app.DeliveryCounters) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.days == nil {
		v.days = map[string]app.DeliveryCounters{}
	}
	v.days[day.UTC().Format(time.DateOnly)] = c
}

// redeem uses the ticket up, if it is good for that.
func (v *Views) redeem(ticket, of string) bool {
	if v.tickets[ticket] != of {
		return false
	}
	delete(v.tickets, ticket)
	return true
}

// miss draws a ticket. The caller holds mu.
func (v *Views) miss(of string) error {
	if v.tickets == nil {
		v.tickets = map[string]string{}
	}
	v.drawn++
	ticket := strconv.Itoa(v.drawn)
	v.tickets[ticket] = of
	return &app.ViewMissError{Ticket: ticket}
}

// sortNewest puts the newest request first.
func sortNewest(list []app.NotificationStatus) {
	slices.SortFunc(list, func(a, b app.NotificationStatus) int {
		return cmp.Or(b.RequestedAt.Compare(a.RequestedAt), cmp.Compare(b.ID, a.ID))
	})
}
