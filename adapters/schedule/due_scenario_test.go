package schedule

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
)

// scenario is one node with one job, as testdata/due tells it. Its commands:
//
//	job schedule=(...) [missed=run-once] [grace=10m] [zone=UTC]
//	start at=...              the node starts, with the history that there is
//	clock at=... [lock=held]  the node's clock shows this; nothing runs while another holds the lock
//
// Times are those of the job's zone. What the node does is due's decision.
type scenario struct {
	timetable Timetable
	missed    MissedPolicy
	grace     time.Duration
	zone      *time.Location
	begun     time.Time // the last slot in the history, which outlives the node
	done      time.Time // what the node has dealt with
}

const (
	scenarioTime = "2006-01-02T15:04:05"
	shownTime    = "2006-01-02 15:04:05 MST"
)

func (s *scenario) at(t *testing.T, d *datadriven.TestData) time.Time {
	var text string
	d.ScanArgs(t, "at", &text)
	if at, err := time.Parse(time.RFC3339, text); err == nil { // an hour that comes twice needs its offset
		return at
	}
	at, err := time.ParseInLocation(scenarioTime, text, s.zone)
	require.NoError(t, err, d.Pos)
	return at
}

func (s *scenario) show(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.In(s.zone).Format(shownTime)
}

// job reads the job, whose history is empty.
func (s *scenario) job(t *testing.T, d *datadriven.TestData) string {
	var schedule []string
	missed, grace, zone := "run-once", "10m", "UTC"
	for _, a := range d.CmdArgs {
		switch a.Key {
		case "schedule":
			schedule = a.Vals
		case "missed":
			missed = a.Vals[0]
		case "grace":
			grace = a.Vals[0]
		case "zone":
			zone = a.Vals[0]
		}
	}
	var err error
	s.zone, err = time.LoadLocation(zone)
	require.NoError(t, err, d.Pos)
	s.grace, err = time.ParseDuration(grace)
	require.NoError(t, err, d.Pos)
	s.missed, s.begun = MissedPolicy(missed), time.Time{}
	s.timetable, err = ParseSchedule(strings.Join(schedule, " "), s.zone)
	require.NoError(t, err, d.Pos)
	return "ok"
}

// start is what a scheduler does first: it goes on behind the last slot begun, or
// from now if the job has never run.
func (s *scenario) start(now time.Time) string {
	s.done = now
	if s.begun.IsZero() {
		return "never run: slots from now on"
	}
	s.done = s.begun
	return "goes on behind " + s.show(s.begun)
}

// clock is one round of a scheduler.
func (s *scenario) clock(now time.Time, held bool) string {
	if now.Before(s.done) {
		s.done = now
	}
	p := due(s.timetable, s.missed, s.grace, s.done, now)
	s.done = p.done
	var out strings.Builder
	for _, slot := range p.slots {
		if held {
			fmt.Fprintf(&out, "held elsewhere: %s, to be attempted again\n", s.show(slot))
			break
		}
		if !slot.After(s.begun) {
			fmt.Fprintf(&out, "has its run: %s\n", s.show(slot))
		} else {
			fmt.Fprintf(&out, "run: %s\n", s.show(slot))
			s.begun = slot
		}
		s.done = slot
	}
	if len(p.slots) == 0 {
		fmt.Fprintln(&out, "nothing to run")
	}
	fmt.Fprintf(&out, "next: %s", s.show(p.next))
	return out.String()
}

// The scenarios in testdata/due tell which slots a node runs, and when. After a
// change of the rules, -rewrite writes what comes out now; read the difference.
func TestDue_Scenarios(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/due", func(t *testing.T, path string) {
		var s scenario
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "job":
				return s.job(t, d)
			case "start":
				return s.start(s.at(t, d))
			case "clock":
				return s.clock(s.at(t, d), d.HasArg("lock"))
			}
			d.Fatalf(t, "unknown command %s", d.Cmd)
			return ""
		})
	})
}
