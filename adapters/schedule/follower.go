package schedule

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/millrace-go/millrace/adapters/schedule/internal/holding"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
)

// Verdict is what a scheduler did about a slot.
type Verdict string

// The verdicts. After VerdictHeld and VerdictFailed the slot is attempted again.
const (
	VerdictRan    Verdict = "ran"    // here
	VerdictTaken  Verdict = "taken"  // it has its run already, or is being run
	VerdictHeld   Verdict = "held"   // the lock is held, and nobody has begun the slot
	VerdictFailed Verdict = "failed" // the store did not answer
)

// JobStatus is how a job stands on this node.
type JobStatus struct {
	Name    string    `json:"name"`
	Running bool      `json:"running"`
	Slot    time.Time `json:"slot,omitzero"` // that runs, or ran last here
	Next    time.Time `json:"next,omitzero"`
}

// Status reports how the jobs stand on this node.
func (s *Scheduler) Status() (all []JobStatus) {
	for _, f := range s.jobs {
		all = append(all, f.status())
	}
	return all
}

// follower brings one job's slots to their runs, one at a time.
type follower struct {
	s        *Scheduler
	job      *job
	requests chan time.Time // slots from the history

	mu    sync.Mutex
	state JobStatus
}

func (f *follower) status() JobStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.Name = f.job.Name
	return f.state
}

func (f *follower) update(change func(*JobStatus)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.state)
}

// maxWait bounds a wait for the next slot: the wall clock may be set while a timer
// runs.
const maxWait = 30 * time.Second

// follow runs slots until ctx ends.
func (f *follower) follow(ctx context.Context) {
	clock := f.s.cfg.Clock
	done, ok := f.lastDone(ctx)
	if !ok {
		return
	}
	for ctx.Err() == nil {
		now := clock.Now()
		if now.Before(done) { // the clock was set back; slots that were run are still known
			done = now
		}
		p := due(f.job.timetable, f.job.Missed, f.job.Grace, done, now)
		done = p.done
		again := false
		for _, slot := range p.slots {
			if again = !f.attempt(ctx, slot); again {
				break
			}
			done = slot
		}
		f.update(func(s *JobStatus) { s.Next = p.next })
		if len(p.slots) > 0 && !again {
			continue // it took time: plan again
		}
		wait := maxWait
		if !p.next.IsZero() {
			wait = min(wait, p.next.Sub(clock.Now()))
		}
		if again {
			wait = min(wait, f.s.cfg.Retry)
		}
		f.wait(ctx, wait)
	}
}

// lastDone is the time up to which all slots are dealt with: the last one begun,
// or, for a job that has never run, the present. It reports false if ctx ended.
func (f *follower) lastDone(ctx context.Context) (time.Time, bool) {
	for {
		last, err := f.s.history.Last(ctx, f.job.Name)
		if ctx.Err() != nil {
			return last, false
		}
		if err == nil {
			f.s.contact.answered(f.job.Name)
			if last.IsZero() {
				last = f.s.cfg.Clock.Now()
			}
			return last, true
		}
		f.s.contact.failed(f.job.Name, err)
		sleep(ctx, f.s.cfg.Clock, f.s.cfg.Retry)
	}
}

// wait waits for d, and meanwhile runs slots that the history asks for.
func (f *follower) wait(ctx context.Context, d time.Duration) {
	t := f.s.cfg.Clock.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C():
			return
		case slot := <-f.requests:
			f.attempt(ctx, slot)
		}
	}
}

// request hands over a slot that the history has as open, if the job's policy is
// to run it.
func (f *follower) request(r Run, now time.Time) {
	rerun := f.job.Crashed == CrashedRerun && isOpen(r.Outcome) && r.Attempt < maxAttempts && now.Sub(r.ScheduledAt) <= f.job.Grace
	if !rerun && r.Outcome != OutcomeRequested || f.status().Running {
		return
	}
	select {
	case f.requests <- r.ScheduledAt:
	default: // it is still there at the next poll
	}
}

// attempt brings a slot to its run, here or elsewhere; false if it is to be
// attempted again.
func (f *follower) attempt(ctx context.Context, slot time.Time) bool {
	v, err := f.runOnce(ctx, slot)
	if ctx.Err() != nil && v != VerdictRan {
		return false
	}
	if v == VerdictFailed {
		f.s.contact.failed(f.job.Name, err)
	} else {
		f.s.contact.answered(f.job.Name)
	}
	f.s.cfg.Hooks.Slot(Slot{Job: f.job.Name, ScheduledAt: slot, Verdict: v, Err: err})
	return v == VerdictRan || v == VerdictTaken
}

// runOnce runs the slot at if nobody has, and it gets the lock.
func (f *follower) runOnce(ctx context.Context, at time.Time) (Verdict, error) {
	is, err := f.s.history.Outcome(ctx, f.job.Name, at)
	if err != nil {
		return VerdictFailed, err
	}
	rerun := f.job.Crashed == CrashedRerun
	if is != "" && is != OutcomeRequested && !(rerun && isOpen(is)) {
		return VerdictTaken, nil
	}
	traced, traceID := f.s.cfg.Trace(ctx, f.job.Name)
	r := Run{Job: f.job.Name, ScheduledAt: at, Node: f.s.cfg.Node, TraceID: traceID}
	verdict := VerdictRan
	result := f.s.locker.Do(traced, f.job.lock, func(ctx context.Context) error {
		var err error
		verdict, err = f.begin(ctx, &r, rerun)
		if verdict != VerdictRan {
			holding.In(ctx).Waive()
			return err
		}
		return f.run(ctx, r)
	})
	switch {
	case result.Executed:
		return verdict, result.Err
	case result.Err != nil:
		return VerdictFailed, result.Err
	case is != "": // the holder of the lock has the slot, or the poll will find it again
		return VerdictTaken, nil
	}
	return VerdictHeld, nil
}

// begin makes r the slot's run, under its lock.
func (f *follower) begin(ctx context.Context, r *Run, rerun bool) (Verdict, error) {
	r.Fence, _ = lock.Fence(ctx)
	limited, cancel := context.WithTimeout(ctx, f.s.cfg.Timeout)
	defer cancel()
	attempt, err := f.s.history.Begin(limited, *r, rerun)
	switch {
	case errors.Is(err, ErrSlotTaken):
		return VerdictTaken, nil
	case err != nil:
		return VerdictFailed, err
	}
	r.Attempt = attempt
	return VerdictRan, nil
}

// run runs the task and records how it ended, before the lock is freed.
func (f *follower) run(ctx context.Context, r Run) error {
	f.update(func(s *JobStatus) { s.Running, s.Slot = true, r.ScheduledAt })
	defer f.update(func(s *JobStatus) { s.Running = false })
	held := holding.In(ctx)
	err := errGoexit
	defer func() { // also when the task ends its goroutine
		problem := errors.Join(err, held.LossCause())
		text := ""
		if problem != nil {
			text = problem.Error()
		}
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.s.cfg.Timeout)
		defer cancel()
		if e := f.s.history.Finish(detached, r, Outcome(held.OutcomeOf(problem, ctx)), text); e != nil {
			f.s.contact.failed(f.job.Name, e)
		}
	}()
	err = held.Contain(context.WithValue(ctx, runKey{}, &inRun{history: f.s.history, run: r}), f.job.Run)
	return err
}

// errGoexit is how a run ended whose task never returned.
var errGoexit = errors.New("the task ended its goroutine")
