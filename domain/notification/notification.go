// Package notification is the aggregate of one message to one recipient: it is
// requested, then sent, or it fails once or more and is sent or abandoned. What was
// sent can be read.
//
// Reference code: no compatibility promise.
package notification

import (
	"time"

	"github.com/millrace-go/millrace/domain"
)

// Aggregate is the type name in envelopes and errors.
const Aggregate = "notification"

// Status says how far a notification has come.
type Status string

// Nothing more is tried for sent and abandoned notifications; a sent one can
// still be read.
const (
	StatusRequested Status = "requested"
	StatusSent      Status = "sent"
	StatusFailed    Status = "failed" // the last attempt failed; another may follow
	StatusAbandoned Status = "abandoned"
)

// Final reports that there will be no further attempt to send.
func (s Status) Final() bool { return s == StatusSent || s == StatusAbandoned }

// Notification is the aggregate. Make one with Request, FromHistory or FromState.
// It is not safe for concurrent use.
type Notification struct {
	root  domain.AggregateRoot
	state State
}

// State is everything a notification is, for storage and for reading.
type State struct {
	domain.Entity[ID]
	Content
	Status Status
	// Attempts counts the tries to send that ended, well or not.
	Attempts int
	// Reason is why the last attempt failed or why it was abandoned; empty once sent.
	Reason string
	// RequestedAt and ChangedAt are when the first and the latest event occurred.
	RequestedAt time.Time
	ChangedAt   time.Time
	// ReadAt is when the recipient read it; zero before.
	ReadAt time.Time
}

// Request makes a new notification. It refuses bad content with a
// *domain.ValidationError that names every wrong field.
func Request(id ID, c Content, now time.Time) (*Notification, error) {
	if err := validateRequest(id, c); err != nil {
		return nil, err
	}
	n := &Notification{state: State{Entity: domain.Entity[ID]{ID: id}}}
	at := domain.Time(now)
	n.raise(Requested{About: About{c.Recipient, c.Channel, c.Subject, at}, Body: c.Body})
	return n, nil
}

// FromState brings back a stored notification. The state is trusted.
func FromState(s State) *Notification {
	return &Notification{root: domain.RootAt(s.Version), state: s}
}

// State returns the present state. Its version counts the pending events too.
func (n *Notification) State() State {
	s := n.state
	s.Version = n.root.Version()
	return s
}

// ID returns the identity.
func (n *Notification) ID() ID { return n.state.ID }

// Status returns how far it has come.
func (n *Notification) Status() Status { return n.state.Status }

// Version is the number of events so far, pending ones included.
func (n *Notification) Version() int64 { return n.root.Version() }

// Stored is the version that storage knows: 0 for a new notification.
func (n *Notification) Stored() int64 { return n.root.Stored() }

// Pending returns the events raised since the notification was last stored.
func (n *Notification) Pending() []domain.Event { return n.root.Pending() }

// Settle is for repositories: the pending events are stored, and these are the
// times that the database gave.
func (n *Notification) Settle(createdAt, updatedAt time.Time) {
	n.root.Settle()
	n.state.CreatedAt, n.state.UpdatedAt = createdAt, updatedAt
}
