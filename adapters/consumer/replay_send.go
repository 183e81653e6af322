package consumer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// sendAll does what is due of each step and hands the step on, whatever came of
// it: what was not done stays open.
func (r *replay) sendAll(ctx context.Context, s *scan, in <-chan *step, out chan<- *step) error {
	planned := s.progress.clone()
	for st := range in {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := r.fits(&planned, st)
		if err == nil {
			err = r.send(ctx, st)
		}
		out <- st // the keeper takes all there are
		if err != nil {
			return err
		}
	}
	return nil
}

// fits refuses a step that could not be remembered: what cannot be remembered is
// not done. A quarter of the room is left for letters that are not taken.
func (r *replay) fits(planned *progress, st *step) error {
	if !r.cfg.Execute || r.cfg.Book != nil {
		return nil
	}
	for _, it := range st.items {
		note(planned, it, it.fate.settles() || it.fate == fateDue || it.fate == fateCapped)
	}
	if _, all := planned.pack(maxProgressBytes * 3 / 4); !all {
		return fmt.Errorf("%w: %d pieces", ErrScattered, len(planned.done))
	}
	return nil
}

// send does what is due of a step.
func (r *replay) send(ctx context.Context, st *step) error {
	if r.action == ActionReplay {
		r.holdBack(st.items)
	}
	var due, capped []*item
	for _, it := range st.items {
		switch it.fate {
		case fateDue:
			due = append(due, it)
		case fateCapped:
			capped = append(capped, it)
		}
	}
	if !r.cfg.Execute || r.action == ActionSkip || r.action == ActionDiscard {
		settle(due, fateDone)
		settle(capped, fateParked)
		return ctx.Err()
	}
	if n := len(due) + len(capped); n > 0 {
		if err := r.pace.wait(ctx, n); err != nil {
			return err
		}
	}
	for len(due) > 0 { // one call for each stretch of the same topic
		n := 1
		for n < len(due) && due[n].to == due[0].to {
			n++
		}
		if err := r.deliver(ctx, st, due[:n]); err != nil {
			return err
		}
		due = due[n:]
	}
	return r.parkCapped(ctx, capped)
}

func settle(items []*item, becomes fate) {
	for _, it := range items {
		it.fate = becomes
	}
}

// holdBack applies what ByKey asks for: a letter that is refused holds back the
// later ones of its key.
func (r *replay) holdBack(items []*item) {
	if !r.cfg.ByKey {
		return
	}
	for _, it := range items {
		key := string(it.letter.Record.Key)
		switch {
		case it.letter.Record.Key == nil:
		case it.fate == fateRefused:
			r.heldKeys[key] = true
		case (it.fate == fateDue || it.fate == fateCapped) && r.heldKeys[key]:
			it.fate = fateHeld
		}
	}
}

// deliver publishes items to their topic in order. If the broker refuses one for
// good, halves are tried until it is found.
func (r *replay) deliver(ctx context.Context, st *step, items []*item) error {
	todo := make([]*item, 0, len(items))
	for _, it := range items {
		if it.fate == fateDue {
			todo = append(todo, it)
		}
	}
	if len(todo) == 0 {
		return nil
	}
	err := r.publish(ctx, todo)
	switch {
	case err == nil:
		settle(todo, fateDone)
		return nil
	case !errors.Is(err, outbox.ErrUnpublishable):
		return err
	case len(todo) > 1:
		half := len(todo) / 2
		if err := r.deliver(ctx, st, todo[:half]); err != nil {
			return err
		}
		return r.deliver(ctx, st, todo[half:])
	}
	return r.refused(st, todo[0], err)
}

// refused leaves a letter that the broker will not take, with those that must not
// overtake it.
func (r *replay) refused(st *step, it *item, why error) error {
	it.fate = fateRefused
	if r.action == ActionPark {
		return nil
	}
	key := it.letter.Record.Key
	for _, other := range st.items {
		if (other.fate == fateDue || other.fate == fateCapped) && (!r.cfg.ByKey || key != nil && bytes.Equal(key, other.letter.Record.Key)) {
			other.fate = fateHeld
		}
	}
	if r.cfg.ByKey {
		if key != nil {
			r.heldKeys[string(key)] = true
		}
		return nil
	}
	r.count(func(res *ReplayResult) {
		res.Stopped = append(res.Stopped, Stop{it.letter.Record.Partition, it.letter.Record.Offset, why.Error()})
	})
	return errStopped
}

// parkCapped parks letters that were replayed too often. Without a topic to park
// them they stay.
func (r *replay) parkCapped(ctx context.Context, items []*item) error {
	for _, it := range items {
		if it.fate != fateCapped {
			continue
		}
		it.fate = fateStays
		if r.noParking[it.to] {
			continue
		}
		switch err := r.publish(ctx, []*item{it}); {
		case err == nil:
			it.fate = fateParked
		case !errors.Is(err, outbox.ErrUnpublishable):
			return err
		default:
			if r.noParking == nil {
				r.noParking = map[string]bool{}
			}
			why, _ := errors.AsType[*outbox.UnpublishableError](err)
			r.noParking[it.to] = why != nil && why.Reason != reasonTooLarge
		}
	}
	return nil
}

func (r *replay) publish(ctx context.Context, items []*item) error {
	batch := make([]*message.Message, len(items))
	for i, it := range items {
		rec, _ := record.From(it.msg.Context())
		it.msg.SetContext(record.With(ctx, rec))
		batch[i] = it.msg
	}
	return r.cfg.Publisher.Publish(items[0].to, batch...)
}

// pacer spreads letters over time.
type pacer struct {
	rate int // per second, -1 is no limit
	next time.Time
}

// wait returns when n more letters may go.
func (p *pacer) wait(ctx context.Context, n int) error {
	if p.rate < 0 {
		return ctx.Err()
	}
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	pause := p.next.Sub(now)
	p.next = p.next.Add(time.Duration(n) * time.Second / time.Duration(p.rate))
	if !sleep(ctx, pause) {
		return ctx.Err()
	}
	return nil
}
