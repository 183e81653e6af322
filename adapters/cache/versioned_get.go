package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

func (c *Versioned[T]) get(ctx context.Context, id string, version int64) (Entry[T], error) {
	if err := checkID(id); err != nil {
		return Entry[T]{}, fmt.Errorf("cache %s: %w", c.name, err)
	}
	if err := ctx.Err(); err != nil {
		return Entry[T]{}, err
	}
	for change := 0; ; change++ {
		g, err := c.cfg.Generations(ctx)
		if err != nil {
			return c.getUnknown(ctx, id, version, err)
		}
		e, err := c.getIn(ctx, g, id, version)
		if !errors.Is(err, errOtherGeneration) || change == maxLate {
			return e, err
		}
	}
}

// getIn is get for the generations g; errOtherGeneration if another one answers
// by the time that the load has ended.
func (c *Versioned[T]) getIn(ctx context.Context, g Generations, id string, version int64) (Entry[T], error) {
	key := c.key(g.Live, id)
	version = max(version, c.minimums.of(id, c.store.cfg.Now()))
	if c.near == nil {
		e, _, err := c.fetch(ctx, g, id, version)
		return e, err
	}
	if e, ok := c.near.get(key, version); ok {
		c.store.cfg.Hooks.Requested(c.name, ResultNear)
		return e, nil
	}
	f := c.near.begin(key)
	e, redisHad, err := c.fetch(ctx, g, id, version)
	c.near.end(f, key, e, err == nil, redisHad)
	return e, err
}

// getUnknown is get while Redis does not say which generation answers: the
// database answers.
func (c *Versioned[T]) getUnknown(ctx context.Context, id string, version int64, why error) (Entry[T], error) {
	err := fmt.Errorf("cache %s: %w", c.name, unavailable(why))
	c.store.cfg.Hooks.Requested(c.name, ResultError)
	c.store.cfg.Hooks.Trouble(c.name, err)
	switch {
	case ctx.Err() != nil:
		return Entry[T]{}, ctx.Err()
	case c.load == nil:
		return Entry[T]{}, err
	}
	return c.fromDatabase(ctx, Generations{}, id, version, true)
}

// fetch asks Redis, and if that has no answer, the database.
func (c *Versioned[T]) fetch(ctx context.Context, g Generations, id string, version int64) (e Entry[T], redisHad bool, err error) {
	key := c.key(g.Live, id)
	for late := 0; ; late++ {
		r, result, err := c.stored(ctx, key, id, version)
		if result == ResultHit || result == ResultNegative || result == ResultRevoked {
			if e, err = c.decode(r); err == nil {
				c.count(late, result)
				return e, true, nil
			}
			result = ResultCorrupt
			c.removeCorrupt(ctx, key, r.append(nil), err)
			err = nil
		}
		c.count(late, result)
		switch {
		case ctx.Err() != nil:
			return e, false, ctx.Err()
		case c.load == nil && err != nil:
			return e, false, err
		case c.load == nil:
			return e, false, ErrMiss
		}
		e, err = c.fromDatabase(ctx, g, id, version, result == ResultError || late == maxLate)
		if !errors.Is(err, errLate) {
			return e, false, err
		}
	}
}

// maxLate is how often a caller asks Redis again that joined flights too late.
const maxLate = 4

// count tells what became of a Get: of its first question to Redis.
func (c *core) count(late int, result Result) {
	if late == 0 {
		c.store.cfg.Hooks.Requested(c.name, result)
	}
}

// stored reads the entry of key and tells what it is good for.
func (c *Versioned[T]) stored(ctx context.Context, key, id string, version int64) (raw, Result, error) {
	s := c.store
	if !s.breaker.allow() {
		return raw{}, ResultError, errBreakerOpen
	}
	start := time.Now()
	text, err := s.rdb.Get(ctx, key).Bytes()
	s.breaker.report(faultOf(ctx, err, start))
	switch {
	case errors.Is(err, redis.Nil):
		return raw{}, ResultMiss, nil
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		c.store.cfg.Hooks.Trouble(c.name, fmt.Errorf("cache %s: %s: %w", c.name, key, err))
		return raw{}, ResultCorrupt, nil // it gives way to the fill
	case err != nil:
		err = fmt.Errorf("cache %s: %w", c.name, unavailable(err))
		s.cfg.Hooks.Trouble(c.name, err)
		return raw{}, ResultError, err
	}
	r, err := parse(text)
	switch {
	case err != nil:
		c.removeCorrupt(ctx, key, text, err)
		return raw{}, ResultCorrupt, nil
	case !r.live(s.cfg.Now()), r.version < version:
		return raw{}, ResultMiss, nil
	}
	c.minimums.reached(id, r.version, 0)
	switch r.state {
	case Missing:
		return r, ResultNegative, nil
	case Revoked:
		return r, ResultRevoked, nil
	}
	return r, ResultHit, nil
}

