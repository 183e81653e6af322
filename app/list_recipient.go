package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// DefaultRecipientList is how many notifications a list has if nobody says.
const DefaultRecipientList = 20

// RecipientList is the newest notifications of a recipient.
type RecipientList struct {
	// Notifications has the newest first, at most as many as were asked for.
	Notifications []NotificationStatus
	// Unread counts the notifications that were sent and not read, among the
	// RecipientWindow newest.
	Unread int
}

// ListRecipientNotifications answers from the view, and from the database when
// the view has no entry or cannot be reached; the view is then offered the answer.
// A limit of 0 is DefaultRecipientList. A recipient nobody wrote to has an empty
// list. A query of the wrong form is a *domain.ValidationError.
func (a *App) ListRecipientNotifications(ctx context.Context, recipient string, limit int) (RecipientList, error) {
	if limit == 0 {
		limit = DefaultRecipientList
	}
	var v domain.Validation
	text := strings.TrimSpace(recipient) != "" && len(recipient) <= notification.MaxRecipient && utf8.ValidString(recipient) && !strings.ContainsRune(recipient, 0)
	v.Check(text, "recipient", fmt.Sprintf("must be 1 to %d bytes of UTF-8 text that is not blank and has no NUL", notification.MaxRecipient))
	v.Check(limit >= 1 && limit <= RecipientWindow, "limit", fmt.Sprintf("must be 1 to %d", RecipientWindow))
	if err := v.Err(); err != nil {
		return RecipientList{}, fmt.Errorf("list notifications: %w", err)
	}
	all, err := a.recipientWindow(ctx, recipient)
	if err != nil {
		return RecipientList{}, fmt.Errorf("list notifications: %w", err)
	}
	list := RecipientList{Notifications: all[:min(limit, len(all))]}
	for _, s := range all {
		if s.Status == notification.StatusSent && s.ReadAt.IsZero() {
			list.Unread++
		}
	}
	return list, nil
}

func (a *App) recipientWindow(ctx context.Context, recipient string) ([]NotificationStatus, error) {
	list, err := a.views.RecipientNotifications(ctx, recipient)
	if err == nil {
		return list, nil
	}
	missed := err
	if !errors.Is(missed, ErrViewMiss) {
		a.cfg.ViewFailed(ctx, missed)
	}
	if list, err = a.reader.RecipientNotifications(ctx, recipient, RecipientWindow); err != nil {
		return nil, err
	}
	if errors.Is(missed, ErrViewMiss) {
		if err := a.views.FillRecipientNotifications(ctx, recipient, TicketOf(missed), list); err != nil {
			a.cfg.ViewFailed(ctx, err)
		}
	}
	return list, nil
}
