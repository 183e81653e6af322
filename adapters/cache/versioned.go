package cache

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/millrace-go/millrace/adapters/internal/problems"
)

// Load asks the database for one thing. ErrNotFound says that there is none; an
// entry of state Missing or Revoked says so with a version. Its context ends
// after the store's LoadTimeout, not with the caller that happened to be first.
// It must read what is committed now: of a primary, not of a lagging replica.
type Load[T any] func(ctx context.Context, id string) (Entry[T], error)

// VersionedConfig configures a Versioned. Only TTL is required.
type VersionedConfig[T any] struct {
	// TTL is how long an entry serves, give or take a tenth. Required, at least 1 s.
	TTL time.Duration
	// NegativeTTL is how long it is remembered that a load found nothing, at least
	// 1 s; -1 for not at all. Default 30 s.
	NegativeTTL time.Duration
	// TombstoneTTL is how long a tombstone serves. It must outlive whatever can
	// still be replayed from before it, dead letters too. Default 24 h, at least 1 s.
	TombstoneTTL time.Duration
	// Prefix begins every key. Give another one when what T encodes to changes
	// such that one version of the program cannot read the other's. Default the
	// name and ":".
	Prefix string
	// Encode and Decode make and read the payload; give both or none. Decode must
	// copy what it keeps. Default JSON.
	Encode func(T) ([]byte, error)
	Decode func([]byte) (T, error)
	// Generations, if not nil, returns the generations of the entries, whose names
	// follow the prefix in their keys: the Of of a rebuild.Tracker. Reads ask the one
	// that answers; what is put or filled goes to the others too. Default: none.
	Generations func(context.Context) (Generations, error)
	// Near puts a layer of this process in front of Redis. Default none.
	Near *NearConfig
}

func (c VersionedConfig[T]) withDefaults(name string) VersionedConfig[T] {
	c.NegativeTTL = cmp.Or(c.NegativeTTL, 30*time.Second)
	c.TombstoneTTL = cmp.Or(c.TombstoneTTL, 24*time.Hour)
	c.Prefix = cmp.Or(c.Prefix, name+":")
	if c.Generations == nil {
		c.Generations = func(context.Context) (Generations, error) { return Generations{}, nil }
	}
	if c.Encode == nil && c.Decode == nil {
		c.Encode = func(v T) ([]byte, error) { return json.Marshal(v) }
		c.Decode = func(b []byte) (v T, err error) { return v, json.Unmarshal(b, &v) }
	}
	if c.Near != nil {
		near := c.Near.withDefaults() // the caller's stays as it is
		c.Near = &near
	}
	return c
}

// check collects what is wrong with a VersionedConfig that has its defaults.
func (c VersionedConfig[T]) check(wrong *problems.List) {
	problems.AtLeast(wrong, "TTL", c.TTL, time.Second)
	wrong.Unless(c.NegativeTTL >= time.Second || c.NegativeTTL == -1, "NegativeTTL", "must be at least 1s, or -1 for off, is %s", c.NegativeTTL)
	problems.AtLeast(wrong, "TombstoneTTL", c.TombstoneTTL, time.Second)
	wrong.Unless((c.Encode == nil) == (c.Decode == nil), "Encode, Decode", "must be given both or not at all")
	if c.Near != nil {
		c.Near.check(wrong)
	}
}

// Versioned is a cache of things that have versions. It is safe for concurrent use.
type Versioned[T any] struct {
	*core
	load Load[T]
	cfg  VersionedConfig[T]
	near *near[T]
}

// NewVersioned returns a cache in store. name is its label in metrics and in
// errors. With a nil load the cache is all there is: a Get of what is not stored
// is ErrMiss, and the entries come from Put alone. It starts nothing.
func NewVersioned[T any](store *Store, name string, load Load[T], cfg VersionedConfig[T]) (*Versioned[T], error) {
	cfg = cfg.withDefaults(name)
	var wrong problems.List
	problems.NotNil(&wrong, "store", store != nil)
	wrong.Unless(name != "", "name", "must not be empty")
	cfg.check(&wrong)
	if wrong.Err() == nil {
		wrong.AddAll(store.claim(cfg.Prefix))
	}
	if err := wrong.Err(); err != nil {
		return nil, fmt.Errorf("cache %s: %w", name, err)
	}
	c := &Versioned[T]{core: &core{store: store, name: name}, load: load, cfg: cfg}
	c.minimums.life = cfg.longest()
	if cfg.Near != nil {
		c.near = newNear[T](*cfg.Near, store.cfg.Now)
		store.attach(c.near, cfg.Prefix)
	}
	return c, nil
}

