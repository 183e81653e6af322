package lock_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/millrace-go/millrace/adapters/schedule/lock"
)

// newLocker returns a locker on locks in memory; a service gives NewLocker those of
// NewPostgres or of package redislock.
func newLocker(cfg lock.Config) *lock.Locker {
	locker, err := lock.NewLocker(lock.NewMemory(), cfg)
	if err != nil {
		panic(err)
	}
	return locker
}

// A task under a lock, without a schedule: the second one is skipped, since the
// lock is kept for ten seconds at least.
func ExampleLocker_Do() {
	locker := newLocker(lock.Config{})
	report := lock.Lock{Name: "report", AtMostFor: time.Minute, AtLeastFor: 10 * time.Second}
	for range 2 {
		result := locker.Do(context.Background(), report, func(ctx context.Context) error {
			return lock.Assert(ctx)
		})
		fmt.Println(result.Executed, result.Err)
	}
	// Output:
	// true <nil>
	// false <nil>
}

// A task that returns a value.
func ExampleDo() {
	locker := newLocker(lock.Config{})
	result := lock.Do(context.Background(), locker, lock.Lock{Name: "count", AtMostFor: time.Minute}, func(context.Context) (int, error) {
		return 42, nil
	})
	fmt.Println(result.Value, result.Err)
	// Output: 42 <nil>
}

// A panic of the task is an error, and its lock is free afterwards.
func ExamplePanicError() {
	locker := newLocker(lock.Config{})
	result := locker.Do(context.Background(), lock.Lock{Name: "report", AtMostFor: time.Minute}, func(context.Context) error {
		panic("no paper")
	})
	var p *lock.PanicError
	fmt.Println(result.Executed, errors.As(result.Err, &p), p)
	// Output: true true panic: no paper
}

// The fence of a lock rises with every holder. Send it along where another system
// can refuse a lower one.
func ExampleFence() {
	locker := newLocker(lock.Config{})
	last := int64(0)
	for range 2 {
		locker.Do(context.Background(), lock.Lock{Name: "export", AtMostFor: time.Minute}, func(ctx context.Context) error {
			fence, held := lock.Fence(ctx)
			fmt.Println(held, fence > last)
			last = fence
			return nil
		})
	}
	// Output:
	// true true
	// true true
}

// A task that finds more to do than it thought.
func ExampleExtend() {
	locker := newLocker(lock.Config{Hooks: lock.Hooks{
		Extended: func(g lock.Grant, atMost time.Duration) { fmt.Println(g.Name, "may take another", atMost) },
	}})
	result := locker.Do(context.Background(), lock.Lock{Name: "import", AtMostFor: time.Minute}, func(ctx context.Context) error {
		return lock.Extend(ctx, time.Hour, 0)
	})
	fmt.Println(result.Err)
	// Output:
	// import may take another 1h0m0s
	// <nil>
}

// The test of a task needs neither a locker nor a database: under an assumed lock
// Guard passes and does nothing.
func ExampleAssume() {
	task := func(ctx context.Context) error { return lock.Guard(ctx, nil) } // a real one gives its transaction
	fmt.Println(task(context.Background()))
	fmt.Println(task(lock.Assume(context.Background(), "report")))
	// Output:
	// not under a lock
	// <nil>
}

// Everything that is wrong with a lock is reported at once.
func ExampleLock_Validate() {
	fmt.Println(lock.Lock{Name: "my lock", AtLeastFor: time.Minute}.Validate())
	// Output:
	// Name: must be 1 to 64 letters, digits, or any of . _ : -, is "my lock"
	// AtMostFor: must be at least 1ms, is 0s
	// AtLeastFor: must be at most AtMostFor (0s), is 1m0s
}

// plainLog writes lines without times to standard output.
func plainLog() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// unreachable are locks whose store can be taken away.
type unreachable struct {
	lock.Provider
	err error
}

func (u *unreachable) Acquire(ctx context.Context, r lock.Request) (lock.Grant, error) {
	if u.err != nil {
		return lock.Grant{}, u.err
	}
	return u.Provider.Acquire(ctx, r)
}

// What an operator needs to know goes into the log: here a store that is away and
// comes back.
func ExampleLogHooks() {
	locks := &unreachable{Provider: lock.NewMemory()}
	locker, err := lock.NewLocker(locks, lock.Config{Hooks: lock.LogHooks(plainLog())})
	if err != nil {
		fmt.Println(err)
		return
	}
	report := lock.Lock{Name: "report", AtMostFor: time.Minute}
	locks.err = errors.New("connection refused")
	for range 2 { // logged once
		locker.Do(context.Background(), report, func(context.Context) error { return nil })
	}
	locks.err = nil
	locker.Do(context.Background(), report, func(context.Context) error { return nil })
	// Output:
	// level=WARN msg="store of the locks does not answer" lock=report error="connection refused"
	// level=INFO msg="store of the locks answers again" lock=report
}

// Two listeners of the same events.
func ExampleHooks_Tee() {
	counted := 0
	counting := lock.Hooks{Acquired: func(lock.Grant) { counted++ }}
	printing := lock.Hooks{Acquired: func(g lock.Grant) { fmt.Println("acquired", g.Name) }}
	locker := newLocker(lock.Config{Hooks: counting.Tee(printing)})
	locker.Do(context.Background(), lock.Lock{Name: "report", AtMostFor: time.Minute}, func(context.Context) error { return nil })
	fmt.Println(counted)
	// Output:
	// acquired report
	// 1
}
