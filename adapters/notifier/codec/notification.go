package codec

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// Wire names of the events of a notification.
const (
	NotificationRequested = "notification.requested"
	NotificationSent      = "notification.sent"
	NotificationFailed    = "notification.failed"
	NotificationAbandoned = "notification.abandoned"
	NotificationRead      = "notification.read"
)

// about is in every payload, so that each event tells the whole status.
type about struct {
	NotificationID string    `json:"notification_id"`
	Recipient      string    `json:"recipient"`
	Channel        string    `json:"channel"`
	Subject        string    `json:"subject"`
	RequestedAt    time.Time `json:"requested_at"`
}

// requestedV1 to readV1 are frozen: see the package comment.
type requestedV1 struct {
	about
	Body string `json:"body"`
}

type sentV1 struct {
	about
	Attempts int `json:"attempts"`
}

type failedV1 struct {
	about
	Attempts int    `json:"attempts"`
	Reason   string `json:"reason"`
}

type abandonedV1 struct {
	about
	Attempts int    `json:"attempts"`
	Reason   string `json:"reason"`
}

type readV1 struct {
	about
	Attempts int `json:"attempts"`
}

func notificationEvents() registry {
	r := registry{byName: map[string]*schema{}, byType: map[reflect.Type]*schema{}}
	register(r, schema{name: NotificationRequested, topic: TopicNotification, version: 1}, form[notification.Requested, requestedV1]{
		key: func(_ domain.Recorded, e notification.Requested) string { return e.Recipient },
		to: func(rec domain.Recorded, e notification.Requested) requestedV1 {
			return requestedV1{aboutOf(rec, e.About), e.Body}
		},
		from: func(_ domain.Recorded, p requestedV1) notification.Requested {
			return notification.Requested{About: p.about.domain(), Body: p.Body}
		},
		check: func(rec domain.Recorded, p requestedV1) error { return p.about.check(rec) },
	})
	register(r, schema{name: NotificationSent, topic: TopicNotification, version: 1}, form[notification.Sent, sentV1]{
		key: func(_ domain.Recorded, e notification.Sent) string { return e.Recipient },
		to: func(rec domain.Recorded, e notification.Sent) sentV1 {
			return sentV1{aboutOf(rec, e.About), e.Attempts}
		},
		from: func(rec domain.Recorded, p sentV1) notification.Sent {
			return notification.Sent{About: p.about.domain(), At: rec.OccurredAt, Attempts: p.Attempts}
		},
		check: func(rec domain.Recorded, p sentV1) error { return p.about.check(rec) },
	})
	register(r, schema{name: NotificationFailed, topic: TopicNotification, version: 1}, form[notification.Failed, failedV1]{
		key: func(_ domain.Recorded, e notification.Failed) string { return e.Recipient },
		to: func(rec domain.Recorded, e notification.Failed) failedV1 {
			return failedV1{aboutOf(rec, e.About), e.Attempts, e.Reason}
		},
		from: func(rec domain.Recorded, p failedV1) notification.Failed {
			return notification.Failed{About: p.about.domain(), At: rec.OccurredAt, Attempts: p.Attempts, Reason: p.Reason}
		},
		check: func(rec domain.Recorded, p failedV1) error { return p.about.check(rec) },
	})
	register(r, schema{name: NotificationAbandoned, topic: TopicNotification, version: 1}, form[notification.Abandoned, abandonedV1]{
		key: func(_ domain.Recorded, e notification.Abandoned) string { return e.Recipient },
		to: func(rec domain.Recorded, e notification.Abandoned) abandonedV1 {
			return abandonedV1{aboutOf(rec, e.About), e.Attempts, e.Reason}
		},
		from: func(rec domain.Recorded, p abandonedV1) notification.Abandoned {
			return notification.Abandoned{About: p.about.domain(), At: rec.OccurredAt, Attempts: p.Attempts, Reason: p.Reason}
		},
		check: func(rec domain.Recorded, p abandonedV1) error { return p.about.check(rec) },
	})
	register(r, schema{name: NotificationRead, topic: TopicNotification, version: 1}, form[notification.Read, readV1]{
		key: func(_ domain.Recorded, e notification.Read) string { return e.Recipient },
		to: func(rec domain.Recorded, e notification.Read) readV1 {
			return readV1{aboutOf(rec, e.About), e.Attempts}
		},
		from: func(rec domain.Recorded, p readV1) notification.Read {
			return notification.Read{About: p.about.domain(), At: rec.OccurredAt, Attempts: p.Attempts}
		},
		check: func(rec domain.Recorded, p readV1) error { return p.about.check(rec) },
	})
	return r
}

func aboutOf(rec domain.Recorded, a notification.About) about {
	return about{rec.AggregateID, a.Recipient, string(a.Channel), a.Subject, a.RequestedAt}
}

func (a about) domain() notification.About {
	return notification.About{
		Recipient: a.Recipient, Channel: notification.Channel(a.Channel), Subject: a.Subject, RequestedAt: domain.Time(a.RequestedAt),
	}
}

// check refuses payloads that lack what every event has, and those that speak of
// another notification than their envelope.
func (a about) check(rec domain.Recorded) error {
	var errs []error
	if a.NotificationID != rec.AggregateID {
		errs = append(errs, fmt.Errorf("notification_id: is %q, the record says %q", a.NotificationID, rec.AggregateID))
	}
	for _, f := range []struct{ field, value string }{{"recipient", a.Recipient}, {"channel", a.Channel}, {"subject", a.Subject}} {
		if f.value == "" {
			errs = append(errs, errors.New(f.field+": is missing"))
		}
	}
	if a.RequestedAt.IsZero() {
		errs = append(errs, errors.New("requested_at: is missing"))
	}
	return errors.Join(errs...)
}
