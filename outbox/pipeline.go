package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// read fetches batches ahead of the publisher until ctx ends. Pauses grow while
// nothing is found; after a read that was not cut short there is always a least
// pause, so that a trickle does not become a poll for every row.
func (l *leadership) read(ctx context.Context, batches chan<- *flight) {
	cfg := &l.r.cfg
	rest := slumber{cfg: cfg, pause: cfg.PollMin}
	wake := WakeNone
	for {
		rows, bytes := l.window.room(ctx, cfg.BatchRows)
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
		l.noteRead(b, began, wake)
		if len(b.Entries) > 0 || b.Moved {
			f := l.window.add(b, began)
			select {
			case batches <- f:
			case <-l.work.Done():
				for i := range b.Entries {
					l.window.settle(f, i, nil, true)
				}
				return
			}
		}
		if len(b.Entries) == 0 {
			wake = l.rest(ctx, &rest)
			continue
		}
		if rest.found() {
			l.hangOut(ctx, 0)
		}
		wake = WakeNone
		if !b.More {
			wake = WakePoll
			sleep(ctx, cfg.PollMin)
		}
	}
}

// rest waits after a read that found nothing, and returns what ended the wait.
func (l *leadership) rest(ctx context.Context, s *slumber) WakeSource {
	wait, hangOut := s.empty()
	if hangOut {
		l.hangOut(ctx, bellSpan*l.r.cfg.PollIdle)
	}
	switch {
	case wait == 0 || !l.idle(ctx, wait):
		return WakePoll
	case s.armed:
		s.asleep = false
		return WakeDoorbell
	}
	return WakeCall
}

// hangOut asks writers to ring for the next d. If that does not work, the relay
// wakes by itself later than it could have.
func (l *leadership) hangOut(ctx context.Context, d time.Duration) {
	if err := l.r.cfg.Doorbell.Idle(ctx, d); err != nil && ctx.Err() == nil {
		if h := l.r.cfg.Hooks.Retrying; h != nil {
			h(err, d)
		}
	}
}

// idle waits for d, a call of Wake, or the end of ctx. It reports whether it was
// the call.
func (l *leadership) idle(ctx context.Context, d time.Duration) (called bool) {
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

func (l *leadership) noteRead(b Batch, began time.Time, wake WakeSource) {
	inFlight := l.window.inFlight()
	l.r.note(func(s *Status) {
		s.Read, s.Gaps, s.InFlight = time.Now(), len(b.Cursor.Gaps), inFlight
		switch {
		case inFlight == 0 && len(b.Entries) == 0:
			s.Stalled = time.Time{}
		case inFlight > 0 && s.Stalled.IsZero():
			s.Stalled = began
		}
	})
	h := l.r.cfg.Hooks.Read
	if h == nil || len(b.Entries) == 0 && !b.Moved {
		return
	}
	info := ReadInfo{Rows: len(b.Entries), Position: b.Cursor.Position, Gaps: len(b.Cursor.Gaps), More: b.More, Took: time.Since(began), Wake: wake}
	for i := range b.Entries {
		info.Bytes += len(b.Entries[i].Payload)
		if at := b.Entries[i].CreatedAt; info.Oldest.IsZero() || at.Before(info.Oldest) {
			info.Oldest = at
		}
	}
	h(info)
}

// dispatch hands flights to the publisher, one after the other.
func (l *leadership) dispatch(batches <-chan *flight) {
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

// vet parks what the broker would refuse and what waits behind a parked message,
// and returns the rest with its indexes in the batch (nil if nothing was parked).
func (l *leadership) vet(f *flight, vetter Vetter) (send []Entry, index []int) {
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

// ack takes the publisher's verdict on one entry.
func (l *leadership) ack(f *flight, i int, err error) {
	switch {
	case err == nil:
		if l.window.settle(f, i, nil, false) {
			l.delivered(f)
		}
	case errors.Is(err, ErrUnpublishable):
		l.park(f, i, err.Error())
	default:
		l.abort(fmt.Errorf("%w: %w", ErrPublish, err))
		l.window.settle(f, i, nil, true)
	}
}

func (l *leadership) delivered(f *flight) {
	now := time.Now()
	l.r.note(func(s *Status) { s.Delivered, s.Stalled, s.Err = now, time.Time{}, nil })
	if h := l.r.cfg.Hooks.Acked; h != nil {
		h(f.batch.Entries, f.parked)
	}
	if h := l.r.cfg.Hooks.Delivered; h != nil {
		h(len(f.batch.Entries), now.Sub(f.readAt))
	}
}

func (l *leadership) isParked(e *Entry) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.parked) > 0 && l.parked[ParkedKey{e.Topic, e.Key}]
}

func (l *leadership) park(f *flight, i int, reason string) {
	e := &f.batch.Entries[i]
	p := Parked{Position: e.Position, ParkedKey: ParkedKey{e.Topic, e.Key}, Reason: reason}
	l.mu.Lock()
	l.parked[p.ParkedKey] = true
	l.mu.Unlock()
	if h := l.r.cfg.Hooks.Parked; h != nil {
		h(p)
	}
	if l.window.settle(f, i, &p, false) {
		l.delivered(f)
	}
}

// save makes the cursor durable as flights come home, coalesced: at most every
// CheckpointInterval, and for at most a fifth of the time if saving is slow. Under
// a snapshot that is held for hours each save walks over all versions of the
// cursor's row since.
func (l *leadership) save(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.window.done:
		}
		flights, cp, ok := l.window.landed()
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
		l.window.release(len(flights))
		l.r.note(func(s *Status) { s.Position = cp.Cursor.Position })
		if h := l.r.cfg.Hooks.Saved; h != nil {
			h(cp.Cursor, took)
		}
		if every := l.r.cfg.CheckpointInterval; every > 0 {
			sleep(ctx, max(every-took, 4*took))
		}
	}
}
