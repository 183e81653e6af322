package cache

import (
	"context"
	"errors"
	"fmt"
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
	key     string
	version int64
	text    []byte
	px      int64
}

func (c *Versioned[T]) putAll(ctx context.Context, puts []Put[T], create string) (done Applied, err error) {
	offers, older, err := c.offers(puts)
	done.Older = older
	if err != nil {
		return done, fmt.Errorf("cache %s: put: %w", c.name, err)
	}
	if c.near != nil {
		for _, o := range offers {
			c.near.drop(o.key, o.version)
			defer c.near.drop(o.key, o.version)
		}
	}
	var errs []error
	for len(offers) > 0 {
		n := min(len(offers), chunk)
		errs = append(errs, c.putSome(ctx, offers[:n], create, &done))
		offers = offers[n:]
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
	var p problems
	for _, put := range puts {
		i, seen := at[put.ID]
		if seen && offers[i].version >= put.Entry.Version {
			older++
			continue
		}
		o, err := c.offer(put, now)
		switch {
		case err != nil:
			p.add(fmt.Errorf("%q: %w", put.ID, err))
		case seen:
			older++
			offers[i] = o
		default:
			at[put.ID] = len(offers)
			offers = append(offers, o)
		}
	}
	return offers, older, p.err()
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
	return offer{c.cfg.Prefix + put.ID, l.version, text, l.ttl.Milliseconds()}, nil
}

// putSome is one pipeline. What Redis did not take raises the floors.
func (c *Versioned[T]) putSome(ctx context.Context, offers []offer, create string, done *Applied) error {
	cmds, err := c.pipeline(ctx, offers, create)
	for i, o := range offers {
		answer, failed := answerOf(cmds, i, err)
		switch {
		case failed != nil:
			c.floors.raise(o.key, o.version, false, c.store.cfg.Now())
			err = failed
		case answer == 1:
			done.Stored++
		case answer == 0:
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

// pipeline offers all in one round trip. The script's text is sent only when
// Redis does not know it (yet, or any more).
func (c *core) pipeline(ctx context.Context, offers []offer, create string) ([]*redis.Cmd, error) {
	s := c.store
	if !s.breaker.allow() {
		return nil, errBreakerOpen
	}
	cmds, err := s.send(ctx, offers, create)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		if err = putScript.Load(ctx, s.rdb).Err(); err == nil {
			cmds, err = s.send(ctx, offers, create)
		}
	}
	s.breaker.report(err)
	return cmds, err
}

func (s *Store) send(ctx context.Context, offers []offer, create string) ([]*redis.Cmd, error) {
	cmds := make([]*redis.Cmd, 0, len(offers)/perScript+1)
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for len(offers) > 0 {
			n := min(perScript, len(offers))
			keys, args := make([]string, 0, 2*n), make([]any, 0, 2*n+1)
			args = append(args, create)
			for _, o := range offers[:n] {
				keys, args = append(keys, o.key, leaseOf(o.key)), append(args, o.text, max(o.px, 0))
			}
			cmds = append(cmds, putScript.EvalSha(ctx, p, keys, args...))
			offers = offers[n:]
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
	key := c.cfg.Prefix + id
	if c.near != nil {
		c.near.drop(key, unknownVersion)
		defer c.near.drop(key, unknownVersion)
	}
	if _, err := c.store.run(ctx, expireScript, []string{key, leaseOf(key)}); err != nil {
		c.floors.raise(key, unknownVersion, false, c.store.cfg.Now())
		return fmt.Errorf("cache %s: invalidate: %w", c.name, err)
	}
	return nil
}

// longest is how long an entry with a value can stay in Redis.
func (c *VersionedConfig[T]) longest() time.Duration { return c.TTL + c.TTL/10 + time.Second }
