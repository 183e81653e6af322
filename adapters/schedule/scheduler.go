package schedule

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	cron "github.com/netresearch/go-cron"
)

// SchedulerConfig configures a Scheduler. The zero value is usable.
type SchedulerConfig struct {
	// LockAtMostFor is that of jobs which name none. Default 4 min.
	LockAtMostFor time.Duration
	// StopTimeout is how long Run waits for tasks when it stops. Default 30 s.
	StopTimeout time.Duration
	// Poll is how often the history is asked for slots that an operator requested
	// or that a crash left. Default 5 s.
	Poll time.Duration
	// Retry is how soon a slot is tried again whose lock was held, or whose store
	// did not answer. Default 1 s.
	Retry time.Duration
	// Keep is how long the history keeps a run. Default 30 days; -1 keeps all.
	Keep time.Duration
	// Node names this process in the history. Default host:pid.
	Node string
	// Trace gives each run a trace and tells its id. Default: runs have none.
	Trace func(ctx context.Context, job string) (traced context.Context, traceID string)
	// Clock is what schedules are read on. Default the machine's. Locks do not use it.
	Clock cron.Clock
	// Hooks tell what becomes of slots: Slot and Failed are called. Default: nobody.
	Hooks Hooks
}

func (c SchedulerConfig) withDefaults() SchedulerConfig {
	def(&c.LockAtMostFor, 4*time.Minute)
	def(&c.StopTimeout, 30*time.Second)
	def(&c.Poll, 5*time.Second)
	def(&c.Retry, time.Second)
	def(&c.Keep, 30*24*time.Hour)
	def(&c.Node, fmt.Sprintf("%s:%d", host(), os.Getpid()))
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
	locker  *Locker
	history History
	cfg     SchedulerConfig
	jobs    []*follower
}

// NewScheduler returns a scheduler of jobs. Everything that is wrong with them is
// reported at once, naming the job. It does no I/O.
func NewScheduler(locker *Locker, history History, jobs []Job, cfg SchedulerConfig) (*Scheduler, error) {
	cfg = cfg.withDefaults()
	s := &Scheduler{locker: locker, history: history, cfg: cfg}
	var errs []error
	if locker == nil {
		errs = append(errs, errors.New("locker: is nil"))
	}
	if history == nil {
		errs = append(errs, errors.New("history: is nil"))
	}
	for _, f := range []struct {
		name  string
		value time.Duration
	}{{"LockAtMostFor", cfg.LockAtMostFor}, {"StopTimeout", cfg.StopTimeout}, {"Poll", cfg.Poll}, {"Retry", cfg.Retry}} {
		if f.value < 0 {
			errs = append(errs, fmt.Errorf("%s: must be positive, is %s", f.name, f.value))
		}
	}
	names := map[string]bool{}
	for _, j := range jobs {
		read, err := j.read(cfg.LockAtMostFor)
		errs = append(errs, err)
		if names[j.Name] {
			errs = append(errs, fmt.Errorf("job %q: Name: is there twice", j.Name))
		}
		names[j.Name] = true
		s.jobs = append(s.jobs, &follower{s: s, job: read, asked: make(chan time.Time, 16)})
	}
	if err := errors.Join(errs...); err != nil {
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

// prepare checks the store and tells what is run here, once the servers answer.
func (s *Scheduler) prepare(ctx context.Context) error {
	for pause := s.cfg.Retry; ; pause = min(2*pause, max(s.cfg.Retry, 10*time.Second)) {
		err := s.open(ctx)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, ErrUnsafeStore) {
			return fmt.Errorf("scheduler: %w", err)
		}
		call2(s.cfg.Hooks.Failed, "", err)
		sleep(ctx, s.cfg.Clock, pause)
	}
}

func (s *Scheduler) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.locker.cfg.Timeout)
	defer cancel()
	if c, ok := s.locker.locks.(Checker); ok {
		if err := c.Check(ctx); err != nil {
			return err
		}
	}
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

// poll asks for slots that are no schedule's business, and drops old runs.
func (s *Scheduler) poll(ctx context.Context) {
	var names []string
	var grace time.Duration
	for _, f := range s.jobs {
		names = append(names, f.job.Name)
		grace = max(grace, f.job.Grace)
	}
	swept := time.Time{}
	for sleep(ctx, s.cfg.Clock, s.cfg.Poll) {
		now := s.cfg.Clock.Now()
		open, err := s.history.Open(ctx, names, now.Add(-grace))
		if err == nil && s.cfg.Keep > 0 && now.Sub(swept) > time.Hour {
			swept = now
			err = s.history.Forget(ctx, names, now.Add(-s.cfg.Keep))
		}
		if err != nil && ctx.Err() == nil {
			call2(s.cfg.Hooks.Failed, "", err)
		}
		for _, r := range open {
			i := slices.IndexFunc(s.jobs, func(f *follower) bool { return f.job.Name == r.Job })
			s.jobs[i].ask(r, now)
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
