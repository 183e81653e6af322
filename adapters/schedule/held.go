package schedule

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// held is one holding of a lock, from the grant to the release. All its times are
// of the monotonic clock, and counted from before the request that they belong to.
type held struct {
	locker *Locker
	lock   Lock
	grant  Grant
	asked  time.Time // when it was asked for

	ctx    context.Context // the task's
	cancel context.CancelCauseFunc
	upkeep sync.WaitGroup
	stop   chan struct{} // closed when the task has ended

	asking sync.Mutex // one question to the store at a time; before mu
	mu     sync.Mutex // never held while the store is asked, or watch would wait

	lease   time.Duration
	until   time.Time     // after which the lock is no longer trusted
	last    time.Time     // AtMostFor: no renewal leads past it
	atLeast time.Duration // since the acquisition
	timer   *time.Timer
	ended   bool
}

// begin starts the task's context and what looks after the lock.
func (h *held) begin(ctx context.Context) {
	h.stop = make(chan struct{})
	h.last, h.atLeast = h.asked.Add(h.lock.AtMostFor), h.lock.AtLeastFor
	h.until = h.asked.Add(trusted(h.lease))
	ctx, h.cancel = context.WithCancelCause(ctx)
	h.ctx = context.WithValue(ctx, heldKey{}, &scope{held: h, outer: scopeOf(ctx)})
	h.timer = time.NewTimer(time.Until(h.until))
	h.upkeep.Go(h.watch)
	if !h.locker.cfg.NoKeepAlive {
		h.upkeep.Go(h.keepAlive)
	}
}

// watch cancels the task when the trust in the lease is over.
func (h *held) watch() {
	for {
		select {
		case <-h.stop:
			return
		case <-h.timer.C:
		}
		h.mu.Lock()
		left, last, most := time.Until(h.until), h.last, h.lock.AtMostFor
		h.mu.Unlock()
		if left > 0 { // renewed meanwhile
			h.timer.Reset(left)
			continue
		}
		why := "it could not be renewed in time"
		if !time.Now().Before(last.Add(-most/50 - 5*time.Millisecond)) {
			why = fmt.Sprintf("it was held for LockAtMostFor, %s", most)
		}
		h.lose(fmt.Errorf("the lock %s: %w: %s", h.grant.Name, ErrLockLost, why))
		return
	}
}

// lose cancels the task, once.
func (h *held) lose(err error) {
	h.mu.Lock()
	first := !h.ended && h.ctx.Err() == nil
	h.mu.Unlock()
	h.cancel(err)
	if first {
		call2(h.locker.cfg.Hooks.Lost, h.grant, err)
	}
}

// lost is the reason why the task was cancelled, if that was the loss of its lock.
func (h *held) lost() error {
	if err := context.Cause(h.ctx); errors.Is(err, ErrLockLost) {
		return err
	}
	return nil
}

// keepAlive renews the lock each third of its lease until the task has ended. A
// renewal that gets no answer is tried again each thirtieth; the timer ends the
// trust if none does.
func (h *held) keepAlive() {
	for wait := h.third(); h.sleep(wait); {
		pause, err := h.renew()
		switch {
		case err == nil:
			wait = h.third()
		case errors.Is(err, ErrLockLost):
			h.lose(err)
			return
		default:
			wait = pause
		}
	}
}

func (h *held) third() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lease / 3
}

// renew asks the store once. pause is how long to wait before the next try.
func (h *held) renew() (pause time.Duration, err error) {
	h.asking.Lock()
	defer h.asking.Unlock()
	h.mu.Lock()
	lease, pause := min(h.lease, time.Until(h.last)), h.lease/30
	h.mu.Unlock()
	if lease <= 0 {
		return pause, nil
	}
	return pause, h.ask(lease)
}

// ask renews for lease, under h.asking.
func (h *held) ask(lease time.Duration) error {
	asked := time.Now()
	h.mu.Lock()
	left := h.until.Sub(asked)
	h.mu.Unlock()
	limited, cancel := h.limited(min(h.locker.cfg.Timeout, max(left, time.Millisecond)))
	defer cancel()
	if err := h.locker.locks.Renew(limited, h.grant, lease); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if until := asked.Add(trusted(lease)); until.After(h.until) {
		h.until = until
	}
	return nil
}

// limited is a context for a call of the store on the task's behalf, which must
// not end with the task's own.
func (h *held) limited(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(h.ctx), d)
}

// sleep waits for d, or returns false if the task has ended.
func (h *held) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-h.stop:
		return false
	}
}

// extend sets new limits, counted from now.
func (h *held) extend(atMost, atLeast time.Duration) error {
	lock := Lock{Name: h.grant.Name, AtMostFor: atMost, AtLeastFor: atLeast}
	if err := lock.Validate(); err != nil {
		return err
	}
	if h.locker == nil {
		return nil
	}
	h.asking.Lock()
	defer h.asking.Unlock()
	if err := h.assert(); err != nil {
		return err
	}
	lease := lock.lease(h.locker.cfg.Lease, !h.locker.cfg.NoKeepAlive)
	asked := time.Now()
	if err := h.ask(lease); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lock, h.lease, h.last = lock, lease, asked.Add(atMost)
	h.atLeast = max(h.atLeast, time.Since(h.asked)+atLeast)
	if h.until.After(h.last) { // the store keeps it for longer than it may be used
		h.until = h.last
	}
	h.timer.Reset(time.Until(h.until))
	call2(h.locker.cfg.Hooks.Extended, h.grant, atMost)
	return nil
}

// end frees the lock, once, after everything that looked after it has ended.
func (h *held) end() {
	h.mu.Lock()
	if h.ended {
		h.mu.Unlock()
		return
	}
	h.ended = true
	h.mu.Unlock()
	h.timer.Stop()
	close(h.stop)
	h.upkeep.Wait()
	defer h.cancel(ErrNotLocked)
	if h.lost() != nil && time.Now().After(h.until) {
		return // nothing is left to free
	}
	limited, cancel := h.limited(h.locker.cfg.Timeout)
	defer cancel()
	if err := h.locker.locks.Release(limited, h.grant, h.atLeast); err != nil && h.lost() == nil {
		call2(h.locker.cfg.Hooks.NotReleased, h.grant, err)
	}
}

// discard frees a lock that was asked for without an answer.
func (h *held) discard() {
	limited, cancel := context.WithTimeout(context.Background(), h.locker.cfg.Timeout)
	defer cancel()
	_ = h.locker.locks.Release(limited, h.grant, 0) // else it lapses by itself
}

// waive lets the lock go as soon as the task ends: it did nothing.
func (h *held) waive() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.atLeast = 0
}
