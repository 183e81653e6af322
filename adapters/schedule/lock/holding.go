package lock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	seam "github.com/millrace-go/millrace/adapters/schedule/internal/holding"
)

// holding is one holding of a lock, from the grant to the release. All its times
// are of the monotonic clock, and counted from before the request that they belong
// to.
type holding struct {
	locker *Locker // nil in a context of Assume
	lock   Lock
	grant  Grant
	asked  time.Time // when it was asked for

	ctx      context.Context //nolint:containedctx // the task's
	cancel   context.CancelCauseFunc
	upkeep   sync.WaitGroup // watch and keepAlive
	taskDone chan struct{}

	// storeCall admits one call of the store at a time. It is locked before mu, which
	// is never held during a call, or watch would wait for the store.
	storeCall sync.Mutex
	mu        sync.Mutex

	lease        time.Duration
	trustedUntil time.Time     // the lock is not relied on after this
	limit        time.Time     // AtMostFor: no renewal leads past it
	atLeast      time.Duration // since the acquisition
	timer        *time.Timer   // fires at trustedUntil
	ended        bool
}

var _ seam.Holding = (*holding)(nil)

// assumed reports that there is no lock: the context is one of Assume.
func (h *holding) assumed() bool { return h.locker == nil }

// begin starts the task's context and what looks after the lock.
func (h *holding) begin(ctx context.Context) {
	h.taskDone = make(chan struct{})
	h.limit, h.atLeast = h.asked.Add(h.lock.AtMostFor), h.lock.AtLeastFor
	h.trustedUntil = h.asked.Add(trusted(h.lease))
	ctx, h.cancel = context.WithCancelCause(ctx)
	h.ctx = within(ctx, h)
	h.timer = time.NewTimer(time.Until(h.trustedUntil))
	h.upkeep.Go(h.watch)
	if !h.locker.cfg.NoKeepAlive {
		h.upkeep.Go(h.keepAlive)
	}
}

// watch cancels the task when the lease can no longer be trusted.
func (h *holding) watch() {
	for {
		select {
		case <-h.taskDone:
			return
		case <-h.timer.C:
		}
		h.mu.Lock()
		left, limit, atMost := time.Until(h.trustedUntil), h.limit, h.lock.AtMostFor
		h.mu.Unlock()
		if left > 0 { // renewed meanwhile
			h.timer.Reset(left)
			continue
		}
		reason := "it could not be renewed in time"
		if atLimit(limit, atMost) {
			reason = fmt.Sprintf("it was held for AtMostFor, %s", atMost)
		}
		h.lose(fmt.Errorf("the lock %s: %w: %s", h.grant.Name, ErrLost, reason))
		return
	}
}

// atLimit reports whether the trust ended because of limit. The last renewal leads
// up to it, so the trust in that one ends by what trusted takes off a lease, at
// most that of the whole atMost, before limit. Twice as much allows for a timer
// that fires early.
func atLimit(limit time.Time, atMost time.Duration) bool {
	return time.Until(limit) <= 2*(atMost-trusted(atMost))
}

// lose cancels the task, once.
func (h *holding) lose(err error) {
	h.mu.Lock()
	first := !h.ended && h.ctx.Err() == nil
	h.mu.Unlock()
	h.cancel(err)
	if first {
		h.locker.cfg.Hooks.Lost(h.grant, err)
	}
}

// LossCause implements the seam to package schedule.
func (h *holding) LossCause() error {
	if err := context.Cause(h.ctx); errors.Is(err, ErrLost) {
		return err
	}
	return nil
}

// check returns nil while the lock is held and trusted.
func (h *holding) check() error {
	if err := h.LossCause(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.ended:
		return ErrNotLocked
	case !h.assumed() && !time.Now().Before(h.trustedUntil):
		return fmt.Errorf("the lock %s: %w: it could not be renewed in time", h.grant.Name, ErrLost)
	}
	return nil
}

// keepAlive renews the lock each third of its lease until the task has ended. A
// renewal that gets no answer is repeated each thirtieth of the lease; the timer
// ends the trust if none succeeds.
func (h *holding) keepAlive() {
	for pause := h.interval(3); h.pause(pause); {
		err := h.renew()
		switch {
		case err == nil:
			pause = h.interval(3)
		case errors.Is(err, ErrLost):
			h.lose(err)
			return
		default:
			pause = h.interval(30)
		}
	}
}

