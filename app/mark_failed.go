package app

import (
	"context"
	"fmt"

	"github.com/millrace-go/millrace/domain/notification"
)

// MarkFailed notes an attempt that ended badly, and why. Errors are those of
// MarkSent, and a *domain.ValidationError for a blank reason.
func (a *App) MarkFailed(ctx context.Context, id, reason string) error {
	err := a.change(ctx, id, func(n *notification.Notification) error { return n.MarkFailed(reason, a.cfg.Now()) })
	if err != nil {
		return fmt.Errorf("mark notification failed: %w", err)
	}
	return nil
}
