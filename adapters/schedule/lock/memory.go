package lock

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"

	"github.com/millrace-go/millrace/adapters/schedule/internal/jobdb"
)

// NewMemory returns locks that are kept in this process, all free: for tests, and
// for programs of which only one runs. Their clock is monotonic, and in a synctest
// bubble the bubble's. Guard works in any Postgres that has the outbox line of
// migrations.
func NewMemory() Provider { return &memory{locks: map[string]*memoryLock{}} }

type memory struct {
	mu    sync.Mutex
	locks map[string]*memoryLock
}

type memoryLock struct {
	owner        string
	fence        int64
	since, until time.Time
}

// Acquire implements Provider.
func (m *memory) Acquire(ctx context.Context, r Request) (Grant, error) {
	if err := ctx.Err(); err != nil {
		return Grant{}, fmt.Errorf("acquire the lock %s: %w", r.Name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.locks[r.Name]
	if l == nil {
		l = &memoryLock{}
		m.locks[r.Name] = l
	}
	g := Grant{Name: r.Name, Lease: r.Lease, Owner: r.ID.String()}
	now := time.Now()
	switch {
	case l.owner == g.Owner:
	case now.Before(l.until):
		return g, ErrNotAcquired
	default:
		l.owner, l.since, l.until = g.Owner, now, now.Add(r.Lease)
		l.fence = max(l.fence+1, now.UnixMicro())
	}
	g.Fence = l.fence
	return g, nil
}

// heldBy returns the lock if g has it.
func (m *memory) heldBy(g Grant) (*memoryLock, error) {
	l := m.locks[g.Name]
	if l == nil || l.owner != g.Owner || !time.Now().Before(l.until) {
		return nil, fmt.Errorf("the lock %s: %w", g.Name, ErrLost)
	}
	return l, nil
}

// Renew implements Provider.
func (m *memory) Renew(_ context.Context, g Grant, lease time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, err := m.heldBy(g)
	if err != nil {
		return err
	}
	if until := time.Now().Add(lease); until.After(l.until) {
		l.until = until
	}
	return nil
}

// Release implements Provider.
func (m *memory) Release(_ context.Context, g Grant, atLeast time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, err := m.heldBy(g)
	if err != nil {
		return err
	}
	l.until = l.since.Add(atLeast)
	if now := time.Now(); l.until.Before(now) {
		l.until = now
	}
	return nil
}

// Guard implements Provider.
func (m *memory) Guard(ctx context.Context, tx *sql.Tx, g Grant) error {
	m.mu.Lock()
	_, err := m.heldBy(g)
	m.mu.Unlock()
	if err != nil {
		return err
	}
	ok, err := jobdb.Guard(ctx, tx, jobdb.Fence{Name: g.Name, Owner: g.Owner, Number: g.Fence, Lease: g.Lease})
	if err == nil && !ok {
		err = ErrLost
	}
	if err != nil {
		return fmt.Errorf("guard by the lock %s: %w", g.Name, err)
	}
	return nil
}

// Check implements Provider.
func (m *memory) Check(context.Context) error { return nil }
