package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// leadership is one period of leading, from Acquire to Release. Each name below is
// a method with a goroutine of its own; window joins them.
//
//	read ──batches──▶ dispatch ──▶ publisher ──acks──▶ window ──▶ save
//	                                            keepLease, maintain, reconsider
type leadership struct {
	r       *Relay
	session Session
	pub     BatchPublisher
	window  *window

	// work ends when publishing must stop at once, with the reason as its cause.
	work  context.Context //nolint:containedctx // ends with the lease
	abort context.CancelCauseFunc

	mu     sync.Mutex
	parked map[ParkedKey]bool
}

// sessionError marks an error after which this leader must not save: the state of
// its connection, and so its place in the log, is uncertain.
type sessionError struct{ err error }

func (e *sessionError) Error() string { return e.err.Error() }
func (e *sessionError) Unwrap() error { return e.err }

var errGraceful = errors.New("relay is stopping")

// maintenance is how often a leader calls Maintainer.Maintain.
const maintenance = time.Minute

// lead acquires the lease and leads until ctx ends (nil) or something breaks.
// It also returns for how long it led.
func (r *Relay) lead(ctx context.Context, pub BatchPublisher) (led time.Duration, err error) {
	session, err := r.log.Acquire(ctx, r.cfg.Name, r.owner, r.cfg.LeaseTTL)
	r.lease.acquired(err)
	if err != nil {
		if ctx.Err() != nil {
			return 0, nil
		}
		return 0, err
	}
	began := time.Now()
	l := &leadership{r: r, session: session, pub: pub, window: newWindow(r.cfg.WindowRows, r.cfg.WindowBytes), parked: map[ParkedKey]bool{}}
	l.work, l.abort = context.WithCancelCause(context.WithoutCancel(ctx))
	for _, k := range session.Parked() {
		l.parked[k] = true
	}
	r.updateStatus(func(s *Status) {
		before := *s
		*s = Status{Leading: true, Epoch: session.Epoch(), Read: began, Err: before.Err, Members: before.Members}
		if before.Epoch == s.Epoch-1 { // nobody else led meanwhile: what waited still does
			s.Stalled = before.Stalled
		}
	})
	r.cfg.Hooks.Leading(session.Epoch())
	err = l.run(ctx)
	r.updateStatus(func(s *Status) { s.Leading, s.InFlight = false, 0 })
	r.lease.ended(ctx)
	r.cfg.Hooks.Stopped(session.Epoch(), err)
	return time.Since(began), err
}

// run works until ctx ends or work is aborted, waits for what is in flight, saves
// and releases.
func (l *leadership) run(ctx context.Context) error {
	var publishing, upkeep sync.WaitGroup
	keep, stopUpkeep := context.WithCancel(context.WithoutCancel(ctx))
	reading, stopReading := context.WithCancel(l.work)
	upkeep.Go(func() { l.keepLease(keep, stopReading) })
	upkeep.Go(func() { l.save(keep) })
	upkeep.Go(func() { l.maintain(keep) })
	upkeep.Go(func() { l.reconsider(keep) })

	detach := context.AfterFunc(ctx, stopReading)
	batches := make(chan *inFlightBatch, 1)
	publishing.Go(func() { l.dispatch(batches) })
	l.read(reading, batches)
	close(batches)
	detach()
	stopReading()

	l.drain()
	l.abort(errGraceful) // callers that still wait for the broker give up
	publishing.Wait()
	stopUpkeep()
	upkeep.Wait()
	l.awaitResults()

	err := context.Cause(l.work)
	if errors.Is(err, errGraceful) {
		err = nil
	}
	return errors.Join(err, l.finish(ctx, err))
}

// drain waits until everything in flight is acknowledged and saved, for at most
// DrainTimeout, or until work is aborted.
func (l *leadership) drain() {
	deadline := time.NewTimer(l.r.cfg.DrainTimeout)
	defer deadline.Stop()
	for l.window.inFlight() > 0 {
		select {
		case <-l.window.released:
		case <-l.work.Done():
			return
		case <-deadline.C:
			return
		}
	}
}

// awaitResults waits until every entry is resolved, which publishers do promptly
// once work is aborted.
func (l *leadership) awaitResults() {
	for l.window.unresolved() > 0 {
		<-l.window.resolved
	}
}

// finish saves exactly what was delivered, unless err forbids it, and releases the
// session.
func (l *leadership) finish(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.r.cfg.LeaseTTL)
	defer cancel()
	var saveErr error
	var broken *sessionError
	lost := errors.As(err, &broken) || errors.Is(err, ErrLeaseLost)
	if !lost {
		if cp, ok := l.window.remaining(); ok {
			saveErr = l.session.Save(ctx, cp)
		}
	}
	if n := l.window.inFlight(); n > 0 && (lost || saveErr != nil) {
		l.r.cfg.Hooks.Unsaved(n)
	}
	if releaseErr := l.session.Release(ctx); saveErr == nil && err == nil {
		saveErr = releaseErr
	}
	if saveErr != nil {
		return fmt.Errorf("save the cursor while stopping: %w", saveErr)
	}
	return nil
}

// keepLease renews the lease and aborts the work when it is lost, or when no
// renewal has succeeded for so long that it may be: the time is taken before the
// request, on the monotonic clock, which also runs while the process is frozen.
//
// reopen ends the leadership gracefully: this relay begins another one at once, or
// another member of the fleet does.
func (l *leadership) keepLease(ctx context.Context, reopen func()) {
	ttl := l.r.cfg.LeaseTTL
	ends := time.AfterFunc(ttl-ttl/10, func() { l.abort(ErrLeaseLost) }) // also while a renewal hangs
	defer ends.Stop()
	renew := time.NewTicker(ttl * 9 / 20)
	defer renew.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-renew.C:
		}
		began := time.Now()
		limited, cancel := context.WithTimeout(ctx, ttl/2)
		handOver, err := l.r.lease.renew(limited, l.session, ttl)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrReopen), handOver:
			reopen()
		case err != nil:
			l.abort(&sessionError{fmt.Errorf("renew lease: %w", err)})
			return
		}
		ends.Reset(time.Until(began.Add(ttl - ttl/10)))
	}
}

// maintain calls the log's Maintain at the start and then regularly.
func (l *leadership) maintain(ctx context.Context) {
	m, ok := l.session.(Maintainer)
	if !ok {
		return
	}
	for ctx.Err() == nil {
		if err := m.Maintain(ctx); err != nil && ctx.Err() == nil {
			l.r.cfg.Hooks.Retrying(fmt.Errorf("maintain the log: %w", err), maintenance)
		}
		sleep(ctx, maintenance)
	}
}
