package lock

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	seam "github.com/millrace-go/millrace/adapters/schedule/internal/holding"
)

// scopeKey finds the locks in a context.
type scopeKey struct{}

// scope is one lock around a task, within those further out.
type scope struct {
	holding *holding
	outer   *scope
}

func scopeOf(ctx context.Context) *scope {
	s, _ := ctx.Value(scopeKey{}).(*scope)
	return s
}

// within returns a context under h.
func within(ctx context.Context, h *holding) context.Context {
	return seam.With(context.WithValue(ctx, scopeKey{}, &scope{holding: h, outer: scopeOf(ctx)}), h)
}

// heldIn returns the holding of the lock name that ctx is under, if any.
func (l *Locker) heldIn(ctx context.Context, name string) *holding {
	for s := scopeOf(ctx); s != nil; s = s.outer {
		h := s.holding
		if h.grant.Name == name && (h.assumed() || h.locker.locks == l.locks) && h.check() == nil {
			return h
		}
	}
	return nil
}

// innermost returns the holding that ctx is under.
func innermost(ctx context.Context) (*holding, error) {
	s := scopeOf(ctx)
	if s == nil {
		return nil, ErrNotLocked
	}
	return s.holding, s.holding.check()
}

// Assert returns nil if ctx belongs to a task whose lock is held and, as far as
// the clock tells, not lost; otherwise ErrNotLocked or ErrLost. It works in the
// goroutines of the task too. It is cheap, and does not replace Guard.
func Assert(ctx context.Context) error {
	_, err := innermost(ctx)
	return err
}

// Fence returns the fence of the innermost lock that ctx is under.
func Fence(ctx context.Context) (fence int64, ok bool) {
	s := scopeOf(ctx)
	if s == nil {
		return 0, false
	}
	return s.holding.grant.Fence, true
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
// error that wraps ErrLost, if somebody else has or could have the lock, and until
// tx ends no guarded writes of others get in between. Call it first in each
// transaction of a task that writes, and keep those transactions shorter than half
// a lease: the renewal waits for them. The database ends a guarded transaction
// that is idle for a lease, or for 30 s.
func Guard(ctx context.Context, tx *sql.Tx) error {
	h, err := innermost(ctx)
	if err != nil {
		return err
	}
	if h.assumed() {
		return nil
	}
	return h.locker.locks.Guard(ctx, tx, h.grant)
}

// Assume returns a context as under the lock name, for tests of tasks: Guard and
// Extend succeed and do nothing, and Do runs at once.
func Assume(ctx context.Context, name string) context.Context {
	return within(ctx, &holding{ctx: context.Background(), grant: Grant{Name: name, Owner: "assumed", Fence: 1}})
}
