package app

import (
	"context"
	"fmt"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// GetNotification answers from the view. An id that cannot be one is
// domain.ErrNotFound, like one that nothing has. ErrOverloaded means that neither
// Redis nor the database can answer now.
func (a *App) GetNotification(ctx context.Context, id string) (NotificationStatus, error) {
	parsed, err := notification.ParseID(id)
	if err != nil {
		return NotificationStatus{}, fmt.Errorf("get notification: %w", domain.ErrNotFound)
	}
	s, err := a.views.NotificationStatus(ctx, parsed)
	if err != nil {
		return NotificationStatus{}, fmt.Errorf("get notification: %w", err)
	}
	return s, nil
}
