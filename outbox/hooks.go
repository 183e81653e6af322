package outbox

import (
	"errors"
	"time"
)

// ErrPublish is what errors.Is finds in the error of a leadership that ended
// because the publisher gave up.
var ErrPublish = errors.New("publish")

// Hooks are called by a relay as things happen, for metrics and logs. Nil members
// are skipped. A relay calls them from its own goroutines: they must return at once.
type Hooks struct {
	// Leading: this relay leads from now on.
	Leading func(epoch int64)
	// Stopped: the leadership has ended; err is nil on a graceful stop.
	Stopped func(epoch int64, err error)
	// Waiting: another relay holds the lease, or should take it. Called at each
	// attempt.
	Waiting func()
	// HandingOver: this relay is about to step down, gracefully, because `to` has
	// led at least two outboxes of the fleet fewer for a while.
	HandingOver func(to Member)
	// Read: a read returned rows, or closed gaps.
	Read func(ReadInfo)
	// Delivered: every entry of a read has been acknowledged or parked.
	Delivered func(rows int, took time.Duration)
	// Acked comes before Delivered, with the entries themselves and those of them
	// that were parked. Do not change or keep them.
	Acked func(entries []Entry, parked []Parked)
	// Saved: the cursor was made durable.
	Saved func(c Cursor, took time.Duration)
	// Unsaved: a leadership broke off, and the saved cursor does not cover this many
	// of the rows that it read. The next leader sends again those of them that the
	// broker took. It is the bound on duplicates.
	Unsaved func(rows int)
	// Parked: a message was set aside.
	Parked func(Parked)
	// Retrying: something failed, and the relay will try again after the time in.
	Retrying func(err error, in time.Duration)
}

// withDefaults fills in no-ops, so that call sites need not ask for nil.
func (h Hooks) withDefaults() Hooks { return h.Tee(noHooks) }

var noHooks = Hooks{
	Leading:     func(int64) {},
	Stopped:     func(int64, error) {},
	Waiting:     func() {},
	HandingOver: func(Member) {},
	Read:        func(ReadInfo) {},
	Delivered:   func(int, time.Duration) {},
	Acked:       func([]Entry, []Parked) {},
	Saved:       func(Cursor, time.Duration) {},
	Unsaved:     func(int) {},
	Parked:      func(Parked) {},
	Retrying:    func(error, time.Duration) {},
}

// Tee returns hooks that call those of h and then those of other.
func (h Hooks) Tee(other Hooks) Hooks {
	return Hooks{
		Leading:     tee1(h.Leading, other.Leading),
		Stopped:     tee2(h.Stopped, other.Stopped),
		Waiting:     tee0(h.Waiting, other.Waiting),
		HandingOver: tee1(h.HandingOver, other.HandingOver),
		Read:        tee1(h.Read, other.Read),
		Delivered:   tee2(h.Delivered, other.Delivered),
		Acked:       tee2(h.Acked, other.Acked),
		Saved:       tee2(h.Saved, other.Saved),
		Unsaved:     tee1(h.Unsaved, other.Unsaved),
		Parked:      tee1(h.Parked, other.Parked),
		Retrying:    tee2(h.Retrying, other.Retrying),
	}
}

func tee0(first, second func()) func() {
	if first == nil || second == nil {
		return either(first, second, first != nil)
	}
	return func() { first(); second() }
}

func tee1[A any](first, second func(A)) func(A) {
	if first == nil || second == nil {
		return either(first, second, first != nil)
	}
	return func(a A) { first(a); second(a) }
}

func tee2[A, B any](first, second func(A, B)) func(A, B) {
	if first == nil || second == nil {
		return either(first, second, first != nil)
	}
	return func(a A, b B) { first(a, b); second(a, b) }
}

func either[F any](first, second F, takeFirst bool) F {
	if takeFirst {
		return first
	}
	return second
}

// ReadInfo describes one read.
type ReadInfo struct {
	Rows     int
	Bytes    int   // of payload
	Position int64 // the cursor's position after it
	Gaps     int   // open gaps after it
	More     bool
	Took     time.Duration
	Oldest   time.Time // creation of the oldest entry; zero if no rows
	Wake     WakeSource
}

// WakeSource is what made the relay read.
type WakeSource string

// The wake sources.
const (
	WakeNone   WakeSource = "none"   // it had not paused: the read before was cut short, or was the first
	WakePoll   WakeSource = "poll"   // its pause was over
	WakeCall   WakeSource = "wake"   // a call of Wake ended the pause between two polls
	WakeNotify WakeSource = "notify" // a call of Wake ended the long wait of an idle relay with an armed Listener
)