// In returns the cache of the same entries in the generations g, whatever
// Config.Generations says: to fold events into one that is being built, or to write
// to those that a rebuild.Tracker's Write names.
func (c *Versioned[T]) In(g Generations) *Versioned[T] {
	in := *c
	in.cfg.Generations = func(context.Context) (Generations, error) { return g, nil }
	return &in
}

// Key is where Redis has the entry of id, in the generation that answers: for
// operators, see Inspect.
func (c *Versioned[T]) Key(ctx context.Context, id string) (string, error) {
	g, err := c.cfg.Generations(ctx)
	if err != nil {
		return "", fmt.Errorf("cache %s: %w", c.name, err)
	}
	return c.key(g.Live, id), nil
}

// key is where the entry of id is in one generation.
func (c *Versioned[T]) key(generation, id string) string {
	if generation == "" {
		return c.cfg.Prefix + id
	}
	return c.cfg.Prefix + generation + ":" + id
}

// Get returns the thing of that id: from Redis, and if it has none, from the
// database, which fills Redis. Without such a thing it is ErrNotFound, with one
// that was revoked ErrRevoked. It is never either of them because of Redis.
// Each caller gets a value of its own, unless there is a near layer.
func (c *Versioned[T]) Get(ctx context.Context, id string) (T, error) {
	e, err := c.GetEntry(ctx, id)
	if err != nil {
		return e.Value, err
	}
	return e.result()
}

// GetEntry is Get with all that is known: what is missing or revoked is an entry
// that says so, and no error.
func (c *Versioned[T]) GetEntry(ctx context.Context, id string) (Entry[T], error) {
	return c.get(ctx, id, 0)
}

// GetAtLeast is GetEntry for a caller who knows that the version was reached, by
// its own write or by being told: an older entry counts as a miss.
func (c *Versioned[T]) GetAtLeast(ctx context.Context, id string, version int64) (Entry[T], error) {
	return c.get(ctx, id, version)
}

// Near returns how many entries the near layer has, and 0 if there is none or it
// is not fresh.
func (c *Versioned[T]) Near() int {
	if c.near == nil || !c.near.usable() {
		return 0
	}
	return c.near.entries()
}

// Put offers an entry and reports whether it was stored: it is not if an entry of
// that or a later version is there, which is not an error. What could only be stale
// later is prevented even then: a load that began before cannot fill in any more.
// After an error, put again; until that, this process asks the database.
//
// Put makes an entry where none is. Use it for what is new, for tombstones, and
// where there is no load. With a load, Refresh is safer: an old event that comes
// again after the entry of a newer one was evicted makes none.
func (c *Versioned[T]) Put(ctx context.Context, id string, e Entry[T]) (stored bool, err error) {
	done, err := c.PutAll(ctx, Put[T]{id, e})
	return done.Stored > 0, err
}

// Refresh is Put that only replaces an older entry, and makes none.
func (c *Versioned[T]) Refresh(ctx context.Context, id string, e Entry[T]) (stored bool, err error) {
	done, err := c.RefreshAll(ctx, Put[T]{id, e})
	return done.Stored > 0, err
}

// Revoke takes a thing back: from now on Get is ErrRevoked, until it would have
// ended by itself. version is that of the act. Record it in the database in the
// same transaction as its event, and have load say so too: then no flush of Redis
// brings the thing back.
func (c *Versioned[T]) Revoke(ctx context.Context, id string, version int64, until time.Time) error {
	_, err := c.Put(ctx, id, Entry[T]{Version: version, State: Revoked, Expires: until})
	return err
}

// Remove leaves a tombstone for what was deleted by an act of that version: from
// now on Get is ErrNotFound, and no event from before brings the thing back.
func (c *Versioned[T]) Remove(ctx context.Context, id string, version int64) error {
	_, err := c.Put(ctx, id, Entry[T]{Version: version, State: Missing})
	return err
}

// Put is an entry and whose it is.
type Put[T any] struct {
	ID    string
	Entry Entry[T]
}

// Applied counts what became of the entries of PutAll.
type Applied struct {
	Stored int // are the entries now
	Older  int // an entry of this or a later version was there or came with it, or this is past its end
	Absent int // RefreshAll found nothing to replace
}

// jitter is d, give or take a tenth, so that what was filled together does not
// end together.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}
