package pgstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/millrace-go/millrace/outbox"
)

// readers are two relays that take turns, each going on from the cursor that the
// other one has saved.
type readers struct {
	*checker
	rng     *rand.Rand
	turns   int
	session *session
	cursor  outbox.Cursor
	left    int // polls until the hand-over
}

// until polls until enough says so, something is wrong, or the writers end.
func (r *readers) until(ctx context.Context, enough func() bool, writers <-chan error) error {
	for !enough() {
		select {
		case err := <-writers:
			return errors.Join(errors.New("the writers ended early"), err)
		default:
		}
		if _, err := r.step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// whileWriting polls until the writers have ended.
func (r *readers) whileWriting(ctx context.Context, writers <-chan error) error {
	for {
		select {
		case err := <-writers:
			return err
		default:
		}
		if _, err := r.step(ctx); err != nil {
			return err
		}
	}
}

// drain polls until nothing comes any more. By then all gaps must be closed.
func (r *readers) drain(ctx context.Context) error {
	for empty := 0; empty < 3; empty++ {
		r.left = 2 // no hand-over: it would make the suspects unknown again
		n, err := r.step(ctx)
		if err != nil {
			return err
		}
		if n > 0 {
			empty = 0
		}
	}
	if n := r.cursor.Missing(); n > 0 {
		return fmt.Errorf("%d positions stay gaps although nobody writes", n)
	}
	return nil
}

// step is one poll, with a hand-over before and after if it is time.
func (r *readers) step(ctx context.Context) (int, error) {
	if r.session == nil {
		if err := r.take(ctx); err != nil {
			return 0, err
		}
	}
	reading := &r.session.reading
	gaps, guarded := len(reading.ledger.ranges), len(reading.ledger.ranges) >= reading.guardFrom
	batch, err := r.rule(ctx, r.session, r.limit(), r.bytes())
	if err != nil {
		return 0, err
	}
	r.note(batch, gaps, guarded)
	if !r.alone {
		r.left--
	}
	n := len(batch.Entries)
	if r.left <= 0 && chance(r.rng, 50) {
		n = r.rng.IntN(n + 1)
	}
	if err := r.deliver(batch, n); err != nil {
		return 0, err
	}
	r.pause(n)
	if r.left <= 0 {
		return n, r.release(ctx)
	}
	return n, nil
}

// deliver delivers the first n entries; the others stay for the next reader.
func (r *readers) deliver(batch outbox.Batch, n int) error {
	for i := range batch.Entries[:n] {
		if err := r.verdict.deliver(eventOf(&batch.Entries[i])); err != nil {
			return err
		}
	}
	r.cursor = batch.Cursor
	if n < len(batch.Entries) {
		r.count("hand-overs in the middle of a batch")
		r.cursor = r.cursor.Without(positions(batch.Entries[n:]))
	}
	return nil
}

func (r *readers) take(ctx context.Context) error {
	r.turns++
	r.left = 1 + r.rng.IntN(100)
	opened, err := r.store.Acquire(ctx, "checker", fmt.Sprint("reader ", r.turns%2), time.Minute)
	if err != nil {
		return err
	}
	r.session = opened.(*session)
	r.session.reading.guardFrom = []int{1, guardFrom, 1 << 30}[r.rng.IntN(3)]
	if r.flaw != nil {
		return r.flaw(ctx, r.session)
	}
	return nil
}

func (r *readers) release(ctx context.Context) error {
	r.count("hand-overs")
	err := r.session.Save(ctx, outbox.Checkpoint{Cursor: r.cursor})
	err = errors.Join(err, r.session.Release(ctx))
	r.session = nil
	return err
}

// leave frees what the last reader holds.
func (r *readers) leave() {
	if r.session != nil {
		_ = r.session.Release(context.Background())
	}
}

func (r *readers) note(batch outbox.Batch, gaps int, guarded bool) {
	r.count("polls")
	if batch.More {
		r.count("polls cut")
	}
	if gaps > 0 {
		r.count("polls with gaps")
	}
	if gaps > 0 && guarded {
		r.count("polls guarded")
	}
	r.atMost("positions open at most", int(batch.Cursor.Missing()))
}

func (r *readers) limit() int {
	switch n := r.rng.IntN(100); {
	case n < 30:
		return 1 + r.rng.IntN(10)
	case n < 70:
		return 10 + r.rng.IntN(490)
	default:
		return 500 + r.rng.IntN(4501)
	}
}

func (r *readers) bytes() int {
	if chance(r.rng, 5) {
		return 1 + r.rng.IntN(2000)
	}
	return 1 << 30
}

func (r *readers) pause(delivered int) {
	switch {
	case chance(r.rng, 3):
		wait(nil, time.Duration(r.rng.IntN(30))*time.Millisecond)
	case delivered == 0 || chance(r.rng, 30):
		wait(nil, time.Duration(r.rng.IntN(2000))*time.Microsecond)
	}
}
