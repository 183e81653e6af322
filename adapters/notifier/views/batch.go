package views

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// batch is commands that go to Redis in one pipeline.
type batch struct {
	calls []call
}

// call is one call of a script.
type call struct {
	script *redis.Script
	keys   []string
	args   []any
}

func (b *batch) add(script *redis.Script, keys []string, args ...any) {
	b.calls = append(b.calls, call{script, keys, args})
}

// run sends the batch. The scripts' texts are sent only when Redis does not know
// them (yet, or any more): then everything is sent again, which changes nothing.
func (b *batch) run(ctx context.Context, rdb redis.Cmdable) error {
	err := b.pipeline(ctx, rdb)
	if !redis.HasErrorPrefix(err, "NOSCRIPT") {
		return err
	}
	for _, script := range scripts {
		if err := script.Load(ctx, rdb).Err(); err != nil {
			return fmt.Errorf("load script: %w", err)
		}
	}
	return b.pipeline(ctx, rdb)
}

func (b *batch) pipeline(ctx context.Context, rdb redis.Cmdable) error {
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, c := range b.calls {
			c.script.EvalSha(ctx, p, c.keys, c.args...)
		}
		return nil
	})
	return err
}

var scripts = []*redis.Script{putRecipient, fillRecipient, countDeliveries, completeScript}

// one runs a single call, outside of a batch.
func (v *Views) one(ctx context.Context, script *redis.Script, keys []string, args ...any) error {
	var b batch
	b.add(script, keys, args...)
	return b.run(ctx, v.rdb)
}

// milliseconds is what is left until at, at least 0.
func (v *Views) milliseconds(at time.Time) int64 {
	return max(at.Sub(v.cfg.Now()).Milliseconds(), 0)
}
