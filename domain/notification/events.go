package notification

import (
	"fmt"
	"time"

	"github.com/millrace-go/millrace/domain"
)

// About is in every event of a notification. With it an event tells the whole
// status of its notification, so that a projection never has to look anything up
// and never has to see the events before it: the event with the highest version
// is the whole truth.
type About struct {
	Recipient   string
	Channel     Channel
	Subject     string
	RequestedAt time.Time
}

// Requested is the first event of every notification.
type Requested struct {
	About
	Body string
}

// Sent means that the gateway took the notification.
type Sent struct {
	About
	At       time.Time
	Attempts int // this one included
}

// Failed means that an attempt to send ended badly.
type Failed struct {
	About
	At       time.Time
	Attempts int // this one included
	Reason   string
}

// Abandoned means that nobody will try again.
type Abandoned struct {
	About
	At       time.Time
	Attempts int // so far
	Reason   string
}

// Read means that the recipient has read the notification, which was sent before.
type Read struct {
	About
	At       time.Time
	Attempts int // it took to send it
}

// EventName returns "Requested".
func (Requested) EventName() string { return "Requested" }

// EventName returns "Sent".
func (Sent) EventName() string { return "Sent" }

// EventName returns "Failed".
func (Failed) EventName() string { return "Failed" }

// EventName returns "Abandoned".
func (Abandoned) EventName() string { return "Abandoned" }

// EventName returns "Read".
func (Read) EventName() string { return "Read" }

// OccurredAt is the time of the request.
func (e Requested) OccurredAt() time.Time { return e.RequestedAt }

// OccurredAt is when the gateway's answer was known.
func (e Sent) OccurredAt() time.Time { return e.At }

// OccurredAt is when the failure was known.
func (e Failed) OccurredAt() time.Time { return e.At }

// OccurredAt is when it was given up.
func (e Abandoned) OccurredAt() time.Time { return e.At }

// OccurredAt is when it was read.
func (e Read) OccurredAt() time.Time { return e.At }

// FromHistory folds events, oldest first, into the notification they tell of.
// It refuses an empty history, one that does not begin with Requested, and
// events of another aggregate.
func FromHistory(id ID, events []domain.Event) (*Notification, error) {
	n := &Notification{state: State{Entity: domain.Entity[ID]{ID: id}}}
	for i, e := range events {
		if _, first := e.(Requested); first != (i == 0) {
			return nil, fmt.Errorf("history of notification %s: event %d is %s", id, i+1, e.EventName())
		}
		switch e.(type) {
		case Requested, Sent, Failed, Abandoned, Read:
			n.root.Replay(e, n.apply)
		default:
			return nil, fmt.Errorf("history of notification %s: event %d is a %T", id, i+1, e)
		}
	}
	if len(events) == 0 {
		return nil, fmt.Errorf("history of notification %s: %w", id, domain.ErrNotFound)
	}
	return n, nil
}
