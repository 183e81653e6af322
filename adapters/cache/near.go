package cache

import (
	"cmp"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace-go/millrace/adapters/internal/problems"
)

// NearConfig configures a near layer: entries kept in this process, as decoded
// values that all callers share and must not change. Redis announces each change
// over a connection of its own, which Store.Run keeps; without Run the layer is
// not used. Only Staleness is required.
type NearConfig struct {
	// Staleness is the most that an answer of the near layer may lag behind Redis,
	// whatever happens to that connection: what has not been confirmed for so
	// long is not used. Required, at least 100 ms. With the connection up it lags
	// by about a round trip.
	Staleness time.Duration
	// Entries is about the most entries kept. Default 10,000.
	Entries int
}

func (c NearConfig) withDefaults() NearConfig {
	c.Entries = cmp.Or(c.Entries, 10_000)
	return c
}

func (c NearConfig) check(wrong *problems.List) {
	problems.AtLeast(wrong, "Near.Staleness", c.Staleness, 100*time.Millisecond)
	problems.AtLeast(wrong, "Near.Entries", c.Entries, 1)
}

const nearShards = 64

// near is the layer. A fetch from Redis is announced before it is sent, so that
// an invalidation which overtakes its answer is not lost.
type near[T any] struct {
	cfg    NearConfig
	now    func() time.Time
	seed   maphash.Seed
	fresh  atomic.Int64 // until when what is here may be used: time since started
	link   atomic.Int64 // number of the connection that keeps it fresh
	shards [nearShards]nearShard[T]
}

type nearShard[T any] struct {
	mu       sync.Mutex
	entries  map[string]Entry[T]
	fetching map[string]*fetch
}

// fetch is what concurrent fetches of one key share.
type fetch struct {
	running int
	version int64 // the newest that anybody saw meanwhile
	overrun bool  // the entry changed meanwhile
	link    int64
}

// started is what fresh is counted from: time.Since uses the monotonic clock.
var started = time.Now()

func newNear[T any](cfg NearConfig, now func() time.Time) *near[T] {
	n := &near[T]{cfg: cfg, now: now, seed: maphash.MakeSeed()}
	for i := range n.shards {
		n.shards[i].entries, n.shards[i].fetching = map[string]Entry[T]{}, map[string]*fetch{}
	}
	return n
}

func (n *near[T]) shard(key string) *nearShard[T] {
	return &n.shards[maphash.String(n.seed, key)%nearShards]
}

func (n *near[T]) usable() bool { return int64(time.Since(started)) < n.fresh.Load() }

// get returns the entry of key if it is at least of that version.
func (n *near[T]) get(key string, version int64) (Entry[T], bool) {
	if !n.usable() {
		return Entry[T]{}, false
	}
	s := n.shard(key)
	s.mu.Lock()
	e, ok := s.entries[key]
	s.mu.Unlock()
	if !ok || e.Version < version || !n.now().Before(e.Expires) {
		return Entry[T]{}, false
	}
	return e, true
}

// begin announces a fetch.
func (n *near[T]) begin(key string) *fetch {
	s := n.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.fetching[key]
	if f == nil || f.link != n.link.Load() {
		f = &fetch{link: n.link.Load()}
		s.fetching[key] = f
	}
	f.running++
	return f
}

// end takes what a fetch found. Only what Redis had is kept: no message announces a
// change of what it has not. What is older than a caller got goes in any case.
func (n *near[T]) end(f *fetch, key string, e Entry[T], found, redisHad bool) {
	s := n.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.running--; f.running == 0 && s.fetching[key] == f {
		delete(s.fetching, key)
	}
	switch {
	case !found:
	case e.Version == 0 && !redisHad: // it is gone by no known version
		s.forget(key, unknownVersion)
	case e.Version < f.version || f.overrun || f.link != n.link.Load() || !redisHad || !n.usable():
		s.forget(key, e.Version)
	default:
		s.forget(key, e.Version)
		if _, ok := s.entries[key]; !ok {
			s.evict(n.cfg.Entries)
			s.entries[key] = e
		}
	}
}

// forget lets go of what is older than version, here and on its way here.
func (s *nearShard[T]) forget(key string, version int64) {
	if have, ok := s.entries[key]; ok && have.Version < version {
		delete(s.entries, key)
	}
	if f := s.fetching[key]; f != nil {
		f.version = max(f.version, version)
	}
}

// evict makes room for one entry: which one goes is left to the map's order.
func (s *nearShard[T]) evict(most int) {
	for key := range s.entries {
		if len(s.entries)*nearShards < max(most, nearShards) {
			return
		}
		delete(s.entries, key)
	}
}

// drop lets go of what is older than version, which was or will be put.
func (n *near[T]) drop(key string, version int64) {
	s := n.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(key, version)
}

// invalidate takes Redis's word that the entry of key has changed or gone.
func (n *near[T]) invalidate(key string) {
	s := n.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.entries, key)
	if f := s.fetching[key]; f != nil {
		f.overrun = true
	}
}

// reset empties the layer: Redis was flushed, or a new connection may not have
// reported everything. What is on its way from before is not kept.
func (n *near[T]) reset(link int64) {
	n.link.Store(link)
	for i := range n.shards {
		s := &n.shards[i]
		s.mu.Lock()
		clear(s.entries)
		for _, f := range s.fetching {
			f.overrun = true
		}
		s.mu.Unlock()
	}
}

// entries counts what is here.
func (n *near[T]) entries() (count int) {
	for i := range n.shards {
		s := &n.shards[i]
		s.mu.Lock()
		count += len(s.entries)
		s.mu.Unlock()
	}
	return count
}

func (n *near[T]) staleness() time.Duration { return n.cfg.Staleness }

// confirm says that every change up to at has been told.
func (n *near[T]) confirm(at time.Time) {
	n.fresh.Store(int64(at.Add(n.cfg.Staleness).Sub(started)))
}
