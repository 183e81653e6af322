package app

import (
	"context"
	"errors"
	"time"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// UnitOfWork makes the writes of one use case happen together or not at all.
// Package apptest has the suite that every implementation passes.
type UnitOfWork interface {
	// Do runs fn in a transaction: committed with all its events if fn returns
	// nil, rolled back without a trace if it returns an error or panics. fn may
	// run again after a rollback, so it keeps its results to itself until it
	// ends, and does nothing but storage through tx.
	//
	// Do within fn, on the context that fn was given, joins: the inner fn is part
	// of the outer transaction, and if it fails the outer one cannot commit.
	Do(ctx context.Context, fn func(ctx context.Context, tx Tx) error) error
}

// Tx is the storage inside one unit of work. It is for one goroutine and ends
// with the closure that was given it.
type Tx interface {
	Notifications() Notifications
	Accounts() Accounts
	Sessions() Sessions
	Claims() Claims
	// Record adds events to the transaction. They are published, in this order,
	// if and only if it commits.
	Record(ctx context.Context, events ...domain.Recorded) error
}

// Notifications stores notifications. It settles what it stores: version and
// times are then those of the stored row.
type Notifications interface {
	// Add stores a new notification; domain.ErrDuplicate if its id is taken.
	Add(ctx context.Context, n *notification.Notification) error
	// Get returns a notification or domain.ErrNotFound.
	Get(ctx context.Context, id notification.ID) (*notification.Notification, error)
	// Save stores the pending acts of a notification that Get returned. It is
	// domain.ErrVersionConflict if someone else stored one since, and
	// domain.ErrNotFound if it is not stored at all.
	Save(ctx context.Context, n *notification.Notification) error
}

// Reader answers questions from the database, outside of any unit of work.
type Reader interface {
	// NotificationStatus returns the latest committed status or domain.ErrNotFound.
	NotificationStatus(ctx context.Context, id notification.ID) (NotificationStatus, error)
	// RecipientNotifications returns the committed statuses of the newest
	// notifications of a recipient, at most limit, newest first: by the time of the
	// request, then by id.
	RecipientNotifications(ctx context.Context, recipient string, limit int) ([]NotificationStatus, error)
}

// ErrViewMiss is what errors.Is finds in every ViewMissError.
var ErrViewMiss = errors.New("not in the view")

// ViewMissError means that the view does not have a list in full: ask the database,
// and offer the view what it says.
type ViewMissError struct {
	// Ticket is for filling the view. It was drawn before the database is asked, and
	// is good for one filling, unless an event was written meanwhile, or another
	// reader was answered with something else: what the database said may then be
	// older. It is empty if another reader is filling.
	Ticket string
}

func (e *ViewMissError) Error() string { return ErrViewMiss.Error() }

// Unwrap makes errors.Is(err, ErrViewMiss) hold.
func (e *ViewMissError) Unwrap() error { return ErrViewMiss }

// TicketOf returns the ticket of a miss, or "".
func TicketOf(err error) string {
	if miss, ok := errors.AsType[*ViewMissError](err); ok {
		return miss.Ticket
	}
	return ""
}

// Views answers from memory. It may be a moment behind, but never goes backwards.
type Views interface {
	// NotificationStatus returns the status of a notification: from memory, or from
	// the database when memory has none or cannot be reached. It is
	// domain.ErrNotFound if there is no such notification, and ErrOverloaded if the
	// database cannot answer in time.
	NotificationStatus(ctx context.Context, id notification.ID) (NotificationStatus, error)
	// RecipientNotifications returns the newest notifications of a recipient, at
	// most RecipientWindow, newest first; a *ViewMissError if it does not have all
	// of them.
	RecipientNotifications(ctx context.Context, recipient string) ([]NotificationStatus, error)
	// FillRecipientNotifications offers what the database said after the miss: the
	// RecipientWindow newest. It is called before the list is returned to anyone, also
	// without a ticket. With a good one it makes the list. Without, it only replaces
	// older entries, and prevents that another reader makes a list of something else
	// that was read before. Entries of the same or a later version stay.
	FillRecipientNotifications(ctx context.Context, recipient, ticket string, list []NotificationStatus) error
	// DeliveryCounters returns what became of the notifications requested on a day
	// of the UTC calendar. Days without any are zero.
	DeliveryCounters(ctx context.Context, day time.Time) (DeliveryCounters, error)
}

// RecipientWindow is how many notifications of a recipient the views keep.
const RecipientWindow = 100

// DeliveryCounters counts the notifications that were requested on one day, by
// channel.
type DeliveryCounters map[notification.Channel]DeliveryCount

// DeliveryCount tells how far the notifications of a channel have come.
type DeliveryCount struct {
	Requested int64
	Sent      int64
	Failed    int64 // failed attempts
	Abandoned int64
	Read      int64
}

// CountOf is what one notification adds to the counters of its day and channel.
func CountOf(s NotificationStatus) DeliveryCount {
	c := DeliveryCount{Requested: 1, Failed: int64(s.Attempts)}
	switch s.Status {
	case notification.StatusSent:
		c.Sent, c.Failed = 1, c.Failed-1
	case notification.StatusAbandoned:
		c.Abandoned = 1
	}
	if !s.ReadAt.IsZero() {
		c.Read = 1
	}
	return c
}
