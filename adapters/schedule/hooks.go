package schedule

import (
	"log/slog"
	"sync"
	"time"

	"github.com/millrace-go/millrace/adapters/internal/hook"
)

// Hooks report what becomes of slots, for logs and metrics. Each may be nil, and
// must return at once. What happens to the locks is reported by lock.Hooks.
type Hooks struct {
	// Slot: a scheduler has dealt with a slot; its run has ended, if there was one
	// here.
	Slot func(s Slot)
	// Failed: the history or the locks did not answer. The job is "" when that was
	// asked for all jobs.
	Failed func(job string, err error)
	// Recovered: they answer again. It is called once after any number of failures.
	Recovered func(job string)
}

// Slot is what a scheduler did about a slot.
type Slot struct {
	Job         string
	ScheduledAt time.Time
	Verdict     Verdict
	Err         error // of the task, or why there was no run
}

// Tee returns hooks that call those of h and then those of other.
func (h Hooks) Tee(other Hooks) Hooks {
	return Hooks{
		Slot:      hook.Tee1(h.Slot, other.Slot),
		Failed:    hook.Tee2(h.Failed, other.Failed),
		Recovered: hook.Tee1(h.Recovered, other.Recovered),
	}
}

func (h Hooks) withDefaults() Hooks {
	hook.Fill1(&h.Slot)
	hook.Fill2(&h.Failed)
	hook.Fill1(&h.Recovered)
	return h
}

// LogHooks returns hooks that log what an operator needs to know: a store that
// does not answer and its return, and runs that failed, each with its cause. Every
// failure to reach the store is logged; use it together with lock.LogHooks.
func LogHooks(log *slog.Logger) Hooks {
	return Hooks{
		Slot: func(s Slot) {
			if s.Err != nil {
				log.Warn("job failed", "job", s.Job, "slot", s.ScheduledAt, "verdict", s.Verdict, "error", s.Err)
			}
		},
		Failed:    func(job string, err error) { log.Warn("job store did not answer", "job", job, "error", err) },
		Recovered: func(job string) { log.Info("job store answers again", "job", job) },
	}
}

// contact calls Failed and Recovered.
type contact struct {
	hooks Hooks

	mu   sync.Mutex
	away map[string]bool // jobs whose last call failed
}

func (c *contact) failed(job string, err error) {
	c.mu.Lock()
	if c.away == nil {
		c.away = map[string]bool{}
	}
	c.away[job] = true
	c.mu.Unlock()
	c.hooks.Failed(job, err)
}

func (c *contact) answered(job string) {
	c.mu.Lock()
	was := c.away[job]
	delete(c.away, job)
	c.mu.Unlock()
	if was {
		c.hooks.Recovered(job)
	}
}
