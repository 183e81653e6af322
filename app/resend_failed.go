package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// releaseTimeout bounds what is still written after the job was told to end.
const releaseTimeout = 5 * time.Second

// ResendFailed is one run of the job that tries failed notifications again.
type ResendFailed struct {
	// Fence is the fencing token of the lock under which the job runs; it is noted
	// on each claim. 0 is none.
	Fence int64
	// Guard runs in each transaction of the job, before it writes. Its error rolls
	// the transaction back: it is to say that the lock was lost. Default: none.
	Guard func(ctx context.Context, tx Tx) error
	// Recorded is called for each attempt once it is recorded, in the context of the
	// run, concurrently. Default: nobody.
	Recorded func(ctx context.Context, a ResentAttempt)
}

// ResentAttempt is one attempt to send a notification again. It was made in the
// notification's own trace; the run has another one.
type ResentAttempt struct {
	NotificationID notification.ID
	Number         int                 // of the attempt, from 1
	Status         notification.Status // after it
	Trace          domain.Trace        // of the notification
	Err            error               // why it did not succeed
}

// Resent counts what became of the notifications that one run claimed.
type Resent struct {
	Claimed   int
	Sent      int
	Failed    int // will be tried again
	Abandoned int
	Lost      int // settled by somebody else meanwhile
	Released  int // given back without an attempt that counts
}

// ResendFailedNotifications tries again what has failed and waited long enough,
// and takes up what somebody else claimed and left. It claims batches, sends each
// in parallel and records every outcome in a transaction of its own, until a
// batch is short or ctx ends. Several may run at once, on several nodes: a claim
// belongs to one of them.
//
// When ctx ends, attempts that have begun are finished and recorded, within
// their timeouts, and the rest of the batch is given back. An unavailable gateway
// ends the run too, with ErrUnavailable. What cannot be recorded is an error, and
// is tried again when its claim has run out, under the same idempotency key.
func (s *Sender) ResendFailedNotifications(ctx context.Context, cmd ResendFailed) (Resent, error) {
	if cmd.Guard == nil {
		cmd.Guard = func(context.Context, Tx) error { return nil }
	}
	if cmd.Recorded == nil {
		cmd.Recorded = func(context.Context, ResentAttempt) {}
	}
	r := &resend{s: s, cmd: cmd}
	for ctx.Err() == nil {
		claims, err := r.claim(ctx)
		if err != nil {
			return r.done, fmt.Errorf("resend failed notifications: %w", err)
		}
		r.done.Claimed += len(claims)
		r.work(ctx, claims)
		if len(r.errs) > 0 {
			return r.done, fmt.Errorf("resend failed notifications: %w", errors.Join(r.errs...))
		}
		if len(claims) < s.cfg.Batch {
			return r.done, nil
		}
	}
	return r.done, nil
}

// resend is one run.
type resend struct {
	s   *Sender
	cmd ResendFailed

	mu   sync.Mutex
	done Resent
	errs []error // end the run
}

func (r *resend) claim(ctx context.Context) (claims []Claim, err error) {
	err = r.transact(ctx, func(ctx context.Context, tx Tx) (err error) {
		claims, err = tx.Claims().Claim(ctx, ClaimQuery{Limit: r.s.cfg.Batch, Lease: r.s.cfg.Lease, Fence: r.cmd.Fence})
		return err
	})
	return claims, err
}

// transact runs fn in a unit of work, behind the guard.
func (r *resend) transact(ctx context.Context, fn func(context.Context, Tx) error) error {
	return r.s.uow.Do(ctx, func(ctx context.Context, tx Tx) error {
		if err := r.cmd.Guard(ctx, tx); err != nil {
			return err
		}
		return fn(ctx, tx)
	})
}

// work sends a batch, with as many workers as may send at once, and waits for
// them. What none of them took is given back.
func (r *resend) work(ctx context.Context, claims []Claim) {
	queue := make(chan Claim, len(claims))
	for _, c := range claims {
		queue <- c
	}
	close(queue)
	var workers sync.WaitGroup
	for range min(r.s.cfg.Parallel, len(claims)) {
		workers.Go(func() {
			for ctx.Err() == nil && !r.ended() {
				c, ok := <-queue
				if !ok {
					return
				}
				r.one(context.WithoutCancel(ctx), c)
			}
		})
	}
	workers.Wait()
	var rest []Claim
	for c := range queue {
		rest = append(rest, c)
	}
	r.release(ctx, 0, rest...)
}

