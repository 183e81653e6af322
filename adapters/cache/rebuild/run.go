package rebuild

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace-go/millrace/adapters/internal/backoff"
	"github.com/millrace-go/millrace/outbox"
)

// run is one run of a Builder.
type run struct {
	*Builder
	res   Result
	begun server    // how the server was when the generation was begun
	start time.Time // of the fold
	saved time.Time // when the progress was last saved
}

// maxRounds bounds how often the fold follows what was written meanwhile. It need
// not: that is applied to the new generation by the processes that keep the view.
const maxRounds = 5

func (r *run) all(ctx context.Context) error {
	if err := r.begin(ctx); err != nil {
		return err
	}
	// A process that has not learned of the new generation a moment from now took
	// what it applies before that from the log: the fold finds it there. So at the
	// flip the new generation has all that the former one has.
	if err := backoff.Sleep(ctx, HeardAfter+HeardAfter/10); err != nil {
		return err
	}
	r.start = time.Now()
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

func (r *run) measure() {
	r.res.Seconds = time.Since(r.start).Seconds()
	r.res.PerSecond = float64(r.res.Events) / max(r.res.Seconds, 1e-9)
}

// begin begins a generation, or goes on with the one that is unfinished.
func (r *run) begin(ctx context.Context) error {
	found, err := r.read(ctx)
	if err != nil {
		return err
	}
	resumes, err := r.place(ctx, found, &r.res)
	if err != nil {
		return err
	}
	r.begun = found.begun
	if err := r.removeFormer(ctx, found); err != nil || resumes {
		return err
	}
	if found.Next != "" { // how far it is, is not known
		if err := r.tracker.Drop(ctx, r.view.Name, found.Next); err != nil {
			return err
		}
	}
	if r.res.Generation, err = r.tracker.Begin(ctx, r.view.Name); err != nil {
		return err
	}
	r.begun = server{id: found.here.id, evicted: found.here.evicted, time: time.Now().UnixMilli()}
	return r.change(ctx, "set", "of", r.res.Generation, "from", r.res.From, "position", r.res.Next,
		"server", r.begun.id, "evicted", r.begun.evicted, "begun", r.begun.time)
}

var errRestarted = errors.New("redis was started again meanwhile and may have lost some of the generation: run it again, it begins another")

// finish lets the generation answer, and removes the former one.
func (r *run) finish(ctx context.Context) error {
	now, err := r.server(ctx)
	if err == nil && now.id != r.begun.id {
		err = errRestarted
	}
	if err == nil && r.view.Finish != nil {
		err = r.view.Finish(ctx, Finished{
			Generation: r.res.Generation, Begun: time.UnixMilli(r.begun.time),
			Whole: r.res.From == 1 && r.cfg.Floor <= 1 && now.evicted == r.begun.evicted,
		})
	}
	if err == nil {
		err = r.change(ctx, "flip", r.res.Generation)
	}
	if errors.Is(err, ErrGeneration) {
		err = fmt.Errorf("generation %s was removed meanwhile, or redis was flushed: run it again, it begins another: %w", r.res.Generation, err)
	}
	if err != nil {
		return err
	}
	r.res.Flipped = true
	r.cfg.OnProgress(r.res)
	kept, err := r.tracker.Current(ctx, r.view.Name)
	if err != nil || kept.Last == "" {
		return err
	}
	if err := r.tracker.Drop(ctx, r.view.Name, kept.Last); err != nil {
		return fmt.Errorf("the new generation answers; run it again to remove the former: %w", err)
	}
	r.res.Removed = kept.Last
	return nil
}

// save saves the progress in Redis, four times a second at most unless it must.
func (r *run) save(ctx context.Context, must bool) error {
	if !must && time.Since(r.saved) < time.Second/4 {
		return nil
	}
	if err := r.change(ctx, "set", "position", r.res.Next); err != nil {
		return err
	}
	r.saved = time.Now()
	return nil
}

// folders is how many batches are folded at the same time.
const folders = 2

// batch is some entries on their way from the log to Redis.
type batch struct {
	entries []outbox.Entry
	folded  chan Folded // gets one value when the entries are in the view
}

func newBatch() *batch { return &batch{folded: make(chan Folded, 1)} }

// fold folds the positions from Next to To. Reading and folding go on at the same
// time; the progress rises in the order of positions.
func (r *run) fold(ctx context.Context) error {
	g, working := errgroup.WithContext(ctx)
	work, order := make(chan *batch, folders), make(chan *batch, 2*folders)
	span := outbox.Range{Lo: r.res.Next, Hi: r.res.To}
	g.Go(func() error {
		defer close(work)
		defer close(order)
		return r.readLog(working, r.log.Range(working, span), work, order)
	})
	for range folders {
		g.Go(func() error {
			for b := range work {
				done, err := r.foldBatch(working, b.entries)
				if err != nil {
					return err
				}
				b.folded <- done
			}
			return nil
		})
	}
	g.Go(func() error { return r.follow(working, order) })
	if err := g.Wait(); err != nil {
		return err
	}
	r.res.Next = max(span.Lo, span.Hi+1)
	return r.save(ctx, true)
}

// maxFolds bounds how often a batch is tried: a server that is slow or restarts is
// no reason to give the rebuild up.
const maxFolds = 8

var foldPause = backoff.Doubling{First: 100 * time.Millisecond, Max: 2 * time.Second}

func (r *run) foldBatch(ctx context.Context, entries []outbox.Entry) (Folded, error) {
	for failures := 1; ; failures++ {
		done, err := r.view.Fold(ctx, r.res.Generation, entries)
		if err == nil || failures == maxFolds {
			return done, err
		}
		if backoff.Sleep(ctx, foldPause.After(failures)) != nil {
			return done, err
		}
	}
}

// readLog cuts entries into batches and sends each to both channels.
func (r *run) readLog(ctx context.Context, entries iter.Seq2[outbox.Entry, error], work, order chan<- *batch) error {
	b := newBatch()
	send := func() error {
		for _, to := range []chan<- *batch{work, order} {
			select {
			case to <- b:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		b = newBatch()
		return nil
	}
	for e, err := range entries {
		if err != nil {
			return err
		}
		if b.entries = append(b.entries, e); len(b.entries) < r.cfg.Batch {
			continue
		}
		if err := send(); err != nil {
			return err
		}
	}
	if len(b.entries) == 0 {
		return nil
	}
	return send()
}

// follow counts and saves the progress of the batches in the order of their
// positions.
func (r *run) follow(ctx context.Context, order <-chan *batch) error {
	for b := range order {
		var done Folded
		select {
		case done = <-b.folded:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		r.res.Events += done.Events
		r.res.Ignored += done.Ignored
		r.res.Undecodable += done.Undecodable
		if r.res.Example == 0 {
			r.res.Example = done.Example
		}
		r.res.Next = b.entries[len(b.entries)-1].Position + 1
		if err := r.save(ctx, false); err != nil {
			return err
		}
		r.measure()
		r.cfg.OnProgress(r.res)
	}
	return nil
}
