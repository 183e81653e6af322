package schedule

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"
)

// MemoryLocks keeps locks in this process: for tests, and for programs of which
// only one runs. Its clock is monotonic, and in a synctest bubble the bubble's.
type MemoryLocks struct {
	mu    sync.Mutex
	locks map[string]*memoryLock
}

type memoryLock struct {
	owner        string
	fence        int64
	since, until time.Time
}

var _ LockProvider = (*MemoryLocks)(nil)

// NewMemoryLocks returns locks that are all free.
func NewMemoryLocks() *MemoryLocks {
	return &MemoryLocks{locks: map[string]*memoryLock{}}
}

// Acquire implements LockProvider.
func (m *MemoryLocks) Acquire(ctx context.Context, c Claim) (Grant, error) {
	if err := ctx.Err(); err != nil {
		return Grant{}, fmt.Errorf("acquire the lock %s: %w", c.Name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.locks[c.Name]
	if l == nil {
		l = &memoryLock{}
		m.locks[c.Name] = l
	}
	g := Grant{Name: c.Name, Lease: c.Lease, Owner: c.ID.String()}
	now := time.Now()
	switch {
	case l.owner == g.Owner:
	case now.Before(l.until):
		return g, ErrNotAcquired
	default:
		l.owner, l.since, l.until = g.Owner, now, now.Add(c.Lease)
		l.fence = max(l.fence+1, now.UnixMicro())
	}
	g.Fence = l.fence
	return g, nil
}

// held returns the lock if g has it.
func (m *MemoryLocks) held(g Grant) (*memoryLock, error) {
	l := m.locks[g.Name]
	if l == nil || l.owner != g.Owner || !time.Now().Before(l.until) {
		return nil, fmt.Errorf("the lock %s: %w", g.Name, ErrLockLost)
	}
	return l, nil
}

// Renew implements LockProvider.
func (m *MemoryLocks) Renew(_ context.Context, g Grant, lease time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, err := m.held(g)
	if err != nil {
		return err
	}
	if until := time.Now().Add(lease); until.After(l.until) {
		l.until = until
	}
	return nil
}

// Release implements LockProvider.
func (m *MemoryLocks) Release(_ context.Context, g Grant, atLeast time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, err := m.held(g)
	if err != nil {
		return err
	}
	l.until = l.since.Add(atLeast)
	if now := time.Now(); l.until.Before(now) {
		l.until = now
	}
	return nil
}

// Guard implements LockProvider. tx may be of any database that has the outbox
// line of migrations.
func (m *MemoryLocks) Guard(ctx context.Context, tx *sql.Tx, g Grant) error {
	m.mu.Lock()
	_, err := m.held(g)
	m.mu.Unlock()
	if err != nil {
		return err
	}
	return guardElsewhere(ctx, tx, g)
}
