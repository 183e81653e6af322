package schedule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	cron "github.com/netresearch/go-cron"

	"github.com/millrace-go/millrace/adapters/internal/backoff"
	"github.com/millrace-go/millrace/adapters/internal/problems"
	"github.com/millrace-go/millrace/adapters/schedule/internal/jobdb"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
)

// SchedulerConfig configures a Scheduler. The zero value is usable.
type SchedulerConfig struct {
	// LockAtMostFor is that of jobs which give none. Default 4 min.
	LockAtMostFor time.Duration
	// StopTimeout is how long Run waits for tasks when it stops. Default 30 s.
	StopTimeout time.Duration
	// Poll is how often the history is asked for slots that an operator requested
	// or that a crash left. Default 5 s.
	Poll time.Duration
	// Retry is how soon a slot is attempted again whose lock was held, or whose store
	// did not answer. Default 1 s.
	Retry time.Duration
	// Keep is how long the history keeps a run. Default 30 days; -1 keeps
	// all.
	Keep time.Duration
	// Node names this process in the history. Default host:pid.
	Node string
	// Trace gives each run a trace and returns its id. Default: none.
	Trace func(ctx context.Context, job string) (traced context.Context, traceID string)
	// Clock is what schedules are read on. Default the machine's. Locks do not use it.
	Clock cron.Clock
	// Timeout bounds one call of the history. Default 5 s.
	Timeout time.Duration
	// Hooks report what becomes of slots. Default: none.
	Hooks Hooks
}

func (c SchedulerConfig) withDefaults() SchedulerConfig {
	c.LockAtMostFor = cmp.Or(c.LockAtMostFor, 4*time.Minute)
	c.StopTimeout = cmp.Or(c.StopTimeout, 30*time.Second)
	c.Poll = cmp.Or(c.Poll, 5*time.Second)
	c.Retry = cmp.Or(c.Retry, time.Second)
	c.Keep = cmp.Or(c.Keep, 30*24*time.Hour)
	c.Timeout = cmp.Or(c.Timeout, 5*time.Second)
	c.Node = cmp.Or(c.Node, jobdb.Process())
	c.Hooks = c.Hooks.withDefaults()
	if c.Clock == nil {
		c.Clock = cron.RealClock{}
	}
	if c.Trace == nil {
		c.Trace = func(ctx context.Context, _ string) (context.Context, string) { return ctx, "" }
	}
	return c
}

// Scheduler runs jobs at the slots of their schedules, each slot on one node.
type Scheduler struct {
	locker  *lock.Locker
	history History
	cfg     SchedulerConfig
	jobs    []*follower
	contact contact
}

// NewScheduler returns a scheduler of jobs. Everything that is wrong with them is
// reported at once, naming the job. It does no I/O.
func NewScheduler(locker *lock.Locker, history History, jobs []Job, cfg SchedulerConfig) (*Scheduler, error) {
	cfg = cfg.withDefaults()
	s := &Scheduler{locker: locker, history: history, cfg: cfg, contact: contact{hooks: cfg.Hooks}}
	var bad problems.List
	problems.NotNil(&bad, "locker", locker != nil)
	problems.NotNil(&bad, "history", history != nil)
	problems.Positive(&bad, "LockAtMostFor", cfg.LockAtMostFor)
	problems.Positive(&bad, "StopTimeout", cfg.StopTimeout)
	problems.Positive(&bad, "Poll", cfg.Poll)
	problems.Positive(&bad, "Retry", cfg.Retry)
	problems.Positive(&bad, "Timeout", cfg.Timeout)
	names := map[string]bool{}
	for _, j := range jobs {
		read, err := j.read(cfg.LockAtMostFor)
		bad.AddAll(err)
		bad.Unless(!names[j.Name], fmt.Sprintf("job %q: Name", j.Name), "must be given once, is there twice")
		names[j.Name] = true
		s.jobs = append(s.jobs, &follower{s: s, job: read, requests: make(chan time.Time, 16)})
	}
	if err := bad.Err(); err != nil {
		return nil, fmt.Errorf("scheduler: %w", err)
	}
	return s, nil
}

