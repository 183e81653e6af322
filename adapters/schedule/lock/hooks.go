package lock

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/millrace-go/millrace/adapters/internal/hook"
)

// Hooks report what happens to locks and tasks, for logs and metrics. Each may be
// nil, is called from the goroutine of the task or of its renewals, and must
// return at once.
type Hooks struct {
	// Attempt: a lock is about to be asked for.
	Attempt func(name string)
	// Acquired: it was given.
	Acquired func(g Grant)
	// NotAcquired: somebody else has it.
	NotAcquired func(name string)
	// Failed: the store did not answer, or grants nothing for now; the task was
	// skipped.
	Failed func(name string, err error)
	// Lost: the task's context was cancelled, as its lock is lost or may be.
	Lost func(g Grant, err error)
	// Extended: the task asked for more time, and has it.
	Extended func(g Grant, atMost time.Duration)
	// Started: the task begins.
	Started func(g Grant)
	// Finished: the task has ended, and its lock was freed, or lapses.
	Finished func(f Finish)
	// NotReleased: the lock could not be freed, and lapses by itself.
	NotReleased func(g Grant, err error)
}

// Finish is the end of a task.
type Finish struct {
	Grant   Grant
	Outcome Outcome
	Took    time.Duration
	Err     error // of the task
}

// Tee returns hooks that call those of h and then those of other.
func (h Hooks) Tee(other Hooks) Hooks {
	return Hooks{
		Attempt:     hook.Tee1(h.Attempt, other.Attempt),
		Acquired:    hook.Tee1(h.Acquired, other.Acquired),
		NotAcquired: hook.Tee1(h.NotAcquired, other.NotAcquired),
		Failed:      hook.Tee2(h.Failed, other.Failed),
		Lost:        hook.Tee2(h.Lost, other.Lost),
		Extended:    hook.Tee2(h.Extended, other.Extended),
		Started:     hook.Tee1(h.Started, other.Started),
		Finished:    hook.Tee1(h.Finished, other.Finished),
		NotReleased: hook.Tee2(h.NotReleased, other.NotReleased),
	}
}

func (h Hooks) withDefaults() Hooks {
	hook.Fill1(&h.Attempt)
	hook.Fill1(&h.Acquired)
	hook.Fill1(&h.NotAcquired)
	hook.Fill2(&h.Failed)
	hook.Fill2(&h.Lost)
	hook.Fill2(&h.Extended)
	hook.Fill1(&h.Started)
	hook.Fill1(&h.Finished)
	hook.Fill2(&h.NotReleased)
	return h
}

// LogHooks returns hooks that log what an operator needs to know: a store that
// does not answer and its return, a lock that was lost, and one that could not be
// freed. A store that stays away is logged once for each lock. The error of a task
// is not logged: Do returns it.
func LogHooks(log *slog.Logger) Hooks {
	l := &contactLog{log: log, away: map[string]bool{}}
	return Hooks{
		Acquired:    func(g Grant) { l.back(g.Name) },
		NotAcquired: l.back,
		Failed:      l.lost,
		Lost: func(g Grant, err error) {
			log.Warn("lock lost, its task is cancelled", "lock", g.Name, "fence", g.Fence, "error", err)
		},
		NotReleased: func(g Grant, err error) {
			log.Warn("lock not freed, it lapses by itself", "lock", g.Name, "fence", g.Fence, "error", err)
		},
	}
}

// contactLog logs for each lock that contact with the store was lost, and that it
// is back.
type contactLog struct {
	log *slog.Logger

	mu   sync.Mutex
	away map[string]bool
}

func (l *contactLog) change(name string, away bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away[name] == away {
		return false
	}
	if away {
		l.away[name] = true
	} else {
		delete(l.away, name)
	}
	return true
}

func (l *contactLog) lost(name string, err error) {
	if !l.change(name, true) {
		return
	}
	text := "store of the locks does not answer"
	if errors.Is(err, ErrStoreIsNew) {
		text = "store of the locks grants none for now"
	}
	l.log.Warn(text, "lock", name, "error", err) //nolint:sloglint // a constant of the caller
}

func (l *contactLog) back(name string) {
	if l.change(name, false) {
		l.log.Info("store of the locks answers again", "lock", name)
	}
}
