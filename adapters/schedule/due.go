package schedule

import "time"

const (
	late    = 5 * time.Second // how late a slot may be for MissedSkip
	mostDue = 100             // slots that one look takes up for MissedRunAll
)

// plan is what to do about a timetable.
type plan struct {
	slots   []time.Time // to run now, oldest first
	settled time.Time   // what needs no look any more, even without slots
	next    time.Time   // when there is more to do; zero for never
}

// due decides which slots are to be run at now, if all up to settled have been
// dealt with. It asks no clock.
func due(t Timetable, p MissedPolicy, grace time.Duration, settled, now time.Time) plan {
	if p == MissedSkip {
		grace = min(grace, late)
	}
	d := plan{settled: settled}
	if oldest := now.Add(-grace - 1); settled.Before(oldest) {
		d.settled = oldest
	}
	d.next = t.Next(d.settled)
	for !d.next.IsZero() && !d.next.After(now) && len(d.slots) < mostDue {
		if p == MissedRunAll {
			d.slots = append(d.slots, d.next)
		} else {
			d.slots = append(d.slots[:0], d.next)
		}
		d.next = t.Next(d.next)
	}
	return d
}
