package outbox

import (
	"errors"
	"time"
)

// ErrPublish is what errors.Is finds in the error of a leadership that ended
// because the publisher gave up.
var ErrPublish = errors.New("publish")

// Hooks are called by a relay as things happen, for metrics and logs. Nil
// members are skipped. They are called from the relay's own goroutines and must
// return at once.
type Hooks struct {
	// Leading: this relay leads from now on.
	Leading func(epoch int64)
	// Stopped: the leadership has ended; err is nil on a graceful stop.
	Stopped func(epoch int64, err error)
	// Waiting: another relay holds the lease, or is to take it. Called at each try.
	Waiting func()
	// HandingOver: this relay is about to step down, gracefully, because `to` has
	// led at least two outboxes of the fleet fewer for a while.
	HandingOver func(to Instance)
	// Read: a read returned rows, or closed gaps.
	Read func(ReadInfo)
	// Delivered: every entry of a read has been acknowledged or parked.
	Delivered func(rows int, took time.Duration)
	// Acked: as Delivered, before it, with the entries themselves and those of
	// them that were parked. They are not to be changed, nor kept.
	Acked func(entries []Entry, parked []Parked)
	// Saved: the cursor was made durable.
	Saved func(c Cursor, took time.Duration)
	// Unsaved: a leadership broke off, and the saved cursor does not cover so many
	// rows that were read. Those of them that the broker took, then or a little
	// later, come again from the next leader: the bound on duplicates.
	Unsaved func(rows int)
	// Parked: a message was set aside.
	Parked func(Parked)
	// Retrying: something did not work, and the relay will try again.
	Retrying func(err error, in time.Duration)
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
	WakeNone     WakeSource = "none"     // it had not rested: the read before was cut short, or was the first
	WakePoll     WakeSource = "poll"     // its pause was over
	WakeCall     WakeSource = "wake"     // a call of Wake ended the pause between two polls
	WakeDoorbell WakeSource = "doorbell" // a call of Wake ended the long sleep with the doorbell out
)