// one makes one attempt and records it.
func (r *resend) one(ctx context.Context, c Claim) {
	run, over := ctx, c.Status == "" || c.Status.Final()
	var outcome error
	if !over {
		ctx = WithTrace(r.s.cfg.Tracer.Continue(ctx, c.Trace.Parent), c.Trace)
		outcome = r.s.attempt(ctx, Delivery{
			IdempotencyKey: IdempotencyKey(c.ID, c.Group), NotificationID: c.ID, Attempt: c.Attempt, Content: c.Content,
		})
	}
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	switch {
	case over:
		r.forget(ctx, c)
	case errors.Is(outcome, ErrUnavailable):
		r.fail(outcome)
		r.release(ctx, r.s.pause(outcome), c)
	case errors.Is(outcome, ErrNotNow):
		r.release(ctx, r.s.pause(outcome), c)
	default:
		if status := r.record(ctx, c, outcome); status != "" {
			r.cmd.Recorded(run, ResentAttempt{NotificationID: c.ID, Number: c.Attempt, Status: status, Trace: c.Trace, Err: outcome})
		}
	}
}

// forget drops a claim of a notification that is over, or that is gone.
func (r *resend) forget(ctx context.Context, c Claim) {
	err := r.transact(ctx, func(ctx context.Context, tx Tx) error {
		if err := tx.Claims().Confirm(ctx, c); err != nil {
			return err
		}
		return tx.Claims().Drop(ctx, c.ID)
	})
	if err != nil && !errors.Is(err, ErrClaimLost) {
		r.fail(err)
		return
	}
	r.count(func(done *Resent) { done.Lost++ })
}

// record writes the notification first and the claim after it, in the order in
// which everybody locks the two. It returns the notification's status, and none if
// nothing was written.
func (r *resend) record(ctx context.Context, c Claim, outcome error) (status notification.Status) {
	err := r.transact(ctx, func(ctx context.Context, tx Tx) error {
		n, err := tx.Notifications().Get(ctx, c.ID)
		if err != nil {
			return err
		}
		if err := r.s.keep.save(ctx, tx, n, r.s.verdict(outcome)); err != nil {
			return err
		}
		if err := tx.Claims().Confirm(ctx, c); err != nil {
			return err
		}
		status = n.Status()
		return r.s.follow(ctx, tx, n, c.Group, outcome)
	})
	switch {
	case lost(err):
		r.count(func(done *Resent) { done.Lost++ })
		return ""
	case err != nil:
		r.fail(fmt.Errorf("record attempt %d of notification %s: %w", c.Attempt, c.ID, err))
		return ""
	case status == notification.StatusSent:
		r.count(func(done *Resent) { done.Sent++ })
	case status == notification.StatusAbandoned:
		r.count(func(done *Resent) { done.Abandoned++ })
	default:
		r.count(func(done *Resent) { done.Failed++ })
	}
	return status
}

// lost reports that somebody else has decided about the notification.
func lost(err error) bool {
	return errors.Is(err, ErrClaimLost) || errors.Is(err, domain.ErrVersionConflict) ||
		errors.Is(err, domain.ErrIllegalAct) || errors.Is(err, domain.ErrNotFound)
}

// release gives claims back, also when the run was told to end.
func (r *resend) release(ctx context.Context, wait time.Duration, claims ...Claim) {
	if len(claims) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	err := r.transact(ctx, func(ctx context.Context, tx Tx) error { return tx.Claims().Release(ctx, wait, claims...) })
	if err != nil {
		r.fail(fmt.Errorf("release claims: %w", err))
		return
	}
	r.count(func(done *Resent) { done.Released += len(claims) })
}

func (r *resend) count(add func(*Resent)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	add(&r.done)
}

const maxErrors = 3

func (r *resend) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.errs) < maxErrors {
		r.errs = append(r.errs, err)
	}
}

func (r *resend) ended() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.errs) > 0
}
