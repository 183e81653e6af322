package rebuild

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/internal/backoff"
)

// ErrGeneration means that a view does not have the generation that was named, or
// that the generation is not in the state for what was asked.
var ErrGeneration = errors.New("the view has no such generation in the state for this")

// Current returns the generations that a view has in Redis now.
func (t *Tracker) Current(ctx context.Context, view string) (cache.Generations, error) {
	return t.now(ctx, view)
}

// Begin begins a new generation of a view, or returns the one that is being built
// already. A Write that is under way in any process and has not learned of it
// writes again, into the new generation too.
func (t *Tracker) Begin(ctx context.Context, view string) (next string, err error) {
	_, err = t.now(ctx, view) // begins the first generation of a new view
	if err == nil {
		err = t.rdb.HSetNX(ctx, t.key(view), "next", draw()).Err()
	}
	if err == nil {
		next, err = t.rdb.HGet(ctx, t.key(view), "next").Result()
	}
	if err != nil {
		return "", fmt.Errorf("begin a generation of %s: %w", view, err)
	}
	t.forget()
	return next, nil
}

// flipScript makes ARGV[1] the live generation, if it is the next one.
var flipScript = redis.NewScript(`
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

// Flip makes next the generation that answers. The former one is written to until
// it is dropped, for readers that learn of the change a moment later. It is
// ErrGeneration if next is not being built.
func (t *Tracker) Flip(ctx context.Context, view, next string) error {
	done, err := flipScript.Run(ctx, t.rdb, []string{t.key(view)}, next).Int()
	if err == nil && done == 0 {
		err = ErrGeneration
	}
	if err != nil {
		return fmt.Errorf("flip %s to %s: %w", view, next, err)
	}
	t.forget()
	return nil
}

// Drop ends a generation that does not answer and deletes its keys. Before that it
// waits until every process has learned that the generation does not answer any
// more. It is ErrGeneration for the live one.
func (t *Tracker) Drop(ctx context.Context, view, generation string) error {
	kept, err := t.now(ctx, view)
	if err == nil && (generation == "" || generation == kept.Live) {
		err = ErrGeneration
	}
	if err == nil && generation == kept.Last {
		err = backoff.Sleep(ctx, 2*HeardAfter)
	}
	if err == nil {
		err = t.end(ctx, view, generation)
	}
	if err == nil && (generation == kept.Next || generation == kept.Last) {
		err = backoff.Sleep(ctx, HeardAfter) // for writers that have not learned of the end
	}
	if err == nil {
		err = t.deleteKeys(ctx, view, generation)
	}
	if err == nil {
		err = t.rdb.HDel(ctx, t.key(view), ended+generation).Err()
	}
	if err != nil {
		return fmt.Errorf("drop generation %s of %s: %w", generation, view, err)
	}
	return nil
}

// ended begins the names of the fields that list the generations whose keys are
// still being deleted.
const ended = "ended:"

var endScript = redis.NewScript(`
redis.call('HSET', KEYS[1], 'ended:' .. ARGV[1], '1')
for _, field in ipairs({'next', 'last'}) do
  if redis.call('HGET', KEYS[1], field) == ARGV[1] then
    redis.call('HDEL', KEYS[1], field)
  end
end
return 1
`)

// end takes a generation out of those that are written, and records that its keys
// are to be deleted.
func (t *Tracker) end(ctx context.Context, view, generation string) error {
	defer t.forget()
	return endScript.Run(ctx, t.rdb, []string{t.key(view)}, generation).Err()
}

// deleteKeys deletes the keys of a generation, in small steps. A process that
// writes at that moment may leave a few, which expire.
func (t *Tracker) deleteKeys(ctx context.Context, view, generation string) error {
	return t.ScanKeys(ctx, view, generation, func(keys []string) error {
		for chunk := range slices.Chunk(keys, 100) {
			if err := t.rdb.Unlink(ctx, chunk...).Err(); err != nil {
				return err
			}
		}
		return nil
	})
}

// ScanKeys calls do with the keys of one generation of a view, some at a time. A key can
// come twice.
func (t *Tracker) ScanKeys(ctx context.Context, view, generation string, do func(keys []string) error) error {
	pattern := escape(t.KeyPrefix(view, generation)) + "*"
	for cursor := uint64(0); ; {
		keys, next, err := t.rdb.Scan(ctx, cursor, pattern, 500).Result()
		if err != nil {
			return err
		}
		if err := do(keys); err != nil {
			return err
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
