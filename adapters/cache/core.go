package cache

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/singleflight"
)

// core is what all caches share: how an entry is loaded, once, and filled in. It
// knows no types; entries are raw.
type core struct {
	store       *Store
	name        string
	flights     singleflight.Group
	directQueue directQueue
	minimums    minimums
	clock       atomic.Int64 // orders the callers of a flight and its questions to Redis
}

// loaded is what a load found, and for how long to keep it.
type loaded struct {
	raw
	ttl time.Duration
}

// request is one miss.
type request struct {
	key     string
	id      string // of things with versions, what it is about in every generation
	version int64  // older entries do not count
	again   bool   // load although there is an entry
	genKey  string // of queries, where the generation is
	gen     string // and the one that the answer belongs to
	load    func(context.Context) (loaded, error)
	also    func(context.Context) (keys []string, err error) // further entries to fill, asked for after the load; may be nil
}

// outcome is the result of a flight. Redis confirmed it with an answer to what was
// asked at mark, or never did (0). So no caller that came before mark has seen
// anything newer; a later caller may have.
type outcome struct {
	raw
	mark int64
}

// miss answers a request that Redis had no answer to: it joins the flight for it
// or begins one. It is errLate for who joined too late; Redis knows more by now.
func (c *core) miss(ctx context.Context, r request) (raw, error) {
	led, came := false, c.clock.Add(1)
	ch := c.flights.DoChan(r.key+"\x00"+strconv.FormatInt(r.version, 36), func() (any, error) {
		led = true
		if err := c.store.begin(); err != nil {
			return nil, err
		}
		defer c.store.running.Done()
		return c.fly(context.WithoutCancel(ctx), r)
	})
	select {
	case <-ctx.Done():
		return raw{}, ctx.Err()
	case res := <-ch:
		if errors.Is(res.Err, errDirect) {
			return c.direct(ctx, r)
		}
		if res.Err != nil {
			return raw{}, res.Err
		}
		f := res.Val.(outcome)
		switch {
		case came < f.mark || r.genKey != "":
			c.minimums.reached(r.id, f.version, r.version)
		case led:
			c.minimums.read(r.id, f.raw, c.store.cfg.Now())
		case f.mark != 0:
			return raw{}, errLate
		default:
			return c.direct(ctx, r)
		}
		return f.raw, nil
	}
}

// direct asks the database past Redis. A caller never gets what was loaded
// before it came: there is no lease to tell whether that is still the newest.
func (c *core) direct(ctx context.Context, r request) (raw, error) {
	t, err := c.directQueue.join(c.store, r.key, func() (raw, error) {
		ctx := context.WithoutCancel(ctx)
		release, err := c.store.slot(ctx, c.name)
		if err != nil {
			return raw{}, err
		}
		defer release()
		c.directQueue.begun(r.key)
		found, err := c.ask(ctx, r)
		if err == nil && r.genKey == "" {
			c.minimums.read(r.id, found.raw, c.store.cfg.Now())
		}
		return found.raw, err
	})
	if err != nil {
		return raw{}, err
	}
	select {
	case <-ctx.Done():
		return raw{}, ctx.Err()
	case <-t.done:
		return t.found, t.err
	}
}

// ask runs the load, within its time.
func (c *core) ask(ctx context.Context, r request) (found loaded, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.store.cfg.LoadTimeout)
	defer cancel()
	defer c.store.working()()
	start := time.Now()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("load panicked: %v\n%s", p, debug.Stack())
		}
		took := time.Since(start)
		found.delta = max(took.Milliseconds(), 1)
		c.store.cfg.Hooks.Loaded(LoadInfo{c.name, took, err})
		if err != nil {
			err = fmt.Errorf("cache %s: load: %w", c.name, err)
		}
	}()
	return r.load(ctx)
}

// run asks Redis to run a script, unless the breaker is open.
func (s *Store) run(ctx context.Context, script *redis.Script, keys []string, args ...any) (any, error) {
	if !s.breaker.allow() {
		return nil, errBreakerOpen
	}
	v, err := script.Run(ctx, s.rdb, keys, args...).Result()
	s.breaker.report(err)
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, unavailable(err)
	}
	return v, nil
}
