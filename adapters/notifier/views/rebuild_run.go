package views

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// rebuild is one run of a Rebuilder.
type rebuild struct {
	*Rebuilder
	res   RebuildResult
	at    circumstances // of its begin
	began time.Time     // when the fold did
	saved time.Time     // when the progress was last saved
}

// maxRounds bounds how often the fold goes after what was written meanwhile. It
// need not: that is applied to the new generation by those who keep the view.
const maxRounds = 5

func (r *rebuild) all(ctx context.Context) error {
	if err := r.begin(ctx); err != nil {
		return err
	}
	// Whoever has not heard of the new generation a moment from now took what it
	// applies before that, from the log: the fold finds it there. So at the flip the
	// new generation has all that the one before has.
	if err := pause(ctx, hearsay+hearsay/10); err != nil {
		return err
	}
	r.began = time.Now()
	needed, err := r.end(ctx)
	if err != nil {
		return err
	}
	for end, round := needed, 0; ; round++ {
		r.res.To = r.upTo(end)
		before := r.res.Next
		err = r.fold(ctx)
		r.measure()
		if err != nil {
			return err
		}
		if r.res.Next-before < int64(r.cfg.Batch) || round == maxRounds {
			break
		}
		if end, err = r.end(ctx); err != nil {
			return err
		}
	}
	if r.cfg.To > 0 && r.cfg.To < needed {
		return nil
	}
	return r.finish(ctx)
}

func (r *rebuild) measure() {
	r.res.Seconds = time.Since(r.began).Seconds()
	r.res.PerSecond = float64(r.res.Events) / max(r.res.Seconds, 1e-9)
}

// begin begins a generation, or goes on with the one that is unfinished.
func (r *rebuild) begin(ctx context.Context) error {
	found, err := r.look(ctx)
	if err != nil {
		return err
	}
	resumes, err := r.place(ctx, found, &r.res)
	if err != nil {
		return err
	}
	r.at = found.begun
	if err := r.sweep(ctx, found); err != nil || resumes {
		return err
	}
	if found.Next != "" { // nobody knows how far it is
		if err := r.p.Drop(ctx, found.Next); err != nil {
			return err
		}
	}
	if r.res.Generation, err = r.p.Begin(ctx); err != nil {
		return err
	}
	r.at = circumstances{server: found.here.server, evicted: found.here.evicted, time: time.Now().UnixMilli()}
	return r.own(ctx, "set", "of", r.res.Generation, "from", r.res.From, "position", r.res.Next,
		"server", r.at.server, "evicted", r.at.evicted, "begun", r.at.time)
}

var errRestarted = errors.New("redis was started again meanwhile and may have lost some of the generation: run it again, it begins another")

// finish lets the generation answer, and removes the one before.
func (r *rebuild) finish(ctx context.Context) error {
	now, err := r.here(ctx)
	if err == nil && now.server != r.at.server {
		err = errRestarted
	}
	if err == nil && r.wholeLists(now) {
		err = r.markLists(ctx)
	}
	if err == nil {
		err = r.own(ctx, "flip", r.res.Generation)
	}
	if errors.Is(err, ErrGeneration) {
		err = fmt.Errorf("generation %s was removed meanwhile, or redis was flushed: run it again, it begins another: %w", r.res.Generation, err)
	}
	if err != nil {
		return err
	}
	r.res.Flipped = true
	r.cfg.OnProgress(r.res)
	kept, err := r.p.Generations(ctx)
	if err != nil || kept.Last == "" {
		return err
	}
	if err := r.p.Drop(ctx, kept.Last); err != nil {
		return fmt.Errorf("the new generation answers; run it again to remove the former: %w", err)
	}
	r.res.Removed = kept.Last
	return nil
}

// save makes the progress last, now and then.
func (r *rebuild) save(ctx context.Context, now bool) error {
	if !now && time.Since(r.saved) < time.Second/4 {
		return nil
	}
	if err := r.own(ctx, "set", "position", r.res.Next); err != nil {
		return err
	}
	r.saved = time.Now()
	return nil
}
