package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// A pipeline is of at most chunk entries, a few milliseconds' work for Redis and
// well within the client's timeout, in scripts of at most perScript, during which
// Redis serves nobody else.
const (
	chunk     = 500
	perScript = 20
)

// PutAll is Put for many entries, in pipelines, as a projection does for a batch
// of events. Order and repetition do not matter. After an error some may have
// been stored: put all again.
func (c *Versioned[T]) PutAll(ctx context.Context, puts ...Put[T]) (Applied, error) {
	return c.putAll(ctx, puts, "1")
}

// RefreshAll is PutAll that only replaces older entries, and makes none.
func (c *Versioned[T]) RefreshAll(ctx context.Context, puts ...Put[T]) (Applied, error) {
	return c.putAll(ctx, puts, "0")
}

// offer is one entry on its way to Redis.
type offer struct {
	id      string
	version int64
	text    []byte
	px      int64
}

func (c *Versioned[T]) putAll(ctx context.Context, puts []Put[T], create string) (done Applied, err error) {
	g, err := c.cfg.Generations(ctx)
	if err != nil {
		return done, fmt.Errorf("cache %s: put: %w", c.name, err)
	}
	offers, older, err := c.offers(puts)
	done.Older = older
	if err != nil {
		return done, fmt.Errorf("cache %s: put: %w", c.name, err)
	}
	if c.near != nil {
		for _, o := range offers {
			key := c.key(g.Live, o.id)
			c.near.drop(key, o.version)
			defer c.near.drop(key, o.version)
		}
	}
	var errs []error
	for some := range slices.Chunk(offers, chunk) {
		errs = append(errs, c.putSome(ctx, g, some, create, &done))
	}
	hooks := &c.store.cfg.Hooks
	hooks.put(c.name, PutStored, done.Stored)
	hooks.put(c.name, PutOlder, done.Older)
	hooks.put(c.name, PutAbsent, done.Absent)
	hooks.put(c.name, PutError, len(puts)-done.Stored-done.Older-done.Absent)
	if err := errors.Join(errs...); err != nil {
		return done, fmt.Errorf("cache %s: put: %w", c.name, err)
	}
	return done, nil
}

// offers encodes the newest of each id and counts the others.
func (c *Versioned[T]) offers(puts []Put[T]) (offers []offer, older int, err error) {
	now := c.store.cfg.Now()
	offers = make([]offer, 0, len(puts))
	at := make(map[string]int, len(puts))
	var wrong []error
	for _, put := range puts {
		i, seen := at[put.ID]
		if seen && offers[i].version >= put.Entry.Version {
			older++
			continue
		}
		o, err := c.offer(put, now)
		switch {
		case err != nil:
			wrong = append(wrong, fmt.Errorf("%q: %w", put.ID, err))
		case seen:
			older++
			offers[i] = o
		default:
			at[put.ID] = len(offers)
			offers = append(offers, o)
		}
	}
	return offers, older, errors.Join(wrong...)
}

func (c *Versioned[T]) offer(put Put[T], now time.Time) (o offer, err error) {
	if err := errors.Join(checkID(put.ID), put.Entry.validate()); err != nil {
		return o, err
	}
	l, err := c.encode(put.Entry, c.ttl(put.Entry, true, now), now)
	if err != nil {
		return o, err
	}
	text := l.append(make([]byte, 0, headerEnd+len(l.payload)))
	return offer{put.ID, l.version, text, l.ttl.Milliseconds()}, nil
}

