package schedule

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Verdict is what a scheduler did about a slot.
type Verdict string

// The verdicts. After VerdictHeld and VerdictFailed the slot is tried again.
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

// Status tells how the jobs stand on this node.
func (s *Scheduler) Status() (all []JobStatus) {
	for _, f := range s.jobs {
		all = append(all, f.status())
	}
	return all
}

// follower brings one job's slots to their runs, one at a time.
type follower struct {
	s     *Scheduler
	job   *job
	asked chan time.Time // slots from the history

	mu    sync.Mutex
	state JobStatus
}

func (f *follower) status() JobStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.Name = f.job.Name
	return f.state
}

func (f *follower) note(change func(*JobStatus)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.state)
}

// longestNap bounds a wait: the wall clock may be set while a timer runs.
const longestNap = 30 * time.Second

// follow runs slots until ctx ends.
func (f *follower) follow(ctx context.Context) {
	clock := f.s.cfg.Clock
	settled, ok := f.settled(ctx)
	if !ok {
		return
	}
	for ctx.Err() == nil {
		now := clock.Now()
		if now.Before(settled) { // the clock was set back; slots that were run are still known
			settled = now
		}
		d := due(f.job.timetable, f.job.Missed, f.job.Grace, settled, now)
		settled = d.settled
		again := false
		for _, slot := range d.slots {
			if again = !f.attempt(ctx, slot); again {
				break
			}
			settled = slot
		}
		f.note(func(s *JobStatus) { s.Next = d.next })
		if len(d.slots) > 0 && !again {
			continue // it took time: look again
		}
		nap := longestNap
		if !d.next.IsZero() {
			nap = min(nap, d.next.Sub(clock.Now()))
		}
		if again {
			nap = min(nap, f.s.cfg.Retry)
		}
		f.rest(ctx, nap)
	}
}

// settled is the time up to which slots need no look: the last one begun, or, for
// a job that has never run, the present.
func (f *follower) settled(ctx context.Context) (time.Time, bool) {
	for {
		last, err := f.s.history.Last(ctx, f.job.Name)
		switch {
		case ctx.Err() != nil:
			return last, false
		case err == nil && last.IsZero():
			return f.s.cfg.Clock.Now(), true
		case err == nil:
			return last, true
		}
		call2(f.s.cfg.Hooks.Failed, f.job.Name, err)
		sleep(ctx, f.s.cfg.Clock, f.s.cfg.Retry)
	}
}

// rest waits, and meanwhile runs slots that the history asks for.
func (f *follower) rest(ctx context.Context, d time.Duration) {
	t := f.s.cfg.Clock.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C():
			return
		case slot := <-f.asked:
			f.attempt(ctx, slot)
		}
	}
}

// ask hands over a slot that the history has as open, if it is this job's policy.
func (f *follower) ask(r Run, now time.Time) {
	again := f.job.Crashed == CrashedRerun && r.Outcome.open() && r.Attempt < mostAttempts && now.Sub(r.ScheduledAt) <= f.job.Grace
	if st := f.status(); !again && r.Outcome != OutcomeRequested || st.Running {
		return
	}
	select {
	case f.asked <- r.ScheduledAt:
	default: // it is still there at the next poll
	}
}

// attempt brings a slot to its run, here or elsewhere; false if it is to be tried
// again.
func (f *follower) attempt(ctx context.Context, slot time.Time) bool {
	v, err := f.try(ctx, slot)
	if ctx.Err() != nil && v != VerdictRan {
		return false
	}
	hooks := f.s.cfg.Hooks
	if v == VerdictFailed {
		call2(hooks.Failed, f.job.Name, err)
	}
	if hooks.Slot != nil {
		hooks.Slot(f.job.Name, slot, v, err)
	}
	return v == VerdictRan || v == VerdictTaken
}

func (f *follower) try(ctx context.Context, at time.Time) (Verdict, error) {
	is, err := f.s.history.Look(ctx, f.job.Name, at)
	if err != nil {
		return VerdictFailed, err
	}
	rerun := f.job.Crashed == CrashedRerun
	if is != "" && is != OutcomeRequested && !(rerun && is.open()) {
		return VerdictTaken, nil
	}
	traced, traceID := f.s.cfg.Trace(ctx, f.job.Name)
	r := Run{Job: f.job.Name, ScheduledAt: at, Node: f.s.cfg.Node, TraceID: traceID}
	verdict := VerdictRan
	result := f.s.locker.Do(traced, f.job.lock, func(ctx context.Context) error {
		var err error
		verdict, err = f.begin(ctx, &r, rerun)
		if verdict != VerdictRan {
			scopeOf(ctx).held.waive() // nothing was run, so nothing is to be kept apart
			return err
		}
		return f.run(ctx, r)
	})
	switch {
	case result.Executed:
		return verdict, result.Err
	case result.Err != nil:
		return VerdictFailed, result.Err
	case is != "": // who has the lock has the slot, or the poll will find it again
		return VerdictTaken, nil
	}
	return VerdictHeld, nil
}

// begin claims the slot for r, under its lock.
func (f *follower) begin(ctx context.Context, r *Run, rerun bool) (Verdict, error) {
	r.Fence, _ = Fence(ctx)
	limited, cancel := context.WithTimeout(ctx, f.s.locker.cfg.Timeout)
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

// run runs the task and writes down how it ended, before the lock is freed.
func (f *follower) run(ctx context.Context, r Run) error {
	f.note(func(s *JobStatus) { s.Running, s.Slot = true, r.ScheduledAt })
	defer f.note(func(s *JobStatus) { s.Running = false })
	err := errors.New("the task ended its goroutine")
	defer func() {
		h := scopeOf(ctx).held
		problem := errors.Join(err, h.lost())
		text := ""
		if problem != nil {
			text = problem.Error()
		}
		limited, cancel := h.limited(f.s.locker.cfg.Timeout)
		defer cancel()
		if e := f.s.history.Finish(limited, r, outcome(problem, ctx), text); e != nil {
			call2(f.s.cfg.Hooks.Failed, f.job.Name, e)
		}
	}()
	inRun := withSlot(ctx, &slot{history: f.s.history, run: r})
	_, err = contain(inRun, func(ctx context.Context) (struct{}, error) { return struct{}{}, f.job.Run(ctx) })
	return err
}
