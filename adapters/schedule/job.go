package schedule

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/adapters/internal/problems"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
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
	// LockAtMostFor and LockAtLeastFor are the limits of the job's lock.Lock, durations
	// as ParseDuration reads them. Default of the first: SchedulerConfig.LockAtMostFor; of the second: 0.
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
	// lock.ErrLost as the cause when the lock is lost. It is under the job's lock:
	// lock.Guard, lock.Extend, lock.Assert and Complete work.
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
	lock      lock.Lock
}

func (j Job) withDefaults() Job {
	j.Missed = cmp.Or(j.Missed, MissedRunOnce)
	j.Grace = cmp.Or(j.Grace, 10*time.Minute)
	j.Crashed = cmp.Or(j.Crashed, CrashedSkip)
	j.Zone = cmp.Or(j.Zone, time.UTC)
	return j
}

// read reads and checks j. Everything that is wrong is in the error, each line
// naming the job and the field.
func (j Job) read(atMostFor time.Duration) (*job, error) {
	j = j.withDefaults()
	read := &job{Job: j, lock: lock.Lock{Name: j.Name, AtMostFor: atMostFor}}
	var bad problems.List
	var err error
	read.timetable, err = ParseSchedule(j.Schedule, j.Zone)
	bad.Add("Schedule", err)
	if j.LockAtMostFor != "" {
		read.lock.AtMostFor, err = ParseDuration(j.LockAtMostFor)
		bad.Add("LockAtMostFor", err)
	}
	if j.LockAtLeastFor != "" {
		read.lock.AtLeastFor, err = ParseDuration(j.LockAtLeastFor)
		bad.Add("LockAtLeastFor", err)
	}
	if bad.Err() == nil {
		bad.Add("lock", read.lock.Validate())
	} else { // the limits may be unread: judge the name alone
		bad.Add("lock", lock.Lock{Name: j.Name, AtMostFor: time.Hour}.Validate())
	}
	problems.NotNil(&bad, "Run", j.Run != nil)
	problems.AtLeast(&bad, "Grace", j.Grace, 0)
	switch j.Missed {
	case MissedRunOnce, MissedSkip, MissedRunAll:
	default:
		bad.Unless(false, "Missed", "must be run-once, skip or run-all, is %q", j.Missed)
	}
	switch j.Crashed {
	case CrashedSkip, CrashedRerun:
	default:
		bad.Unless(false, "Crashed", "must be skip or rerun, is %q", j.Crashed)
	}
	var named problems.List
	named.Add(fmt.Sprintf("job %q", j.Name), bad.Err())
	return read, named.Err()
}
