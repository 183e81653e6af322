package lock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"github.com/millrace-go/millrace/adapters/internal/problems"
)

// Config configures a Locker. The zero value is usable.
type Config struct {
	// Lease is for how long the store gives a lock at a time, if AtLeastFor is not
	// longer; it is renewed each third of that. It is what a crashed holder costs.
	// Default 30 s.
	Lease time.Duration
	// NoKeepAlive takes locks for their whole AtMostFor instead, as ShedLock does:
	// a crash then holds them for that long. Default off.
	NoKeepAlive bool
	// Timeout bounds one call of the store. Default 5 s.
	Timeout time.Duration
	// Hooks report what happens. Default: none.
	Hooks Hooks
}

func (c Config) withDefaults() Config {
	c.Lease = cmp.Or(c.Lease, 30*time.Second)
	c.Timeout = cmp.Or(c.Timeout, 5*time.Second)
	c.Hooks = c.Hooks.withDefaults()
	return c
}

// Locker runs tasks under locks. It is safe for concurrent use and holds nothing
// while no task runs.
type Locker struct {
	locks Provider
	cfg   Config
}

// NewLocker returns a Locker on locks. It does no I/O.
func NewLocker(locks Provider, cfg Config) (*Locker, error) {
	cfg = cfg.withDefaults()
	var bad problems.List
	problems.NotNil(&bad, "locks", locks != nil)
	problems.AtLeast(&bad, "Lease", cfg.Lease, 10*time.Millisecond)
	problems.Positive(&bad, "Timeout", cfg.Timeout)
	if err := bad.Err(); err != nil {
		return nil, fmt.Errorf("locker: %w", err)
	}
	return &Locker{locks: locks, cfg: cfg}, nil
}

// Check returns an error that wraps ErrUnsafeStore if the store of the locks is
// set up so that it may forget them, and another one if it could not be asked.
func (l *Locker) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	return l.locks.Check(ctx)
}

// Do runs task if it gets lock, and returns when the task has ended and the lock
// is freed. It never waits for a holder. A panic of the task becomes an error.
// Under a lock of the same name, in ctx, the task simply runs.
//
// The task must heed its context: it is cancelled when ctx is, and with ErrLost as
// its cause when the lock is lost.
func (l *Locker) Do(ctx context.Context, lock Lock, task func(context.Context) error) Result[struct{}] {
	return Do(ctx, l, lock, func(ctx context.Context) (struct{}, error) { return struct{}{}, task(ctx) })
}

// Do is Locker.Do for a task that returns a value.
func Do[T any](ctx context.Context, l *Locker, lock Lock, task func(context.Context) (T, error)) (r Result[T]) {
	if h := l.heldIn(ctx, lock.Name); h != nil {
		r.Executed, r.Fence = true, h.grant.Fence
		r.Value, r.Err = contain(ctx, task)
		return r
	}
	h, err := l.acquire(ctx, lock)
	if h == nil {
		r.Err = err
		return r
	}
	r.Executed, r.Fence = true, h.grant.Fence
	began := time.Now()
	defer func() { // also when the task ends its goroutine
		h.end()
		l.cfg.Hooks.Finished(Finish{Grant: h.grant, Outcome: outcomeOf(r.Err, ctx), Took: time.Since(began), Err: r.Err})
	}()
	l.cfg.Hooks.Started(h.grant)
	r.Err = errGoexit
	r.Value, r.Err = contain(h.ctx, task)
	if lost := h.LossCause(); lost != nil && !errors.Is(r.Err, ErrLost) {
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

// acquire takes the lock and keeps it alive. It returns nil and no error if
// somebody else has it.
func (l *Locker) acquire(ctx context.Context, lock Lock) (*holding, error) {
	if err := lock.Validate(); err != nil {
		return nil, fmt.Errorf("lock %s: %w", lock.Name, err)
	}
	hooks := &l.cfg.Hooks
	hooks.Attempt(lock.Name)
	lease := lock.lease(l.cfg.Lease, !l.cfg.NoKeepAlive)
	request := Request{Name: lock.Name, ID: uuid.New(), At: time.Now(), Lease: lease}
	asked := time.Now()
	limited, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	grant, err := l.locks.Acquire(limited, request)
	cancel()
	if errors.Is(err, ErrNotAcquired) && !errors.Is(err, ErrStoreIsNew) {
		hooks.NotAcquired(lock.Name)
		return nil, nil
	}
	h := &holding{locker: l, lock: lock, grant: grant, lease: lease, asked: asked}
	if err == nil && time.Since(asked) >= trusted(lease) {
		err = fmt.Errorf("acquire the lock %s: the answer took %s, which is the lease", lock.Name, time.Since(asked))
	}
	if err != nil {
		if !errors.Is(err, ErrNotAcquired) {
			h.discard() // the answer was lost, perhaps not the request
		}
		hooks.Failed(lock.Name, err)
		return nil, err
	}
	hooks.Acquired(grant)
	h.begin(ctx)
	return h, nil
}
