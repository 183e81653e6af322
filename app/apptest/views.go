package apptest

import (
	"context"
	"sync"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain/notification"
)

// Views is a view in memory. The zero value is empty and ready to use.
type Views struct {
	mu      sync.Mutex
	entries map[notification.ID]app.NotificationStatus
	// Err, if set, is what every call answers: the view cannot be reached.
	Err error
}

var _ app.Views = (*Views)(nil)

// NotificationStatus implements app.Views.
func (v *Views) NotificationStatus(_ context.Context, id notification.ID) (app.NotificationStatus, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s, ok := v.entries[id]
	if v.Err != nil {
		return app.NotificationStatus{}, v.Err
	}
	if !ok {
		return app.NotificationStatus{}, app.ErrViewMiss
	}
	return s, nil
}

// FillNotificationStatus implements app.Views.
func (v *Views) FillNotificationStatus(_ context.Context, s app.NotificationStatus) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.Err != nil {
		return v.Err
	}
	if v.entries == nil {
		v.entries = map[notification.ID]app.NotificationStatus{}
	}
	if v.entries[s.ID].Version < s.Version {
		v.entries[s.ID] = s
	}
	return nil
}
