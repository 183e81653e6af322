package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// GetNotification answers from the view, and from the database when the view has
// no entry or cannot be reached; the view is then offered the answer. An id that
// cannot be one is domain.ErrNotFound, like one that nothing has.
func (a *App) GetNotification(ctx context.Context, id string) (NotificationStatus, error) {
	parsed, err := notification.ParseID(id)
	if err != nil {
		return NotificationStatus{}, fmt.Errorf("get notification: %w", domain.ErrNotFound)
	}
	s, err := a.views.NotificationStatus(ctx, parsed)
	if err == nil {
		return s, nil
	}
	if errors.Is(err, domain.ErrNotFound) {
		return NotificationStatus{}, fmt.Errorf("get notification: %w", err)
	}
	missed := err
	if !errors.Is(missed, ErrViewMiss) {
		a.cfg.ViewFailed(ctx, missed)
	}
	if s, err = a.reader.NotificationStatus(ctx, parsed); err != nil {
		return NotificationStatus{}, fmt.Errorf("get notification: %w", err)
	}
	if errors.Is(missed, ErrViewMiss) {
		if err := a.views.FillNotificationStatus(ctx, TicketOf(missed), s); err != nil {
			a.cfg.ViewFailed(ctx, err)
		}
	}
	return s, nil
}
