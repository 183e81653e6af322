package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// read fetches batches ahead of the publisher until ctx ends. Its pauses grow while
// it finds nothing. After a read that was not cut short it always pauses for
// PollMin, so that a trickle of rows does not cost one poll a row.
func (l *leadership) read(ctx context.Context, batches chan<- *inFlightBatch) {
	cfg := &l.r.cfg
	idle := idleBackoff{cfg: cfg, pause: cfg.PollMin}
	wake := WakeNone
	for {
		rows, bytes := l.window.capacity(ctx, cfg.BatchRows)
		if rows == 0 {
			return
		}
		began := time.Now()
		// A read that has begun is let finish when the relay stops: it is short,
		// and cancelling it would cost the connection.
		b, err := l.session.Read(l.work, rows, min(bytes, cfg.BatchBytes))
		if err != nil {
			if l.work.Err() == nil {
				l.abort(&sessionError{fmt.Errorf("read the log: %w", err)})
			}
			return
		}
		l.recordRead(b, began, wake)
		if len(b.Entries) > 0 || b.Moved {
			f := l.window.add(b, began)
			select {
			case batches <- f:
			case <-l.work.Done():
				for i := range b.Entries {
					l.window.resolve(f, i, nil, true)
				}
				return
			}
		}
		if len(b.Entries) == 0 {
			wake = l.idle(ctx, &idle)
			continue
		}
		if idle.found() {
			l.disarm(ctx)
		}
		wake = WakeNone
		if !b.More {
			wake = WakePoll
			sleep(ctx, cfg.PollMin)
		}
	}
}

// idle waits after a read that found nothing, and returns what ended the wait.
func (l *leadership) idle(ctx context.Context, b *idleBackoff) WakeSource {
	wait, arm := b.empty()
	if arm {
		l.arm(ctx)
	}
	switch {
	case wait == 0 || !l.waitForWake(ctx, wait):
		return WakePoll
	case b.armed:
		b.waiting = false
		return WakeNotify
	}
	return WakeCall
}

// arm asks writers for notifications. If that fails, the relay wakes by its own
// poll, later than it could have.
func (l *leadership) arm(ctx context.Context) {
	d := armPolls * l.r.cfg.PollIdle
	if err := l.r.cfg.Listener.Arm(ctx, d); err != nil && ctx.Err() == nil {
		l.r.cfg.Hooks.Retrying(err, d)
	}
}

func (l *leadership) disarm(ctx context.Context) {
	if err := l.r.cfg.Listener.Disarm(ctx); err != nil && ctx.Err() == nil {
		l.r.cfg.Hooks.Retrying(err, 0)
	}
}

// waitForWake waits for d, a call of Wake, or the end of ctx. It reports whether
// it was the call.
func (l *leadership) waitForWake(ctx context.Context, d time.Duration) (called bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-l.r.wake:
		return true
	case <-t.C:
	}
	return false
}

func (l *leadership) recordRead(b Batch, began time.Time, wake WakeSource) {
	inFlight := l.window.inFlight()
	l.r.updateStatus(func(s *Status) {
		s.Read, s.Gaps, s.InFlight = time.Now(), len(b.Cursor.Gaps), inFlight
		switch {
		case inFlight == 0 && len(b.Entries) == 0:
			s.Stalled = time.Time{}
		case inFlight > 0 && s.Stalled.IsZero():
			s.Stalled = began
		}
	})
	if len(b.Entries) == 0 && !b.Moved {
		return
	}
	info := ReadInfo{Rows: len(b.Entries), Position: b.Cursor.Position, Gaps: len(b.Cursor.Gaps), More: b.More, Took: time.Since(began), Wake: wake}
	for i := range b.Entries {
		info.Bytes += len(b.Entries[i].Payload)
		if at := b.Entries[i].CreatedAt; info.Oldest.IsZero() || at.Before(info.Oldest) {
			info.Oldest = at
		}
	}
	l.r.cfg.Hooks.Read(info)
}

