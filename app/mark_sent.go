package app

import (
	"context"
	"fmt"

	"github.com/millrace-go/millrace/domain/notification"
)

// MarkSent notes that the gateway took the notification. It is
// domain.ErrNotFound, domain.ErrIllegalAct once sent or abandoned, or
// domain.ErrVersionConflict if someone else was faster.
func (a *App) MarkSent(ctx context.Context, id string) error {
	err := a.change(ctx, id, func(n *notification.Notification) error { return n.MarkSent(a.cfg.Now()) })
	if err != nil {
		return fmt.Errorf("mark notification sent: %w", err)
	}
	return nil
}
