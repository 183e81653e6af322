package app

import (
	"time"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// NotificationStatus is what readers see of a notification. It leaves out the
// body, which stays in the database and in the first event.
type NotificationStatus struct {
	ID          notification.ID
	Version     int64
	Recipient   string
	Channel     notification.Channel
	Subject     string
	Status      notification.Status
	Attempts    int
	Reason      string
	RequestedAt time.Time
	ChangedAt   time.Time
	ReadAt      time.Time // zero until the recipient has read it
}

// StatusOf is the status that a stored notification has.
func StatusOf(s notification.State) NotificationStatus {
	return NotificationStatus{
		ID: s.ID, Version: s.Version, Recipient: s.Recipient, Channel: s.Channel, Subject: s.Subject,
		Status: s.Status, Attempts: s.Attempts, Reason: s.Reason, RequestedAt: s.RequestedAt, ChangedAt: s.ChangedAt,
		ReadAt: s.ReadAt,
	}
}

// ProjectStatus is the status of a notification after r. It needs no earlier
// event, because each carries the whole status: anyone who keeps the result with
// the highest version is right, in whatever order and however often events come.
// It returns false for events that do not belong to a notification.
func ProjectStatus(r domain.Recorded) (NotificationStatus, bool) {
	s := NotificationStatus{ID: notification.ID(r.AggregateID), Version: r.AggregateVersion, ChangedAt: r.OccurredAt}
	var about notification.About
	switch e := r.Event.(type) {
	case notification.Requested:
		about, s.Status = e.About, notification.StatusRequested
	case notification.Sent:
		about, s.Status, s.Attempts = e.About, notification.StatusSent, e.Attempts
	case notification.Failed:
		about, s.Status, s.Attempts, s.Reason = e.About, notification.StatusFailed, e.Attempts, e.Reason
	case notification.Abandoned:
		about, s.Status, s.Attempts, s.Reason = e.About, notification.StatusAbandoned, e.Attempts, e.Reason
	case notification.Read:
		about, s.Status, s.Attempts, s.ReadAt = e.About, notification.StatusSent, e.Attempts, e.At
	default:
		return NotificationStatus{}, false
	}
	s.Recipient, s.Channel, s.Subject, s.RequestedAt = about.Recipient, about.Channel, about.Subject, about.RequestedAt
	return s, true
}