// putSome is one pipeline: all offers to each generation in turn. What Redis did
// not take in every generation raises the minimums; what is counted is what became of
// it in the generation that answers.
func (c *Versioned[T]) putSome(ctx context.Context, g Generations, offers []offer, create string, done *Applied) error {
	generations := g.Written()
	if len(generations) == 0 {
		generations = []string{""}
	}
	cmds, err := c.pipeline(ctx, generations, offers, create)
	for i, o := range offers {
		var counted int64
		var failed error
		for n, generation := range generations {
			answer, err := answerOf(cmds[n], i, err)
			if generation == g.Live {
				counted = answer
			}
			if failed == nil {
				failed = err
			}
		}
		switch {
		case failed != nil:
			c.minimums.raise(o.id, o.version, false, c.store.cfg.Now())
			err = failed
		case counted == 1:
			done.Stored++
		case counted == 0:
			done.Older++
		default:
			done.Absent++
		}
	}
	if err != nil && !errors.Is(err, ErrUnavailable) {
		err = unavailable(err)
	}
	return err
}

// answerOf is what putScript answered to the offer at i.
func answerOf(cmds []*redis.Cmd, i int, err error) (int64, error) {
	if i/perScript >= len(cmds) {
		return 0, err
	}
	all, err := cmds[i/perScript].Slice()
	if err == nil && i%perScript >= len(all) {
		err = errors.New("unexpected answer")
	}
	if err != nil {
		return 0, err
	}
	switch a := all[i%perScript].(type) {
	case int64:
		return a, nil
	default:
		return 0, fmt.Errorf("%v", a)
	}
}

// pipeline offers all in one round trip, and returns the commands of each
// generation. The script's text is sent only when Redis does not have it yet.
func (c *Versioned[T]) pipeline(ctx context.Context, generations []string, offers []offer, create string) ([][]*redis.Cmd, error) {
	s := c.store
	if !s.breaker.allow() {
		return make([][]*redis.Cmd, len(generations)), errBreakerOpen
	}
	cmds, err := c.send(ctx, generations, offers, create)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		if err = putScript.Load(ctx, s.rdb).Err(); err == nil {
			cmds, err = c.send(ctx, generations, offers, create)
		}
	}
	s.breaker.report(err)
	return cmds, err
}

func (c *Versioned[T]) send(ctx context.Context, generations []string, offers []offer, create string) ([][]*redis.Cmd, error) {
	cmds := make([][]*redis.Cmd, len(generations))
	_, err := c.store.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n, generation := range generations {
			for some := range slices.Chunk(offers, perScript) {
				keys, args := make([]string, 0, 2*len(some)), make([]any, 0, 2*len(some)+1)
				args = append(args, create)
				for _, o := range some {
					key := c.key(generation, o.id)
					keys, args = append(keys, key, leaseOf(key)), append(args, o.text, max(o.px, 0))
				}
				cmds[n] = append(cmds[n], putScript.EvalSha(ctx, p, keys, args...))
			}
		}
		return nil
	})
	return cmds, err
}

// Invalidate makes the entry of id count for nothing, so that the next Get loads.
// Its version is kept: nothing older can take its place. Loads that have begun
// cannot fill in any more.
func (c *Versioned[T]) Invalidate(ctx context.Context, id string) error {
	if err := checkID(id); err != nil {
		return fmt.Errorf("cache %s: invalidate: %w", c.name, err)
	}
	g, err := c.cfg.Generations(ctx)
	if err != nil {
		return fmt.Errorf("cache %s: invalidate: %w", c.name, err)
	}
	if key := c.key(g.Live, id); c.near != nil {
		c.near.drop(key, unknownVersion)
		defer c.near.drop(key, unknownVersion)
	}
	generations := g.Written()
	if len(generations) == 0 {
		generations = []string{""}
	}
	for _, generation := range generations {
		key := c.key(generation, id)
		if _, err := c.store.run(ctx, expireScript, []string{key, leaseOf(key)}); err != nil {
			c.minimums.raise(id, unknownVersion, false, c.store.cfg.Now())
			return fmt.Errorf("cache %s: invalidate: %w", c.name, err)
		}
	}
	return nil
}

// longest is how long an entry with a value can stay in Redis.
func (c *VersionedConfig[T]) longest() time.Duration { return c.TTL + c.TTL/10 + time.Second }
