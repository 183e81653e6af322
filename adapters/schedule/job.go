package schedule

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Job is a task and when to run it.
type Job struct {
	// Name of the job and of its lock: 1 to 64 letters, digits and . _ : -
	Name string
	// Schedule is six cron fields as in Spring ("0 */5 * * * *"), a macro such as
	// @daily, or a duration for a fixed rate ("PT5M"): see ParseSchedule.
	Schedule string
	// Zone is the time zone of the cron fields. Default UTC, and not the machine's:
	// nodes must agree.
	Zone *time.Location
	// LockAtMostFor and LockAtLeastFor are durations as ParseDuration reads them:
	// see Lock. Default of the first: SchedulerConfig.LockAtMostFor; of the second: 0.
	LockAtMostFor, LockAtLeastFor string
	// Missed says what becomes of slots that passed while nobody could run them.
	// Default MissedRunOnce.
	Missed MissedPolicy
	// Grace is how late a slot may still be run. Default 10 min.
	Grace time.Duration
	// Crashed says what becomes of a slot whose run did not end: by a crash, a lost
	// lock or a stop. Default CrashedSkip: a slot is begun once, or not at all.
	Crashed CrashedPolicy
	// Run is the task. Its context is cancelled when the scheduler stops, and with
	// ErrLockLost as the cause when the lock is lost. It is under the job's lock:
	// Guard, Complete, Extend and AssertLocked work.
	Run func(ctx context.Context) error
}

// MissedPolicy says what becomes of slots that nobody ran in time.
type MissedPolicy string

// The policies. Slots older than the grace are never run.
const (
	MissedRunOnce MissedPolicy = "run-once" // the latest of them
	MissedSkip    MissedPolicy = "skip"     // none that is more than a few seconds late
	MissedRunAll  MissedPolicy = "run-all"  // each, oldest first
)

// CrashedPolicy says what becomes of a slot that was begun and not ended.
type CrashedPolicy string

// The policies.
const (
	// CrashedSkip leaves it: the next slot comes. A slot runs at most once.
	CrashedSkip CrashedPolicy = "skip"
	// CrashedRerun runs it again, in the grace and at most three times. A task that
	// calls Complete in the transaction of its effect then has it exactly once.
	CrashedRerun CrashedPolicy = "rerun"
)

// job is a Job whose texts have been read.
type job struct {
	Job
	timetable Timetable
	lock      Lock
}

// read reads and checks j. Everything that is wrong is in the error, each line
// naming the job and the field.
func (j Job) read(atMostFor time.Duration) (*job, error) {
	def(&j.Missed, MissedRunOnce)
	def(&j.Grace, 10*time.Minute)
	def(&j.Crashed, CrashedSkip)
	def(&j.Zone, time.UTC)
	read := &job{Job: j, lock: Lock{Name: j.Name, AtMostFor: atMostFor}}
	var errs []error
	bad := func(field string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("job %q: %s: %w", j.Name, field, err))
		}
	}
	var err error
	read.timetable, err = ParseSchedule(j.Schedule, j.Zone)
	bad("Schedule", err)
	if j.LockAtMostFor != "" {
		read.lock.AtMostFor, err = ParseDuration(j.LockAtMostFor)
		bad("LockAtMostFor", err)
	}
	if j.LockAtLeastFor != "" {
		read.lock.AtLeastFor, err = ParseDuration(j.LockAtLeastFor)
		bad("LockAtLeastFor", err)
	}
	if len(errs) == 0 || !lockName.MatchString(j.Name) {
		bad("lock", read.lock.Validate())
	}
	if j.Run == nil {
		bad("Run", errors.New("is nil"))
	}
	if j.Grace < 0 {
		bad("Grace", fmt.Errorf("must be positive, is %s", j.Grace))
	}
	switch j.Missed {
	case MissedRunOnce, MissedSkip, MissedRunAll:
	default:
		bad("Missed", fmt.Errorf("%q is none of run-once, skip, run-all", j.Missed))
	}
	switch j.Crashed {
	case CrashedSkip, CrashedRerun:
	default:
		bad("Crashed", fmt.Errorf("%q is none of skip, rerun", j.Crashed))
	}
	return read, errors.Join(errs...)
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
