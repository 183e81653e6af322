package outbox

import "time"

// Status is a snapshot of a relay, for health checks.
type Status struct {
	Leading   bool
	Epoch     int64
	Position  int64     // of the last saved cursor
	Gaps      int       // open gaps at the last read
	InFlight  int       // rows read and not yet covered by a saved cursor
	Read      time.Time // when the log was last read without error
	Delivered time.Time // when the broker last acknowledged a whole batch
	Stalled   time.Time // since when messages wait for the broker without any acknowledgement; zero if none do; of a leader
	Err       error     // the last error, nil once messages move again
	Members   int       // instances of the fleet that are ready for this outbox, this one included; 0 outside of a fleet
}

// Status returns the relay's present state.
func (r *Relay) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

func (r *Relay) updateStatus(change func(*Status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.status)
}

// Ready reports whether the relay works (promise P9). A leader is ready if messages
// moved, or there was nothing to move, within the time limit; a standby is ready if
// its last attempt to take the lease met no error.
func (s Status) Ready(now time.Time, limit time.Duration) bool {
	if !s.Leading {
		return s.Err == nil
	}
	if now.Sub(s.Read) > limit && s.InFlight == 0 {
		return false
	}
	return s.Stalled.IsZero() || now.Sub(s.Stalled) <= limit
}
