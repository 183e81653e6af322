package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// firstGroup is the attempt group of the first attempt.
const firstGroup = 1

// Attempt is what became of an attempt to send that is not recorded yet. The zero
// value is none: there is nothing to record.
type Attempt struct {
	id  notification.ID
	err error // of the gateway; nil if it took the notification
}

// None reports that there is nothing to record.
func (a Attempt) None() bool { return a.id == "" }

// Err is what the gateway said of the attempt; nil if it took the notification.
func (a Attempt) Err() error { return a.err }

// SendRequested makes the first attempt to send the notification that was
// requested in r. It does nothing for other events and for a notification that
// is past its first attempt: an event that comes again, or one that was abandoned
// meanwhile. RecordAttempt notes the outcome; until it has, the same event may be
// given again, under the same idempotency key.
//
// An error means that nothing is known about the notification: the gateway is
// unavailable (ErrUnavailable), the database was not reached, or ctx ended.
func (s *Sender) SendRequested(ctx context.Context, r domain.Recorded) (Attempt, error) {
	e, ok := r.Event.(notification.Requested)
	if !ok {
		return Attempt{}, nil
	}
	id := notification.ID(r.AggregateID)
	status, err := s.reader.NotificationStatus(ctx, id)
	if errors.Is(err, domain.ErrNotFound) || err == nil && status.Status != notification.StatusRequested {
		return Attempt{}, nil
	}
	if err != nil {
		return Attempt{}, fmt.Errorf("send notification: %w", err)
	}
	err = s.attempt(ctx, Delivery{
		IdempotencyKey: IdempotencyKey(id, firstGroup), NotificationID: id, Attempt: 1,
		Content: notification.Content{Recipient: e.Recipient, Channel: e.Channel, Subject: e.Subject, Body: e.Body},
	})
	if ctx.Err() != nil && err != nil {
		return Attempt{}, fmt.Errorf("send notification %s: %w", id, errors.Join(ctx.Err(), err))
	}
	if errors.Is(err, ErrUnavailable) {
		return Attempt{}, fmt.Errorf("send notification %s: %w", id, err)
	}
	return Attempt{id: id, err: err}, nil
}

// RecordAttempt notes the outcome of an attempt that SendRequested made, and
// reports whether it did: not if there was none, or if somebody else has recorded
// or abandoned the notification meanwhile. What the gateway wants later is
// scheduled for ResendFailedNotifications and stays requested.
func (s *Sender) RecordAttempt(ctx context.Context, at Attempt) (recorded bool, err error) {
	if at.None() {
		return false, nil
	}
	err = s.uow.Do(ctx, func(ctx context.Context, tx Tx) error {
		recorded = false
		n, err := tx.Notifications().Get(ctx, at.id)
		if errors.Is(err, domain.ErrNotFound) || err == nil && n.Status() != notification.StatusRequested {
			return nil
		}
		if err != nil {
			return err
		}
		recorded = true
		if errors.Is(at.err, ErrNotNow) {
			return tx.Claims().Schedule(ctx, n.ID(), s.putOff(ctx, n, at.err))
		}
		return s.settle(ctx, tx, n, firstGroup, at.err)
	})
	if err != nil {
		return false, fmt.Errorf("record attempt: %w", err)
	}
	return recorded, nil
}

// settle stores what an attempt of the given group did to n, and what is to
// follow it.
func (s *Sender) settle(ctx context.Context, tx Tx, n *notification.Notification, group int, outcome error) error {
	if err := s.keep.save(ctx, tx, n, s.verdict(outcome)); err != nil {
		return err
	}
	if n.Status() != notification.StatusFailed { // it was never scheduled
		return nil
	}
	return s.follow(ctx, tx, n, group, outcome)
}

// follow schedules what is to follow an attempt, or forgets a notification that
// is over.
func (s *Sender) follow(ctx context.Context, tx Tx, n *notification.Notification, group int, outcome error) error {
	if n.Status() != notification.StatusFailed {
		return tx.Claims().Drop(ctx, n.ID())
	}
	next := s.keep.next(ctx, n)
	next.Wait = max(next.Wait, RetryAfter(outcome))
	next.Group = group
	if errors.Is(outcome, ErrKeySpent) {
		next.Group++
	}
	return tx.Claims().Schedule(ctx, n.ID(), next)
}

// putOff schedules n for later without counting an attempt.
func (s *Sender) putOff(ctx context.Context, n *notification.Notification, outcome error) Retry {
	next := s.keep.next(ctx, n)
	next.Wait = s.pause(outcome)
	return next
}

// pause is how long to leave the gateway alone after an answer that was no attempt.
func (s *Sender) pause(outcome error) time.Duration {
	return max(RetryAfter(outcome), s.cfg.Retry.Wait(1))
}

// verdict is the act that the outcome of an attempt calls for.
func (s *Sender) verdict(outcome error) func(*notification.Notification) error {
	return func(n *notification.Notification) error {
		if outcome == nil {
			return n.MarkSent(s.cfg.Now())
		}
		f := notification.Failure{Reason: notification.ReasonText(outcome.Error()), Final: errors.Is(outcome, ErrRejected)}
		return n.Fail(f, s.keep.retry, s.cfg.Now())
	}
}
