package app

import (
	"context"
	"errors"

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
}

// ErrViewMiss means that the view has no entry: ask the database.
var ErrViewMiss = errors.New("not in the view")

// Views answers from memory. It may miss or be a moment behind, but never goes
// backwards.
type Views interface {
	// NotificationStatus returns the entry, ErrViewMiss without one, or
	// domain.ErrNotFound if the view knows that there is no such notification.
	NotificationStatus(ctx context.Context, id notification.ID) (NotificationStatus, error)
	// FillNotificationStatus offers what the database said; an entry of the same
	// or a later version stays as it is.
	FillNotificationStatus(ctx context.Context, s NotificationStatus) error
}

// Gateway hands notifications to the service that delivers them.
type Gateway interface {
	// Send delivers d. An error that is ErrRejected is final for this content;
	// after any other the outcome is unknown, and sending again with the same
	// idempotency key delivers at most once.
	Send(ctx context.Context, d Delivery) error
}

// ErrRejected is the gateway's verdict that it will never take a delivery.
var ErrRejected = errors.New("rejected by the gateway")

// Delivery is one attempt to deliver a notification.
type Delivery struct {
	IdempotencyKey string
	NotificationID notification.ID
	notification.Content
}
