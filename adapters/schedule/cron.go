package schedule

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	cron "github.com/netresearch/go-cron"
)

// Timetable names the slots of a job: the same times on every node, from nothing
// but the schedule.
type Timetable interface {
	// Next returns the first slot after t, the zero time if there is none.
	Next(t time.Time) time.Time
}

// minEvery is the shortest fixed rate.
const minEvery = 100 * time.Millisecond

// searchYears is how far ahead a next slot is searched. 29 February on a given day of
// the week comes once in 28 years, or 40 around a year like 2100.
const searchYears = 41

var springCron = cron.MustNewParser(cron.Second | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor |
	cron.DomL | cron.DomW | cron.DowNth | cron.DowLast).WithMaxSearchYears(searchYears)

// macros are Spring's.
var macros = []string{"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}

// lastWeekday is Spring's way of writing the last such day of the month.
var lastWeekday = regexp.MustCompile(`(?i)^([0-7]|sun|mon|tue|wed|thu|fri|sat)L$`)

// ParseSchedule reads a schedule: six cron fields as Spring has them (seconds
// first; L, LW, 15W, FRI#2 and FRIL too), one of its macros such as @daily, or a
// duration as ParseDuration reads it, for a fixed rate whose slots are the
// multiples of it since 1970. The fields are read in zone; nil is UTC.
//
// Where the clocks go forward, a slot in the hour that is left out comes an hour
// later; where they go back, one in the hour that comes twice comes twice. A
// schedule that never comes, such as 31 February, is an error.
func ParseSchedule(text string, zone *time.Location) (Timetable, error) {
	if zone == nil {
		zone = time.UTC
	}
	text = strings.TrimSpace(text)
	if d, ok := parseDuration(text); ok {
		if d < minEvery {
			return nil, fmt.Errorf("must be at least %s for a fixed rate, is %s", minEvery, text)
		}
		return every(d), nil
	}
	switch fields := strings.Fields(text); {
	case len(fields) == 1 && strings.HasPrefix(text, "@"):
		if !isMacro(text) {
			return nil, fmt.Errorf("must be one of %s, is %q; for a fixed rate give the duration alone, such as PT5M", strings.Join(macros, ", "), text)
		}
	case len(fields) != 6:
		return nil, fmt.Errorf("%q has %d fields: give six (second minute hour day month weekday), a macro, or a duration", text, len(fields))
	default:
		fields[5] = springWeekdays(fields[5])
		text = strings.Join(fields, " ")
	}
	if strings.Contains(text, "=") {
		return nil, fmt.Errorf("%q: name the time zone in Zone", text)
	}
	s, err := springCron.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", text, err)
	}
	t := inZone{s, zone}
	if t.Next(time.Now()).IsZero() {
		return nil, fmt.Errorf("%q never comes: there is no such date", text)
	}
	return t, nil
}

func isMacro(text string) bool {
	for _, m := range macros {
		if strings.EqualFold(m, text) {
			return true
		}
	}
	return false
}

// springWeekdays rewrites FRIL as go-cron has it, FRI#L.
func springWeekdays(field string) string {
	days := strings.Split(field, ",")
	for i, d := range days {
		days[i] = lastWeekday.ReplaceAllString(d, "$1#L")
	}
	return strings.Join(days, ",")
}

// inZone reads the fields in a time zone and answers in UTC.
type inZone struct {
	cron.Schedule
	zone *time.Location
}

// Next implements Timetable. Where the clocks go forward, a slot in the hour that
// is left out comes an hour later: 02:30 becomes 03:30. go-cron says so only if it
// is asked before the change, so in the time behind it all slots are counted from
// there.
func (z inZone) Next(t time.Time) time.Time {
	local := t.In(z.zone)
	next := z.Schedule.Next(local)
	if change, skipped := lastChange(local); local.Before(change.Add(skipped)) {
		next = z.Schedule.Next(change.Add(-time.Minute))
		for !next.IsZero() && !next.After(local) {
			next = z.Schedule.Next(next)
		}
	}
	if next.IsZero() {
		return next
	}
	return next.UTC()
}

// lastChange is when the clocks of t's zone were changed last before t, or at it,
// and by how much they went forward.
func lastChange(t time.Time) (at time.Time, forward time.Duration) {
	at, _ = t.ZoneBounds()
	if at.IsZero() { // never
		return t, 0
	}
	_, offset := at.Zone()
	_, before := at.Add(-1).Zone()
	return at, time.Duration(offset-before) * time.Second
}

// every is a fixed rate. Its slots are the multiples since the epoch, so that all
// nodes agree on them.
type every time.Duration

func (e every) Next(t time.Time) time.Time {
	ms := time.Duration(e).Milliseconds()
	slot := t.UnixMilli() / ms * ms
	if t.UnixMilli() < 0 {
		slot -= ms
	}
	for !time.UnixMilli(slot).After(t) {
		slot += ms
	}
	return time.UnixMilli(slot).UTC()
}
