package schedule

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"sync"
	"time"

	"github.com/millrace-go/millrace/adapters/schedule/lock"
)

// MemoryHistory keeps the history in this process, for tests. It implements
// History.
type MemoryHistory struct{ memoryHistory }

type memoryHistory struct {
	mu   sync.Mutex
	runs map[memorySlot]*Run
}

type memorySlot struct {
	job string
	at  int64 // Unix microseconds, as exact as Postgres
}

var _ History = (*MemoryHistory)(nil)

// NewMemoryHistory returns an empty history.
func NewMemoryHistory() *MemoryHistory {
	return &MemoryHistory{memoryHistory{runs: map[memorySlot]*Run{}}}
}

// Last implements History.
func (m *memoryHistory) Last(_ context.Context, job string) (last time.Time, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.runs {
		if r.Job == job && r.RequestedBy == "" && r.Attempt > 0 && r.ScheduledAt.After(last) {
			last = r.ScheduledAt
		}
	}
	return last, nil
}

// Outcome implements History.
func (m *memoryHistory) Outcome(_ context.Context, job string, slot time.Time) (Outcome, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.runs[memorySlot{job, slot.UnixMicro()}]; r != nil {
		return r.Outcome, nil
	}
	return "", nil
}

// Begin implements History.
func (m *memoryHistory) Begin(ctx context.Context, r Run, rerun bool) (int, error) {
	if err := lock.Assert(ctx); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at := memorySlot{r.Job, r.ScheduledAt.UnixMicro()}
	old := m.runs[at]
	for slot, o := range m.runs {
		if slot != at && o.Job == r.Job && o.Outcome == OutcomeRunning && o.Fence < r.Fence {
			o.Outcome, o.FinishedAt = OutcomeCrashed, time.Now()
		}
	}
	if old != nil {
		again := rerun && isOpen(old.Outcome) && old.Fence < r.Fence && old.Attempt < maxAttempts
		if old.Outcome != OutcomeRequested && !again {
			return 0, ErrSlotTaken
		}
		r.Attempt, r.RequestedBy = old.Attempt, old.RequestedBy
	}
	r.Attempt++
	r.Outcome, r.StartedAt = OutcomeRunning, time.Now()
	m.runs[at] = &r
	return r.Attempt, nil
}

// Complete implements History. It writes at once, whatever becomes of tx.
func (m *memoryHistory) Complete(_ context.Context, _ *sql.Tx, r Run) error {
	if !m.finish(r, lock.OutcomeOK, "") {
		return lock.ErrLost
	}
	return nil
}

// Finish implements History.
func (m *memoryHistory) Finish(_ context.Context, r Run, o Outcome, problem string) error {
	m.finish(r, o, problem)
	return nil
}

func (m *memoryHistory) finish(r Run, o Outcome, problem string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	is := m.runs[memorySlot{r.Job, r.ScheduledAt.UnixMicro()}]
	if is == nil || is.Fence != r.Fence || is.Outcome != OutcomeRunning {
		return false
	}
	is.Outcome, is.Error, is.FinishedAt = o, problem, time.Now()
	return true
}

// Request asks for a run of job outside of its schedule.
func (m *MemoryHistory) Request(job, by string) Run {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := Run{Job: job, ScheduledAt: time.Now().UTC(), Outcome: OutcomeRequested, RequestedBy: by}
	m.runs[memorySlot{job, r.ScheduledAt.UnixMicro()}] = &r
	return r
}

// Open implements History.
func (m *memoryHistory) Open(_ context.Context, jobs []string, since time.Time) ([]Run, error) {
	return m.list(func(r *Run) bool {
		return slices.Contains(jobs, r.Job) && r.ScheduledAt.After(since) && (r.Outcome == OutcomeRequested || isOpen(r.Outcome))
	}), nil
}

// Runs lists all runs of job, the oldest slot first.
func (m *MemoryHistory) Runs(job string) []Run {
	return m.list(func(r *Run) bool { return r.Job == job })
}

func (m *memoryHistory) list(choose func(*Run) bool) []Run {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Run
	for _, r := range m.runs {
		if choose(r) {
			all = append(all, *r)
		}
	}
	slices.SortFunc(all, func(a, b Run) int { return cmp.Or(a.ScheduledAt.Compare(b.ScheduledAt), cmp.Compare(a.Job, b.Job)) })
	return all
}

// Define implements History, and keeps nothing.
func (m *memoryHistory) Define(context.Context, []Definition) error { return nil }

// Forget implements History.
func (m *memoryHistory) Forget(_ context.Context, jobs []string, before time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for at, r := range m.runs {
		if slices.Contains(jobs, r.Job) && r.ScheduledAt.Before(before) {
			delete(m.runs, at)
		}
	}
	return nil
}
