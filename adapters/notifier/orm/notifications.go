package orm

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// notificationRow is the table notification.
type notificationRow struct {
	bun.BaseModel `bun:"table:notification,alias:notification"`

	ID          notification.ID      `bun:"id,pk,type:uuid"`
	Recipient   string               `bun:"recipient"`
	Channel     notification.Channel `bun:"channel"`
	Subject     string               `bun:"subject"`
	Body        string               `bun:"body"`
	Status      notification.Status  `bun:"status"`
	Attempts    int                  `bun:"attempts"`
	Reason      string               `bun:"reason"`
	RequestedAt time.Time            `bun:"requested_at"`
	ChangedAt   time.Time            `bun:"changed_at"`
	ReadAt      time.Time            `bun:"read_at,nullzero"`
	entity
}

func notificationRowOf(s notification.State) *notificationRow {
	return &notificationRow{
		ID: s.ID, Recipient: s.Recipient, Channel: s.Channel, Subject: s.Subject, Body: s.Body, Status: s.Status,
		Attempts: s.Attempts, Reason: s.Reason, RequestedAt: s.RequestedAt, ChangedAt: s.ChangedAt, ReadAt: s.ReadAt,
	}
}

func (r *notificationRow) state() notification.State {
	s := notification.State{
		Entity:  domainEntity(r.ID, r.entity),
		Content: notification.Content{Recipient: r.Recipient, Channel: r.Channel, Subject: r.Subject, Body: r.Body},
		Status:  r.Status, Attempts: r.Attempts, Reason: r.Reason,
		RequestedAt: domain.Time(r.RequestedAt), ChangedAt: domain.Time(r.ChangedAt),
	}
	if !r.ReadAt.IsZero() {
		s.ReadAt = domain.Time(r.ReadAt)
	}
	return s
}

// notificationColumns are those that acts change.
var notificationColumns = []string{"status", "attempts", "reason", "changed_at", "read_at"}

// Notifications is the repository of one transaction.
type Notifications struct{ session }

// Add implements app.Notifications.
func (r *Notifications) Add(ctx context.Context, n *notification.Notification) error {
	if err := r.insert(ctx, notificationRowOf(n.State()), n.ID(), n, notificationColumns...); err != nil {
		return fmt.Errorf("add notification %s: %w", n.ID(), err)
	}
	return nil
}

// Get implements app.Notifications.
func (r *Notifications) Get(ctx context.Context, id notification.ID) (*notification.Notification, error) {
	var row notificationRow
	if err := r.get(ctx, &row, id, ""); err != nil {
		return nil, fmt.Errorf("get notification %s: %w", id, err)
	}
	return notification.FromState(row.state()), nil
}

// Save implements app.Notifications.
func (r *Notifications) Save(ctx context.Context, n *notification.Notification) error {
	if len(n.Pending()) == 0 {
		return nil
	}
	if err := r.update(ctx, notificationRowOf(n.State()), n.ID(), n, notificationColumns...); err != nil {
		return fmt.Errorf("save notification %s: %w", n.ID(), err)
	}
	return nil
}
