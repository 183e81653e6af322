package app

import (
	"context"
	"fmt"

	"github.com/millrace-go/millrace/domain/notification"
)

// MarkRead notes that the recipient has read a notification. Reading it again
// changes nothing. It is domain.ErrNotFound, domain.ErrIllegalAct unless it was
// sent, or domain.ErrVersionConflict if someone else was faster.
func (a *App) MarkRead(ctx context.Context, id string) error {
	err := a.change(ctx, id, func(n *notification.Notification) error { return n.MarkRead(a.cfg.Now()) })
	if err != nil {
		return fmt.Errorf("mark notification read: %w", err)
	}
	return nil
}
