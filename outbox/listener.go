package outbox

import (
	"context"
	"time"
)

// Listener lets an idle relay poll rarely: while it is armed, writers notify the
// relay of their commits, and the notification calls Relay.Wake. pgstore.Listener
// is one. Notifications are a hint: polling finds every message without them.
type Listener interface {
	// Working reports that notifications are known to arrive.
	Working() bool
	// Arm asks writers to notify for the time d from now on.
	Arm(ctx context.Context, d time.Duration) error
	// Disarm asks writers to stop notifying.
	Disarm(ctx context.Context) error
}

// idleBackoff decides how a reader that found nothing waits. It does no I/O.
type idleBackoff struct {
	cfg     *RelayConfig
	pause   time.Duration
	armed   bool      // writers were asked to notify, and the log was read since
	rearmAt time.Time // when to ask them again, if armed

	waiting   bool          // it last waited for a notification, and none came
	pollFor   time.Duration // how long to poll after the next message without a notification
	pollUntil time.Time     // until when it polls because of the last one
}

// A message that an armed relay found by its own poll was written by a client that
// does not notify, or its notification was lost. The relay then polls for a while,
// each time twice as long.
const (
	unnotifiedMin = time.Minute
	unnotifiedMax = time.Hour
)

// armPolls is for how many PollIdle the listener is armed at a time. It is armed
// again at half of it.
const armPolls = 10

// found starts over after a read that returned rows. It reports whether the
// listener is armed and should be disarmed.
func (b *idleBackoff) found() (disarm bool) {
	if b.waiting {
		b.pollFor = min(max(2*b.pollFor, unnotifiedMin), unnotifiedMax)
		b.pollUntil = time.Now().Add(b.pollFor)
	}
	disarm = b.armed
	b.pause, b.armed = b.cfg.PollMin, false
	return disarm
}

// empty decides what follows an empty read: how long to wait, and whether to arm
// the listener first. Once armed, the relay reads again at once: a writer that
// committed before did not notify.
func (b *idleBackoff) empty() (wait time.Duration, arm bool) {
	b.waiting = false
	listener := b.cfg.Listener
	if b.pause < b.cfg.PollMax || listener == nil || !listener.Working() || time.Now().Before(b.pollUntil) {
		wait = b.pause
		b.pause, b.armed = min(2*b.pause, b.cfg.PollMax), false
		return wait, false
	}
	if !b.armed {
		b.armed, b.rearmAt = true, time.Now().Add(armPolls*b.cfg.PollIdle/2)
		return 0, true
	}
	b.waiting = true
	if arm = !time.Now().Before(b.rearmAt); arm {
		b.rearmAt = time.Now().Add(armPolls * b.cfg.PollIdle / 2)
	}
	return b.cfg.PollIdle, arm
}
