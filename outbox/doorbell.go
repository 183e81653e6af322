package outbox

import (
	"context"
	"time"
)

// Doorbell lets an idle relay sleep: writers ring it, by Relay.Wake, when they
// have committed. pgstore.Doorbell is one. It is a hint: polling stays the truth.
type Doorbell interface {
	// Working reports that rings are known to arrive.
	Working() bool
	// Idle asks writers to ring for the next rest, and not to if rest is 0.
	Idle(ctx context.Context, rest time.Duration) error
}

// slumber is the reader's way of waiting when it found nothing.
type slumber struct {
	cfg    *RelayConfig
	pause  time.Duration
	armed  bool      // writers were asked to ring, and the log was read since
	rehang time.Time // when to ask again, if armed

	asleep   bool          // it last waited for a ring, and none came
	distrust time.Duration // how long to poll after the next message that nobody rang for
	awake    time.Time     // until when it polls because of the last one
}

// A message that a sleeping relay found by itself was written by somebody who
// does not ring, or the ring was lost. The relay then polls for a while, each
// time twice as long.
const (
	distrustMin = time.Minute
	distrustMax = time.Hour
)

// bellSpan is for how many PollIdle the bell is hung out at a time. It is hung out
// anew at half of it.
const bellSpan = 10

// found starts over after a read with rows. It reports whether the bell hangs
// out and is to be taken in.
func (s *slumber) found() (takeIn bool) {
	if s.asleep {
		s.distrust = min(max(2*s.distrust, distrustMin), distrustMax)
		s.awake = time.Now().Add(s.distrust)
	}
	takeIn = s.armed
	s.pause, s.armed = s.cfg.PollMin, false
	return takeIn
}

// empty decides what to do after an empty read: how long to wait, and whether to
// hang out the bell before. Having hung it out, the relay reads once more at
// once: a writer that committed before did not ring.
func (s *slumber) empty() (wait time.Duration, hangOut bool) {
	s.asleep = false
	bell := s.cfg.Doorbell
	if s.pause < s.cfg.PollMax || bell == nil || !bell.Working() || time.Now().Before(s.awake) {
		wait = s.pause
		s.pause, s.armed = min(2*s.pause, s.cfg.PollMax), false
		return wait, false
	}
	if !s.armed {
		s.armed, s.rehang = true, time.Now().Add(bellSpan*s.cfg.PollIdle/2)
		return 0, true
	}
	s.asleep = true
	if hangOut = !time.Now().Before(s.rehang); hangOut {
		s.rehang = time.Now().Add(bellSpan * s.cfg.PollIdle / 2)
	}
	return s.cfg.PollIdle, hangOut
}