// Run runs the jobs until ctx ends. Then it takes no new locks, cancels the
// context of the tasks, and waits for them for at most StopTimeout; each lock is
// freed when its task has ended, never before. It returns nil after such a stop,
// and an error that names the jobs whose tasks did not end: their locks are kept
// alive as long as they run, or lapse with the process.
//
// A store that cannot be reached is waited for. One that is not safe is an error.
func (s *Scheduler) Run(ctx context.Context) error {
	if err := s.prepare(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	var work sync.WaitGroup
	for _, f := range s.jobs {
		work.Go(func() { f.follow(ctx) })
	}
	work.Go(func() { s.poll(ctx) })
	done := make(chan struct{})
	go func() { work.Wait(); close(done) }()
	select {
	case <-done: // there are no jobs
	case <-ctx.Done():
	}
	limit := time.NewTimer(s.cfg.StopTimeout)
	defer limit.Stop()
	select {
	case <-done:
		return nil
	case <-limit.C:
	}
	return fmt.Errorf("stop the jobs: still at work after %s: %s", s.cfg.StopTimeout, strings.Join(s.running(), ", "))
}

func (s *Scheduler) running() (names []string) {
	for _, f := range s.jobs {
		if f.status().Running {
			names = append(names, f.job.Name)
		}
	}
	return names
}

// maxPause bounds the pause between attempts to reach the servers, unless Retry is
// longer.
const maxPause = 10 * time.Second

// prepare checks the store and defines what is run here, once the servers answer.
func (s *Scheduler) prepare(ctx context.Context) error {
	pause := backoff.Doubling{First: s.cfg.Retry, Max: max(s.cfg.Retry, maxPause)}
	for failures := 1; ; failures++ {
		err := s.open(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			s.contact.answered("")
			return nil
		}
		if errors.Is(err, lock.ErrUnsafeStore) {
			return fmt.Errorf("scheduler: %w", err)
		}
		s.contact.failed("", err)
		sleep(ctx, s.cfg.Clock, pause.After(failures))
	}
}

func (s *Scheduler) open(ctx context.Context) error {
	if err := s.locker.Check(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	var defs []Definition
	for _, f := range s.jobs {
		j := f.job
		defs = append(defs, Definition{
			Job: j.Name, Schedule: j.Schedule, Zone: j.Zone.String(), AtMost: j.lock.AtMostFor, AtLeast: j.lock.AtLeastFor,
			Missed: j.Missed, Crashed: j.Crashed, Node: s.cfg.Node,
		})
	}
	return s.history.Define(ctx, defs)
}

// poll reads the slots that no schedule names, and drops old runs.
func (s *Scheduler) poll(ctx context.Context) {
	var names []string
	var grace time.Duration
	for _, f := range s.jobs {
		names = append(names, f.job.Name)
		grace = max(grace, f.job.Grace)
	}
	var forgotten time.Time // when old runs were dropped last
	for sleep(ctx, s.cfg.Clock, s.cfg.Poll) {
		now := s.cfg.Clock.Now()
		open, err := s.history.Open(ctx, names, now.Add(-grace))
		if err == nil && s.cfg.Keep > 0 && now.Sub(forgotten) > time.Hour {
			forgotten = now
			err = s.history.Forget(ctx, names, now.Add(-s.cfg.Keep))
		}
		switch {
		case err == nil:
			s.contact.answered("")
		case ctx.Err() == nil:
			s.contact.failed("", err)
		}
		for _, r := range open {
			i := slices.IndexFunc(s.jobs, func(f *follower) bool { return f.job.Name == r.Job })
			s.jobs[i].request(r, now)
		}
	}
}

// sleep waits for d on clock and returns true, or false once ctx has ended.
func sleep(ctx context.Context, clock cron.Clock, d time.Duration) bool {
	t := clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
