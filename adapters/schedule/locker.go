package schedule

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// LockerConfig configures a Locker. The zero value is usable.
type LockerConfig struct {
	// Lease is for how long the store gives a lock at a time, if LockAtLeastFor is
	// not longer; it is renewed each third of that. It is what a crashed holder
	// costs. Default 30 s.
	Lease time.Duration
	// NoKeepAlive takes locks for their whole AtMostFor instead, as ShedLock does:
	// a crash then holds them up for as long.
	NoKeepAlive bool
	// Timeout bounds one call of the store. Default 5 s.
	Timeout time.Duration
	// Hooks tell what happens. Default: nobody.
	Hooks Hooks
}

// Locker runs tasks under locks. It is safe for concurrent use and holds nothing
// while no task runs.
type Locker struct {
	locks LockProvider
	cfg   LockerConfig
}

// NewLocker returns a Locker on locks. It does no I/O.
func NewLocker(locks LockProvider, cfg LockerConfig) (*Locker, error) {
	if cfg.Lease == 0 {
		cfg.Lease = 30 * time.Second
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	var errs []error
	if locks == nil {
		errs = append(errs, errors.New("locks: is nil"))
	}
	if cfg.Lease < 10*time.Millisecond {
		errs = append(errs, fmt.Errorf("Lease: must be at least 10ms, is %s", cfg.Lease))
	}
	if cfg.Timeout < 0 {
		errs = append(errs, fmt.Errorf("Timeout: must be positive, is %s", cfg.Timeout))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("locker: %w", err)
	}
	return &Locker{locks: locks, cfg: cfg}, nil
}

// Do runs task if it gets lock, and returns when the task has ended and the lock
// is freed. It never waits for a holder. A panic of the task becomes an error.
// Under a lock of the same name, in ctx, the task simply runs.
//
// The task must heed its context: it is cancelled when ctx is, and with
// ErrLockLost as its cause when the lock is lost.
func (l *Locker) Do(ctx context.Context, lock Lock, task func(context.Context) error) TaskResult[struct{}] {
	return Do(ctx, l, lock, func(ctx context.Context) (struct{}, error) { return struct{}{}, task(ctx) })
}

// Do is Locker.Do for a task that returns a value.
func Do[T any](ctx context.Context, l *Locker, lock Lock, task func(context.Context) (T, error)) (r TaskResult[T]) {
	if h := l.heldIn(ctx, lock.Name); h != nil {
		r.Executed, r.Fence = true, h.grant.Fence
		r.Value, r.Err = contain(ctx, task)
		return r
	}
	h, err := l.take(ctx, lock)
	if h == nil {
		r.Err = err
		return r
	}
	r.Executed, r.Fence = true, h.grant.Fence
	began := time.Now()
	defer func() { // also when the task ends its goroutine
		h.end()
		o := outcome(r.Err, ctx)
		if f := l.cfg.Hooks.Finished; f != nil {
			f(h.grant, o, time.Since(began), r.Err)
		}
	}()
	call(l.cfg.Hooks.Started, h.grant)
	r.Err = errors.New("the task ended its goroutine")
	r.Value, r.Err = contain(h.ctx, task)
	if lost := h.lost(); lost != nil && !errors.Is(r.Err, ErrLockLost) {
		r.Err = errors.Join(r.Err, lost)
	}
	return r
}

// contain runs task and turns a panic into an error.
func contain[T any](ctx context.Context, task func(context.Context) (T, error)) (value T, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return task(ctx)
}

// take acquires the lock and keeps it alive. It returns nil and no error if
// somebody else has it.
func (l *Locker) take(ctx context.Context, lock Lock) (*held, error) {
	if err := lock.Validate(); err != nil {
		return nil, fmt.Errorf("lock %s: %w", lock.Name, err)
	}
	hooks := &l.cfg.Hooks
	call(hooks.Attempt, lock.Name)
	lease := lock.lease(l.cfg.Lease, !l.cfg.NoKeepAlive)
	claim := NewClaim(lock.Name, lease)
	asked := time.Now()
	limited, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	grant, err := l.locks.Acquire(limited, claim)
	cancel()
	if wait := (*WaitError)(nil); err != nil && errors.Is(err, ErrNotAcquired) && !errors.As(err, &wait) {
		call(hooks.NotAcquired, lock.Name)
		return nil, nil
	}
	h := &held{locker: l, lock: lock, grant: grant, lease: lease, asked: asked}
	if err == nil && time.Since(asked) >= trusted(lease) {
		err = fmt.Errorf("acquire the lock %s: the answer took %s, which is the lease", lock.Name, time.Since(asked))
	}
	if err != nil {
		if !errors.Is(err, ErrNotAcquired) {
			h.discard() // the answer was lost, perhaps not the question
		}
		call2(hooks.Failed, lock.Name, err)
		return nil, err
	}
	call(hooks.Acquired, grant)
	h.begin(ctx)
	return h, nil
}