// dispatch hands batches to the publisher, one after the other.
func (l *leadership) dispatch(batches <-chan *inFlightBatch) {
	vetter, _ := l.r.pub.(Vetter)
	for f := range batches {
		send, index := l.vet(f, vetter)
		if len(send) > 0 {
			l.pub.PublishBatch(l.work, send, func(i int, err error) {
				if index != nil {
					i = index[i]
				}
				l.ack(f, i, err)
			})
		}
	}
}

// vet parks what the broker would refuse and what waits behind a parked message. It
// returns the other entries with their indexes in the batch (nil if none was parked).
func (l *leadership) vet(f *inFlightBatch, vetter Vetter) (send []Entry, index []int) {
	entries := f.batch.Entries
	for i := range entries {
		e := &entries[i]
		reason := ""
		if l.isParked(e) {
			reason = ReasonBehind
		} else if vetter != nil {
			if err := vetter.Vet(l.work, e); errors.Is(err, ErrUnpublishable) {
				reason = err.Error()
			}
		}
		if reason == "" {
			if index != nil {
				send, index = append(send, *e), append(index, i)
			}
			continue
		}
		if index == nil { // the first one parked: from here on, copy
			send, index = append([]Entry(nil), entries[:i]...), make([]int, i, len(entries))
			for j := range index {
				index[j] = j
			}
		}
		l.park(f, i, reason)
	}
	if index == nil {
		return entries, nil
	}
	return send, index
}

// ack resolves one entry by the publisher's answer.
func (l *leadership) ack(f *inFlightBatch, i int, err error) {
	switch {
	case err == nil:
		if l.window.resolve(f, i, nil, false) {
			l.delivered(f)
		}
	case errors.Is(err, ErrUnpublishable):
		l.park(f, i, err.Error())
	default:
		l.abort(fmt.Errorf("%w: %w", ErrPublish, err))
		l.window.resolve(f, i, nil, true)
	}
}

func (l *leadership) delivered(f *inFlightBatch) {
	now := time.Now()
	l.r.updateStatus(func(s *Status) { s.Delivered, s.Stalled, s.Err = now, time.Time{}, nil })
	l.r.cfg.Hooks.Acked(f.batch.Entries, f.parked)
	l.r.cfg.Hooks.Delivered(len(f.batch.Entries), now.Sub(f.readAt))
}

func (l *leadership) isParked(e *Entry) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.parked) > 0 && l.parked[ParkedKey{e.Topic, e.Key}]
}

func (l *leadership) park(f *inFlightBatch, i int, reason string) {
	e := &f.batch.Entries[i]
	p := Parked{Position: e.Position, ParkedKey: ParkedKey{e.Topic, e.Key}, Reason: reason}
	l.mu.Lock()
	l.parked[p.ParkedKey] = true
	l.mu.Unlock()
	l.r.cfg.Hooks.Parked(p)
	if l.window.resolve(f, i, &p, false) {
		l.delivered(f)
	}
}

// save makes the cursor durable as batches are acknowledged. It coalesces: it saves
// at most once per CheckpointInterval, and spends at most a fifth of its time in
// saving. While somebody holds a snapshot for hours, each save must walk over all
// versions of the cursor's row since then, and becomes slow.
func (l *leadership) save(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.window.resolved:
		}
		batches, cp, ok := l.window.acknowledged()
		if !ok {
			continue
		}
		began := time.Now()
		if err := l.session.Save(ctx, cp); err != nil {
			if ctx.Err() == nil {
				l.abort(&sessionError{fmt.Errorf("save the cursor: %w", err)})
			}
			return
		}
		took := time.Since(began)
		l.window.release(len(batches))
		l.r.updateStatus(func(s *Status) { s.Position = cp.Cursor.Position })
		l.r.cfg.Hooks.Saved(cp.Cursor, took)
		if every := l.r.cfg.CheckpointInterval; every > 0 {
			sleep(ctx, max(every-took, 4*took))
		}
	}
}
