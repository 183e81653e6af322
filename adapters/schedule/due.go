package schedule

import "time"

const (
	skipGrace = 5 * time.Second // how late a slot may be for MissedSkip
	maxSlots  = 100             // that one plan has for MissedRunAll
)

// plan is what to do about a timetable.
type plan struct {
	slots []time.Time // to run now, oldest first
	done  time.Time   // all slots up to here are dealt with, even if none is to be run
	next  time.Time   // when there is more to do; zero for never
}

// due decides which slots are to be run at now, if all up to done have been dealt
// with. It asks no clock. The scenarios in testdata/due show what it decides.
func due(t Timetable, p MissedPolicy, grace time.Duration, done, now time.Time) plan {
	if p == MissedSkip {
		grace = min(grace, skipGrace)
	}
	d := plan{done: done}
	if oldest := now.Add(-grace - 1); done.Before(oldest) {
		d.done = oldest
	}
	d.next = t.Next(d.done)
	for !d.next.IsZero() && !d.next.After(now) && len(d.slots) < maxSlots {
		if p == MissedRunAll {
			d.slots = append(d.slots, d.next)
		} else {
			d.slots = append(d.slots[:0], d.next)
		}
		d.next = t.Next(d.next)
	}
	return d
}