// interval is the part of a lease that n of make up.
func (h *holding) interval(n time.Duration) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lease / n
}

// pause waits for d, or returns false if the task has ended.
func (h *holding) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-h.taskDone:
		return false
	}
}

// renew asks the store once, for no longer than up to the limit.
func (h *holding) renew() error {
	h.storeCall.Lock()
	defer h.storeCall.Unlock()
	h.mu.Lock()
	lease := min(h.lease, time.Until(h.limit))
	h.mu.Unlock()
	if lease <= 0 {
		return nil
	}
	return h.renewFor(lease)
}

// renewFor renews the lock for lease. The caller holds storeCall.
func (h *holding) renewFor(lease time.Duration) error {
	asked := time.Now()
	h.mu.Lock()
	left := h.trustedUntil.Sub(asked)
	h.mu.Unlock()
	ctx, cancel := h.detached(min(h.locker.cfg.Timeout, max(left, time.Millisecond)))
	defer cancel()
	if err := h.locker.locks.Renew(ctx, h.grant, lease); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if until := asked.Add(trusted(lease)); until.After(h.trustedUntil) {
		h.trustedUntil = until
	}
	return nil
}

// detached is a context for a call of the store on the task's behalf, which must
// not end with the task's own.
func (h *holding) detached(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(h.ctx), d)
}

// extend sets new limits, counted from now.
func (h *holding) extend(atMost, atLeast time.Duration) error {
	lock := Lock{Name: h.grant.Name, AtMostFor: atMost, AtLeastFor: atLeast}
	if err := lock.Validate(); err != nil {
		return err
	}
	if h.assumed() {
		return nil
	}
	h.storeCall.Lock()
	defer h.storeCall.Unlock()
	if err := h.check(); err != nil {
		return err
	}
	lease := lock.lease(h.locker.cfg.Lease, !h.locker.cfg.NoKeepAlive)
	asked := time.Now()
	if err := h.renewFor(lease); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lock, h.lease, h.limit = lock, lease, asked.Add(atMost)
	h.atLeast = max(h.atLeast, time.Since(h.asked)+atLeast)
	if h.trustedUntil.After(h.limit) { // the store keeps it for longer than it may be used
		h.trustedUntil = h.limit
	}
	h.timer.Reset(time.Until(h.trustedUntil))
	h.locker.cfg.Hooks.Extended(h.grant, atMost)
	return nil
}

// end frees the lock, once, after everything that looked after it has ended.
func (h *holding) end() {
	h.mu.Lock()
	if h.ended {
		h.mu.Unlock()
		return
	}
	h.ended = true
	h.mu.Unlock()
	h.timer.Stop()
	close(h.taskDone)
	h.upkeep.Wait()
	defer h.cancel(ErrNotLocked)
	if h.LossCause() != nil && time.Now().After(h.trustedUntil) {
		return // nothing is left to free
	}
	ctx, cancel := h.detached(h.locker.cfg.Timeout)
	defer cancel()
	if err := h.locker.locks.Release(ctx, h.grant, h.atLeast); err != nil && h.LossCause() == nil {
		h.locker.cfg.Hooks.NotReleased(h.grant, err)
	}
}

// discard frees a lock that was asked for without an answer.
func (h *holding) discard() {
	ctx, cancel := context.WithTimeout(context.Background(), h.locker.cfg.Timeout)
	defer cancel()
	_ = h.locker.locks.Release(ctx, h.grant, 0) // else it lapses by itself
}

// Waive implements the seam to package schedule.
func (h *holding) Waive() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.atLeast = 0
}

// Contain implements the seam to package schedule.
func (h *holding) Contain(ctx context.Context, task func(context.Context) error) error {
	_, err := contain(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, task(ctx) })
	return err
}

// OutcomeOf implements the seam to package schedule.
func (h *holding) OutcomeOf(err error, stopping context.Context) string { //nolint:revive // it is judged, not waited for
	return string(outcomeOf(err, stopping))
}
