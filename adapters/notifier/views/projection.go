package views

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/domain"
)

// ErrGeneration means that a view does not have the generation that an act on it
// named, or is not in the state for that act.
var ErrGeneration = errors.New("not a generation of the view to do this with")

// Projection is one view as something that can be built anew from events while it
// answers and while new events arrive:
//
//	next, err := p.Begin(ctx)         // from now on live events are folded into it too
//	err = p.Fold(ctx, next, events)   // all that the log has, in any order, again and again
//	err = p.Flip(ctx, next)           // next answers
//	err = p.Drop(ctx, former)         // once everybody has heard of it
//
// Events that were applied before Begin are in the log; those after it reach the
// new generation by Apply. Where both bring an event, its version decides.
type Projection struct {
	v    *Views
	name string
}

// Projections returns the views that can be built anew, by name: Status,
// Recipients and Counters.
func (v *Views) Projections() []Projection {
	out := make([]Projection, len(names))
	for i, name := range names {
		out[i] = Projection{v, name}
	}
	return out
}

// Name is what operators call the view.
func (p Projection) Name() string { return p.name }

// Generations returns which generations the view has now.
func (p Projection) Generations(ctx context.Context) (Generations, error) {
	p.v.generations.forget()
	kept, err := p.v.generations.all(ctx)
	return kept[p.name], err
}

// Begin begins a new generation, or returns the one that is being built already,
// so that an interrupted rebuild goes on. An Apply that is under way anywhere and
// has not heard of it writes its events again, into it too.
func (p Projection) Begin(ctx context.Context) (string, error) {
	key := p.v.generations.key(p.name)
	_, err := p.Generations(ctx) // begins the first one of a view that is new
	if err == nil {
		err = p.v.rdb.HSetNX(ctx, key, "next", draw()).Err()
	}
	var next string
	if err == nil {
		next, err = p.v.rdb.HGet(ctx, key, "next").Result()
	}
	if err != nil {
		return "", fmt.Errorf("begin a generation of %s: %w", p.name, err)
	}
	p.v.generations.forget()
	return next, nil
}

// Fold applies events to one generation alone. Order and repetition do not matter.
func (p Projection) Fold(ctx context.Context, generation string, events ...domain.Recorded) error {
	newest, _ := fold(events)
	if len(newest) == 0 {
		return nil
	}
	var b batch
	p.v.write(&b, p.name, generation, newest, false)
	if err := b.run(ctx, p.v.rdb); err != nil {
		return fmt.Errorf("fold events into %s: %w", p.name, err)
	}
	return nil
}

// flip makes ARGV[1] the live generation, if it is the next one.
var flip = redis.NewScript(`
if redis.call('HGET', KEYS[1], 'next') ~= ARGV[1] then
  return 0
end
local live = redis.call('HGET', KEYS[1], 'live')
redis.call('HSET', KEYS[1], 'live', ARGV[1])
redis.call('HDEL', KEYS[1], 'next')
if live then
  redis.call('HSET', KEYS[1], 'last', live)
end
return 1
`)

// Flip makes next the generation that answers. The one before is kept up until it
// is dropped, for readers who hear of the change a moment later. It is
// ErrGeneration if next is not being built.
func (p Projection) Flip(ctx context.Context, next string) error {
	done, err := flip.Run(ctx, p.v.rdb, []string{p.v.generations.key(p.name)}, next).Int()
	if err == nil && done == 0 {
		err = ErrGeneration
	}
	if err != nil {
		return fmt.Errorf("flip %s to %s: %w", p.name, next, err)
	}
	p.v.generations.forget()
	return nil
}

// Drop ends a generation that does not answer (any more, or yet) and deletes what
// it has. It waits a moment first, for readers who have not heard of a flip. It is
// ErrGeneration for the live one.
func (p Projection) Drop(ctx context.Context, generation string) error {
	kept, err := p.Generations(ctx)
	if err == nil && (generation == "" || generation == kept.Live) {
		err = ErrGeneration
	}
	if err == nil && generation == kept.Last {
		err = pause(ctx, 2*hearsay)
	}
	if err == nil {
		err = p.v.generations.end(ctx, p.name, generation)
	}
	if err == nil && (generation == kept.Next || generation == kept.Last) {
		err = pause(ctx, hearsay) // for writers who have not heard of the end
	}
	if err == nil {
		err = p.deleteAll(ctx, generation)
	}
	if err == nil {
		err = p.v.rdb.HDel(ctx, p.v.generations.key(p.name), ended+generation).Err()
	}
	if err != nil {
		return fmt.Errorf("drop generation %s of %s: %w", generation, p.name, err)
	}
	return nil
}

// ended begins the names of the fields that remember generations whose keys are
// still being deleted.
const ended = "ended:"

// end takes a generation out of those that are written, and remembers that there
// is something to delete.
func (g *generations) end(ctx context.Context, name, generation string) error {
	const script = `
redis.call('HSET', KEYS[1], 'ended:' .. ARGV[1], '1')
for _, field in ipairs({'next', 'last'}) do
  if redis.call('HGET', KEYS[1], field) == ARGV[1] then
    redis.call('HDEL', KEYS[1], field)
  end
end
return 1`
	defer g.forget()
	return g.rdb.Eval(ctx, script, []string{g.key(name)}, generation).Err()
}

// deleteAll deletes the keys of a generation, in small steps. Somebody who wrote at
// that moment may leave a few, which expire.
func (p Projection) deleteAll(ctx context.Context, generation string) error {
	pattern := escape(p.v.cfg.Prefix+p.name+":"+generation+":") + "*"
	for cursor := uint64(0); ; {
		keys, next, err := p.v.rdb.Scan(ctx, cursor, pattern, 500).Result()
		if err != nil {
			return err
		}
		for chunk := range slices.Chunk(keys, 100) {
			if err := p.v.rdb.Unlink(ctx, chunk...).Err(); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// escape makes text stand for itself in a pattern.
func escape(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(text)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
