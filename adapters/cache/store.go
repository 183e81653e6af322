package cache

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/semaphore"

	"github.com/millrace-go/millrace/adapters/internal/problems"
)

// StoreConfig configures a Store. The zero value is usable.
type StoreConfig struct {
	// MaxLoads limits the loads that run at once, of all caches of the store together:
	// what a flushed Redis may cost the database. Default 32.
	MaxLoads int
	// LoadWait is how long a load waits for its turn before its callers get
	// ErrOverloaded. Default 1 s.
	LoadWait time.Duration
	// LoadTimeout bounds one load, at least 10 ms. It is also the life of a lease: a
	// process that died in a load keeps the others waiting no longer. Default 2 s.
	LoadTimeout time.Duration
	// LeaseWait is how long to wait for another process to fill an entry before taking
	// the lease over, at most LoadTimeout. Default 500 ms.
	LeaseWait time.Duration
	// BreakerErrors is how many errors in a row open the breaker. Default 5.
	BreakerErrors int
	// BreakerProbe is the time between attempts while the breaker is open. Default 1 s.
	BreakerProbe time.Duration
	// EpochKey is a key that Run keeps in Redis: if it is gone, Redis has lost
	// its data. Default "cache:epoch".
	EpochKey string
	// WatchInterval is how often Run reads the epoch key. Default 1 s.
	WatchInterval time.Duration
	// Hooks are told what happens. Default: none.
	Hooks Hooks
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

func (c StoreConfig) withDefaults() StoreConfig {
	c.MaxLoads = cmp.Or(c.MaxLoads, 32)
	c.LoadWait = cmp.Or(c.LoadWait, time.Second)
	c.LoadTimeout = cmp.Or(c.LoadTimeout, 2*time.Second)
	c.LeaseWait = cmp.Or(c.LeaseWait, min(500*time.Millisecond, c.LoadTimeout))
	c.BreakerErrors = cmp.Or(c.BreakerErrors, 5)
	c.BreakerProbe = cmp.Or(c.BreakerProbe, time.Second)
	c.EpochKey = cmp.Or(c.EpochKey, "cache:epoch")
	c.WatchInterval = cmp.Or(c.WatchInterval, time.Second)
	c.Hooks = c.Hooks.withDefaults()
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// check collects what is wrong with a StoreConfig that has its defaults.
func (c StoreConfig) check(wrong *problems.List) {
	problems.AtLeast(wrong, "MaxLoads", c.MaxLoads, 1)
	problems.Positive(wrong, "LoadWait", c.LoadWait)
	problems.AtLeast(wrong, "LoadTimeout", c.LoadTimeout, 10*time.Millisecond)
	wrong.Unless(c.LeaseWait > 0 && c.LeaseWait <= max(c.LoadTimeout, 0), "LeaseWait", "must be positive and at most LoadTimeout %s, is %s", c.LoadTimeout, c.LeaseWait)
	problems.AtLeast(wrong, "BreakerErrors", c.BreakerErrors, 1)
	problems.Positive(wrong, "BreakerProbe", c.BreakerProbe)
	problems.Positive(wrong, "WatchInterval", c.WatchInterval)
}

// Store is one Redis, and one bound on what misses may cost the database, shared
// by the caches of a process. It is safe for concurrent use.
type Store struct {
	rdb     *redis.Client
	cfg     StoreConfig
	breaker breaker
	slots   *semaphore.Weighted

	loading, peak, waiting atomic.Int64
	flushes                atomic.Int64

	mu       sync.Mutex
	closed   bool
	running  sync.WaitGroup
	prefixes []string
	layers   []attached
}

// NewStore returns a store in rdb, which stays the caller's to close, after the
// store. The client must have limits such as Options gives; others are refused.
// It may be a failover client of Sentinel. It starts no goroutine and does no I/O.
func NewStore(rdb *redis.Client, cfg StoreConfig) (*Store, error) {
	cfg = cfg.withDefaults()
	var wrong problems.List
	problems.NotNil(&wrong, "rdb", rdb != nil)
	if rdb != nil {
		if err := checkOptions(rdb.Options()); err != nil {
			wrong.Add("rdb: make the client with cache.Options or cache.Harden", err)
		}
	}
	cfg.check(&wrong)
	if err := wrong.Err(); err != nil {
		return nil, fmt.Errorf("cache store: %w", err)
	}
	s := &Store{rdb: rdb, cfg: cfg, slots: semaphore.NewWeighted(int64(cfg.MaxLoads))}
	s.breaker = breaker{limit: int32(min(cfg.BreakerErrors, 1<<30)), every: cfg.BreakerProbe, now: cfg.Now, changed: cfg.Hooks.Breaker}
	return s, nil
}

// claim keeps two caches of a store from having keys in common.
func (s *Store) claim(prefix string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.prefixes {
		if strings.HasPrefix(p, prefix) || strings.HasPrefix(prefix, p) {
			return fmt.Errorf("Prefix: %q overlaps %q of another cache of the store", prefix, p)
		}
	}
	s.prefixes = append(s.prefixes, prefix)
	return nil
}

// Status is how a store is doing.
type Status struct {
	// BreakerOpen: Redis is being left alone.
	BreakerOpen bool
	// Loading and Waiting are the loads at work and those that wait for capacity,
	// PeakLoading the most there ever were at work at once.
	Loading, Waiting, PeakLoading int
	// Flushes is how often Redis was seen to have lost its data.
	Flushes int
}

// Status returns how the store is doing. It asks nobody.
func (s *Store) Status() Status {
	return Status{
		BreakerOpen: s.breaker.open(),
		Loading:     int(s.loading.Load()), Waiting: int(s.waiting.Load()), PeakLoading: int(s.peak.Load()),
		Flushes: int(s.flushes.Load()),
	}
}

// begin counts a goroutine of the store's; end it with s.running.Done.
func (s *Store) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.running.Add(1)
	return nil
}

// Close waits for the loads that still run, which takes at most LoadWait and a
// few LoadTimeouts if they keep to their contexts. Later misses get ErrClosed.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.running.Wait()
	return nil
}

// slot waits for one of the slots of the bulkhead.
func (s *Store) slot(ctx context.Context, cache string) (release func(), err error) {
	wait, cancel := context.WithTimeout(ctx, s.cfg.LoadWait)
	defer cancel()
	s.waiting.Add(1)
	err = s.slots.Acquire(wait, 1)
	s.waiting.Add(-1)
	if err != nil {
		s.cfg.Hooks.Overloaded(cache)
		return nil, fmt.Errorf("%w: no capacity within %s", ErrOverloaded, s.cfg.LoadWait)
	}
	return func() { s.slots.Release(1) }, nil
}

// slotNow takes a slot if one is free: for what is not urgent.
func (s *Store) slotNow(context.Context, string) (release func(), err error) {
	if !s.slots.TryAcquire(1) {
		return nil, errBusy
	}
	return func() { s.slots.Release(1) }, nil
}

// working counts a load at work until the returned function is called.
func (s *Store) working() func() {
	n := s.loading.Add(1)
	for p := s.peak.Load(); n > p && !s.peak.CompareAndSwap(p, n); p = s.peak.Load() {
	}
	return func() { s.loading.Add(-1) }
}

// unavailable wraps what Redis did not do.
func unavailable(err error) error {
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

var errBreakerOpen = fmt.Errorf("%w: left alone after errors", ErrUnavailable)
