package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// ErrKeyReused means that the idempotency key was used before, for something else.
var ErrKeyReused = errors.New("idempotency key was used for a different request")

// RequestNotification asks for a notification to be sent.
type RequestNotification struct {
	notification.Content
	// IdempotencyKey, if not empty, makes repeating the request harmless.
	IdempotencyKey string
}

// Requested is the answer to RequestNotification.
type Requested struct {
	ID notification.ID
	// Repeated reports that the same request had been made before, with the same
	// idempotency key; nothing was written this time.
	Repeated bool
}

// RequestNotification stores a new notification together with its event. Bad
// content is a *domain.ValidationError; a key that was used for other content is
// ErrKeyReused.
func (a *App) RequestNotification(ctx context.Context, cmd RequestNotification) (Requested, error) {
	id := notification.ID(a.cfg.NewID())
	if cmd.IdempotencyKey != "" {
		id = notification.ID(IDFor(cmd.IdempotencyKey))
	}
	err := a.uow.Do(ctx, func(ctx context.Context, tx Tx) error {
		n, err := notification.Request(id, cmd.Content, a.cfg.Now())
		if err != nil {
			return err
		}
		events := a.keep.envelopes(ctx, n)
		if err := tx.Notifications().Add(ctx, n); err != nil {
			return err
		}
		return tx.Record(ctx, events...)
	})
	if cmd.IdempotencyKey != "" && errors.Is(err, domain.ErrDuplicate) {
		return a.repeated(ctx, id, cmd.Content)
	}
	if err != nil {
		return Requested{}, fmt.Errorf("request notification: %w", err)
	}
	return Requested{ID: id}, nil
}

// repeated answers a request whose key is taken: by the same content, or not.
func (a *App) repeated(ctx context.Context, id notification.ID, c notification.Content) (Requested, error) {
	err := a.uow.Do(ctx, func(ctx context.Context, tx Tx) error {
		n, err := tx.Notifications().Get(ctx, id)
		if err == nil && n.State().Content != c {
			return ErrKeyReused
		}
		return err
	})
	if err != nil {
		return Requested{}, fmt.Errorf("request notification: %w", err)
	}
	return Requested{ID: id, Repeated: true}, nil
}
