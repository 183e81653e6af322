package cache

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/millrace-go/millrace/adapters/internal/problems"
)

// QueryConfig configures a Query. Only TTL is required.
type QueryConfig[T any] struct {
	// TTL is how long a result serves, give or take a tenth: how stale it can be
	// when nobody invalidates. Required, at least 1 s.
	TTL time.Duration
	// NegativeTTL is how long it is remembered that there was no result.
	// Default 30 s, at least 1 s.
	NegativeTTL time.Duration
	// SchemaVersion is a part of the keys. Raise it when the query, or what T
	// encodes to, changes. Default 1.
	SchemaVersion int
	// Beta is how early a result in use is loaded again before it ends, in the
	// background: the larger, the earlier. -1 is never. Default 1.
	Beta float64
	// Encode and Decode make and read the payload; give both or none. Decode must
	// copy what it keeps. Default JSON.
	Encode func(T) ([]byte, error)
	Decode func([]byte) (T, error)
}

func (c QueryConfig[T]) withDefaults() QueryConfig[T] {
	c.NegativeTTL = cmp.Or(c.NegativeTTL, 30*time.Second)
	c.SchemaVersion = cmp.Or(c.SchemaVersion, 1)
	c.Beta = cmp.Or(c.Beta, 1)
	if c.Encode == nil && c.Decode == nil {
		c.Encode = func(v T) ([]byte, error) { return json.Marshal(v) }
		c.Decode = func(b []byte) (v T, err error) { return v, json.Unmarshal(b, &v) }
	}
	return c
}

// check collects what is wrong with a QueryConfig that has its defaults.
func (c QueryConfig[T]) check(wrong *problems.List) {
	problems.AtLeast(wrong, "TTL", c.TTL, time.Second)
	problems.AtLeast(wrong, "NegativeTTL", c.NegativeTTL, time.Second)
	problems.AtLeast(wrong, "SchemaVersion", c.SchemaVersion, 1)
	wrong.Unless(c.Beta > 0 || c.Beta == -1, "Beta", "must be positive, or -1 for off, is %g", c.Beta)
	wrong.Unless((c.Encode == nil) == (c.Decode == nil), "Encode, Decode", "must be given both or not at all")
}

// Query is a cache of the results of a query with arguments A. Results have no
// versions. They belong to a generation, which is a part of their keys, so that
// Invalidate ends them all at once. It is safe for concurrent use.
type Query[A, T any] struct {
	*core
	load func(context.Context, A) (T, error)
	cfg  QueryConfig[T]

	prefix string                 // of the keys; the generation follows
	genKey string                 // where the generation is
	last   atomic.Pointer[string] // the generation that was seen last
	owed   atomic.Int64           // Invalidates that Redis has not heard of
}

// NewQuery returns a cache of the results of load, which asks the database.
// ErrNotFound from it says that there is no result, which is remembered too. Its
// context ends after the store's LoadTimeout, not with the caller that happened to
// be first. name names the cache in keys, metrics and errors. A may be made of numbers, strings, booleans, times, what can
// marshal itself to text, and of structs, slices, arrays, maps and pointers of
// these. It starts nothing.
func NewQuery[A, T any](store *Store, name string, load func(ctx context.Context, args A) (T, error), cfg QueryConfig[T]) (*Query[A, T], error) {
	cfg = cfg.withDefaults()
	var wrong problems.List
	problems.NotNil(&wrong, "store", store != nil)
	wrong.Unless(name != "", "name", "must not be empty")
	problems.NotNil(&wrong, "load", load != nil)
	cfg.check(&wrong)
	wrong.Add("arguments", checkArgs(reflect.TypeFor[A]()))
	prefix := queryPrefix(name, cfg.SchemaVersion)
	if wrong.Err() == nil {
		wrong.AddAll(store.claim(prefix))
	}
	if err := wrong.Err(); err != nil {
		return nil, fmt.Errorf("cache %s: %w", name, err)
	}
	return &Query[A, T]{core: &core{store: store, name: name}, load: load, cfg: cfg, prefix: prefix, genKey: prefix + "gen"}, nil
}

// Get returns the result for args: from Redis, and if it has none, from the
// database, which fills Redis. Each caller gets a value of its own. A result that
// is about to end is loaded again behind the caller's back. Without a result it is
// ErrNotFound; it is never that because of Redis.
func (q *Query[A, T]) Get(ctx context.Context, args A) (v T, err error) {
	if err := ctx.Err(); err != nil {
		return v, err
	}
	digest, err := argsDigest(args)
	if err != nil {
		return v, fmt.Errorf("cache %s: arguments: %w", q.name, err)
	}
	gen, r, result := q.stored(ctx, digest)
	req := request{key: q.prefix + gen + ":" + digest, genKey: q.genKey, gen: gen}
	req.load = func(ctx context.Context) (loaded, error) { return q.read(ctx, args, gen) }
	if result == ResultHit || result == ResultNegative {
		if v, err = q.decode(r); err == nil || errors.Is(err, ErrNotFound) {
			q.store.cfg.Hooks.Requested(q.name, result)
			q.refreshEarly(ctx, req, r)
			return v, err
		}
		result = ResultCorrupt
		q.removeCorrupt(ctx, req.key, r.append(nil), err)
	}
	q.store.cfg.Hooks.Requested(q.name, result)
	answer := q.miss
	if result == ResultError {
		answer = q.direct
	}
	if r, err = answer(ctx, req); err != nil {
		return v, err
	}
	return q.decode(r)
}

// Invalidate ends all results, of all arguments and in all processes: it begins
// a new generation. Loads of the old one that still run are not kept. Call it
// after the commit that changes what the query would find. After an error this
// process asks the database until Redis has heard of it.
func (q *Query[A, T]) Invalidate(ctx context.Context) error {
	owed := q.owed.Add(1)
	if err := q.renew(ctx, owed); err != nil {
		return fmt.Errorf("cache %s: invalidate: %w", q.name, err)
	}
	return nil
}

// renew begins a new generation, which pays for as many Invalidates as were owed.
func (q *Query[A, T]) renew(ctx context.Context, owed int64) error {
	if _, err := q.store.run(ctx, renewScript, []string{q.genKey}, threeDigits()); err != nil {
		return err
	}
	q.owed.CompareAndSwap(owed, 0)
	return nil
}

func (q *Query[A, T]) read(ctx context.Context, args A, gen string) (loaded, error) {
	v, err := q.load(ctx, args)
	version, _ := digits([]byte(gen)) // 0 if Redis could not tell: then nothing is stored
	l := loaded{raw: raw{version: version, state: Live}, ttl: jitter(q.cfg.TTL)}
	switch {
	case errors.Is(err, ErrNotFound):
		l.state, l.ttl, err = Missing, jitter(q.cfg.NegativeTTL), nil
	case err == nil:
		l.payload, err = q.cfg.Encode(v)
	}
	l.expiry = q.store.cfg.Now().Add(l.ttl).UnixMilli()
	return l, err
}

func (q *Query[A, T]) decode(r raw) (v T, err error) {
	if r.state == Missing {
		return v, ErrNotFound
	}
	return q.cfg.Decode(r.payload)
}
