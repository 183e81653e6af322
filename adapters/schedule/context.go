package schedule

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// heldKey finds the locks in a context.
type heldKey struct{}

// scope is one lock around a task, within those further out.
type scope struct {
	held  *held
	slot  *slot // the run of a scheduler that the task belongs to, if any
	outer *scope
}

func scopeOf(ctx context.Context) *scope {
	s, _ := ctx.Value(heldKey{}).(*scope)
	return s
}

// heldIn returns the holding of the lock name that ctx is under, if any.
func (l *Locker) heldIn(ctx context.Context, name string) *held {
	for s := scopeOf(ctx); s != nil; s = s.outer {
		if of := s.held.locker; s.held.grant.Name == name && (of == nil || of.locks == l.locks) && s.held.assert() == nil {
			return s.held
		}
	}
	return nil
}

// innermost returns the holding that ctx is under.
func innermost(ctx context.Context) (*held, error) {
	s := scopeOf(ctx)
	if s == nil {
		return nil, ErrNotLocked
	}
	return s.held, s.held.assert()
}

// assert returns nil while the lock is held and trusted.
func (h *held) assert() error {
	if err := h.lost(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.ended:
		return ErrNotLocked
	case h.locker != nil && !time.Now().Before(h.until):
		return fmt.Errorf("the lock %s: %w: it could not be renewed in time", h.grant.Name, ErrLockLost)
	}
	return nil
}

// AssertLocked returns nil if ctx belongs to a task whose lock is held and, as far
// as the clock tells, not lost: else ErrNotLocked or ErrLockLost. It works in the
// goroutines of the task too. It is cheap, and no substitute for Guard.
func AssertLocked(ctx context.Context) error {
	_, err := innermost(ctx)
	return err
}

// Fence returns the fence of the innermost lock that ctx is under.
func Fence(ctx context.Context) (fence int64, ok bool) {
	s := scopeOf(ctx)
	if s == nil {
		return 0, false
	}
	return s.held.grant.Fence, true
}

// Extend gives the innermost lock new limits, counted from now: what remained of
// the old ones is forgotten, but the lock is never held for less long than it
// already had to be.
func Extend(ctx context.Context, atMost, atLeast time.Duration) error {
	h, err := innermost(ctx)
	if err == nil {
		err = h.extend(atMost, atLeast)
	}
	if err != nil {
		return fmt.Errorf("extend the lock: %w", err)
	}
	return nil
}

// Guard makes tx depend on the innermost lock that ctx is under: it fails, with an
// error that wraps ErrLockLost, if somebody else has or could have the lock, and
// until tx ends nobody else's guarded writes get in between. Call it first in each
// transaction of a task that writes, and keep those transactions shorter than half
// a lease: they hold up the renewal. One that is idle for a lease, or for 30 s, is
// ended by the database.
func Guard(ctx context.Context, tx *sql.Tx) error {
	h, err := innermost(ctx)
	if err != nil {
		return err
	}
	return h.guard(ctx, tx)
}

func (h *held) guard(ctx context.Context, tx *sql.Tx) error {
	if h.locker == nil {
		return nil
	}
	return h.locker.locks.Guard(ctx, tx, h.grant)
}

// AssumeLocked returns a context as under the lock name, for tests of tasks: Guard
// and Extend succeed and do nothing, and Do runs at once.
func AssumeLocked(ctx context.Context, name string) context.Context {
	h := &held{ctx: context.Background(), grant: Grant{Name: name, Owner: "assumed", Fence: 1}}
	return context.WithValue(ctx, heldKey{}, &scope{held: h, outer: scopeOf(ctx)})
}
