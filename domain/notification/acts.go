package notification

import (
	"time"

	"github.com/millrace-go/millrace/domain"
)

// MarkSent notes that the gateway took the notification. It is illegal once the
// notification was sent or abandoned.
func (n *Notification) MarkSent(now time.Time) error {
	if err := n.allow("mark sent"); err != nil {
		return err
	}
	n.raise(Sent{About: n.about(), At: n.at(now), Attempts: n.state.Attempts + 1})
	return nil
}

// MarkFailed notes an attempt that ended badly. It is illegal once the
// notification was sent or abandoned; the reason must not be blank.
func (n *Notification) MarkFailed(reason string, now time.Time) error {
	if err := n.allow("mark failed"); err != nil {
		return err
	}
	if err := validateReason(reason); err != nil {
		return err
	}
	n.raise(Failed{About: n.about(), At: n.at(now), Attempts: n.state.Attempts + 1, Reason: reason})
	return nil
}

// Abandon gives the notification up. It is illegal once the notification was
// sent or abandoned; the reason must not be blank.
func (n *Notification) Abandon(reason string, now time.Time) error {
	if err := n.allow("abandon"); err != nil {
		return err
	}
	if err := validateReason(reason); err != nil {
		return err
	}
	n.raise(Abandoned{About: n.about(), At: n.at(now), Attempts: n.state.Attempts, Reason: reason})
	return nil
}

// MarkRead notes that the recipient has read the notification. It is illegal
// unless it was sent. Reading again changes nothing and raises no event.
func (n *Notification) MarkRead(now time.Time) error {
	if n.state.Status != StatusSent {
		return n.illegal("mark read")
	}
	if n.state.ReadAt.IsZero() {
		n.raise(Read{About: n.about(), At: n.at(now), Attempts: n.state.Attempts})
	}
	return nil
}

func (n *Notification) allow(act string) error {
	if !n.state.Status.Final() {
		return nil
	}
	return n.illegal(act)
}

func (n *Notification) illegal(act string) error {
	return &domain.IllegalActError{
		Aggregate: Aggregate, ID: string(n.state.ID), Act: act, State: string(n.state.Status),
	}
}

func validateReason(reason string) error {
	var v domain.Validation
	checkText(&v, "reason", reason, MaxReason)
	return v.Err()
}

// at keeps the times of one notification from running backwards when two nodes'
// clocks disagree.
func (n *Notification) at(now time.Time) time.Time {
	if t := domain.Time(now); t.After(n.state.ChangedAt) {
		return t
	}
	return n.state.ChangedAt
}

func (n *Notification) about() About {
	return About{n.state.Recipient, n.state.Channel, n.state.Subject, n.state.RequestedAt}
}

func (n *Notification) raise(e domain.Event) { n.root.Raise(e, n.apply) }

// apply is the only place where the state changes: for new facts and for old.
func (n *Notification) apply(event domain.Event) {
	s := &n.state
	switch e := event.(type) {
	case Requested:
		s.Content = Content{e.Recipient, e.Channel, e.Subject, e.Body}
		s.Status, s.RequestedAt = StatusRequested, e.RequestedAt
	case Sent:
		s.Status, s.Attempts, s.Reason = StatusSent, e.Attempts, ""
	case Failed:
		s.Status, s.Attempts, s.Reason = StatusFailed, e.Attempts, e.Reason
	case Abandoned:
		s.Status, s.Attempts, s.Reason = StatusAbandoned, e.Attempts, e.Reason
	case Read:
		s.ReadAt = e.At
	}
	s.ChangedAt = event.OccurredAt()
}