// removeCorrupt removes the entry if it still is what could not be read.
func (c *core) removeCorrupt(ctx context.Context, key string, text []byte, why error) {
	_, err := c.store.run(ctx, corruptScript, []string{key}, text)
	c.store.cfg.Hooks.Trouble(c.name, errors.Join(fmt.Errorf("cache %s: %s: %w", c.name, key, why), err))
}

// fromDatabase loads the entry, through Redis unless that is in trouble.
func (c *Versioned[T]) fromDatabase(ctx context.Context, g Generations, id string, version int64, trouble bool) (Entry[T], error) {
	r := request{key: c.key(g.Live, id), id: id, version: version, also: c.alsoFill(g, id), load: func(ctx context.Context) (loaded, error) { return c.read(ctx, id) }}
	answer := c.miss
	if trouble {
		answer = c.direct
	}
	found, err := answer(ctx, r)
	if err != nil {
		return Entry[T]{}, err
	}
	e, err := c.decode(found)
	if err != nil {
		return e, fmt.Errorf("cache %s: decode what was just encoded, or filled by another program: %w", c.name, err)
	}
	return e, nil
}

// alsoFill returns what a fill asks for after the load: the keys of the further
// generations that need the entry. A load can take longer than a process may
// believe what it knew of the generations before it.
func (c *Versioned[T]) alsoFill(g Generations, id string) func(context.Context) ([]string, error) {
	return func(ctx context.Context) (keys []string, err error) {
		now, err := c.cfg.Generations(ctx)
		if err != nil {
			return nil, err
		}
		filled := now.Filled()
		if now.Live != g.Live {
			return nil, errOtherGeneration
		}
		for _, generation := range filled[min(1, len(filled)):] {
			keys = append(keys, c.key(generation, id))
		}
		return keys, nil
	}
}

// read runs the load and makes a stored entry of what it found.
func (c *Versioned[T]) read(ctx context.Context, id string) (loaded, error) {
	e, err := c.load(ctx, id)
	if errors.Is(err, ErrNotFound) {
		e, err = Entry[T]{State: Missing}, nil
	}
	if err != nil {
		return loaded{}, err
	}
	if err := e.validate(); err != nil {
		return loaded{}, err
	}
	now := c.store.cfg.Now()
	if e.ended(now) && (e.State == Live || e.State == 0) {
		e = Entry[T]{Version: e.Version, State: Missing}
	}
	return c.encode(e, c.ttl(e, false, now), now)
}

func (e Entry[T]) ended(now time.Time) bool { return !e.Expires.IsZero() && !now.Before(e.Expires) }

// encode makes the stored form of e, which serves for ttl.
func (c *Versioned[T]) encode(e Entry[T], ttl time.Duration, now time.Time) (loaded, error) {
	l := loaded{raw: raw{version: e.Version, state: e.State, expiry: now.Add(ttl).UnixMilli()}, ttl: ttl}
	if e.State != 0 && e.State != Live {
		return l, nil
	}
	l.state = Live
	payload, err := c.cfg.Encode(e.Value)
	if err != nil {
		return l, fmt.Errorf("encode: %w", err)
	}
	l.payload = payload
	return l, nil
}

// ttl is how long e serves. A tombstone that was put has to outlive what may be
// replayed; one that was loaded can be loaded again.
func (c *Versioned[T]) ttl(e Entry[T], put bool, now time.Time) time.Duration {
	left := e.Expires.Sub(now)
	switch {
	case e.State == Missing && (!put || e.Version == 0) && c.cfg.NegativeTTL < 0:
		return 0
	case e.State == Missing && (!put || e.Version == 0):
		return jitter(c.cfg.NegativeTTL)
	case e.State == Missing, e.State == Revoked && put && e.Expires.IsZero():
		return c.cfg.TombstoneTTL
	case e.State == Revoked && put:
		return max(left, 2*c.store.cfg.LoadTimeout)
	case e.State == Revoked || e.Expires.IsZero():
		return jitter(c.cfg.TTL)
	}
	return max(min(jitter(c.cfg.TTL), left), 0)
}

func (c *Versioned[T]) decode(r raw) (Entry[T], error) {
	e := Entry[T]{Version: r.version, State: r.state, Expires: time.UnixMilli(r.expiry)}
	if r.state != Live {
		return e, nil
	}
	v, err := c.cfg.Decode(r.payload)
	e.Value = v
	return e, err
}
