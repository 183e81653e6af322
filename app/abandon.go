package app

import (
	"context"
	"fmt"

	"github.com/millrace-go/millrace/domain/notification"
)

// AbandonNotification gives a notification up, and says why. Errors are those of
// MarkFailed.
func (a *App) AbandonNotification(ctx context.Context, id, reason string) error {
	err := a.change(ctx, id, func(n *notification.Notification) error { return n.Abandon(reason, a.cfg.Now()) })
	if err != nil {
		return fmt.Errorf("abandon notification: %w", err)
	}
	return nil
}
