package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/semaphore"
)

// StoreConfig configures a Store. The zero value is usable.
type StoreConfig struct {
	// Loads is the most loads at once, of all caches of the store together: what
	// a flushed Redis may cost the database. Default 32.
	Loads int
	// LoadWait is how long a load waits for room among them before its callers
	// get ErrOverloaded. Default 1 s.
	LoadWait time.Duration
	// LoadTimeout bounds one load. It is also the life of a fill lease, that is
	// how long a process that died in a load can hold the others up at most.
	// Default 2 s, at least 10 ms.
	LoadTimeout time.Duration
	// LeaseWait is how long to wait for another process to fill an entry before
	// taking the lease over. Default 500 ms, at most LoadTimeout.
	LeaseWait time.Duration
	// BreakerErrors is how many errors in a row open the breaker. Default 5.
	BreakerErrors int
	// BreakerProbe is the time between tries while the breaker is open. Default 1 s.
	BreakerProbe time.Duration
	// EpochKey is a key that Run keeps in Redis: if it is gone, Redis has lost
	// its data. Default "cache:epoch".
	EpochKey string
	// WatchInterval is how often Run looks after the epoch key. Default 1 s.
	WatchInterval time.Duration
	// Hooks tell of what happens. Default none.
	Hooks Hooks
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

func (c *StoreConfig) setDefaults() {
	def(&c.Loads, 32)
	def(&c.LoadWait, time.Second)
	def(&c.LoadTimeout, 2*time.Second)
	def(&c.LeaseWait, min(500*time.Millisecond, c.LoadTimeout))
	def(&c.BreakerErrors, 5)
	def(&c.BreakerProbe, time.Second)
	def(&c.EpochKey, "cache:epoch")
	def(&c.WatchInterval, time.Second)
	if c.Now == nil {
		c.Now = time.Now
	}
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *StoreConfig) validate() error {
	var p problems
	p.need(c.Loads > 0, "Loads: is %d, must be positive", c.Loads)
	p.need(c.LoadWait > 0, "LoadWait: is %s, must be positive", c.LoadWait)
	p.need(c.LoadTimeout >= 10*time.Millisecond, "LoadTimeout: is %s, must be at least 10ms", c.LoadTimeout)
	p.need(c.LeaseWait > 0 && c.LeaseWait <= max(c.LoadTimeout, 0), "LeaseWait: is %s, must be positive and at most LoadTimeout %s", c.LeaseWait, c.LoadTimeout)
	p.need(c.BreakerErrors > 0, "BreakerErrors: is %d, must be positive", c.BreakerErrors)
	p.need(c.BreakerProbe > 0, "BreakerProbe: is %s, must be positive", c.BreakerProbe)
	p.need(c.WatchInterval > 0, "WatchInterval: is %s, must be positive", c.WatchInterval)
	return p.err()
}

// problems collects what is wrong with a configuration.
type problems []error

func (p *problems) need(ok bool, format string, args ...any) {
	if !ok {
		*p = append(*p, fmt.Errorf(format, args...))
	}
}

func (p *problems) add(err error) {
	if err != nil {
		*p = append(*p, err)
	}
}

func (p problems) err() error { return errors.Join(p...) }

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
// store. The client must have limits such as Options gives; see CheckOptions.
// It may be a failover client of Sentinel. It starts nothing and asks nothing.
func NewStore(rdb *redis.Client, cfg StoreConfig) (*Store, error) {
	cfg.setDefaults()
	var errs []error
	if rdb == nil {
		errs = append(errs, errors.New("rdb: is nil"))
	} else if err := CheckOptions(rdb.Options()); err != nil {
		errs = append(errs, fmt.Errorf("rdb: make the client with cache.Options or cache.Harden: %w", err))
	}
	if err := errors.Join(append(errs, cfg.validate())...); err != nil {
		return nil, fmt.Errorf("cache store: %w", err)
	}
	s := &Store{rdb: rdb, cfg: cfg, slots: semaphore.NewWeighted(int64(cfg.Loads))}
	s.breaker = breaker{limit: int32(min(cfg.BreakerErrors, 1<<30)), every: cfg.BreakerProbe, now: cfg.Now, changed: cfg.Hooks.breaker}
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
	// Loading and Waiting are the loads at work and those that wait for room,
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

// room waits for one of the slots of the bulkhead.
func (s *Store) room(ctx context.Context, cache string) (release func(), err error) {
	wait, cancel := context.WithTimeout(ctx, s.cfg.LoadWait)
	defer cancel()
	s.waiting.Add(1)
	err = s.slots.Acquire(wait, 1)
	s.waiting.Add(-1)
	if err != nil {
		s.cfg.Hooks.overloaded(cache)
		return nil, fmt.Errorf("%w: no room for %s", ErrOverloaded, s.cfg.LoadWait)
	}
	return func() { s.slots.Release(1) }, nil
}

// roomNow takes a slot if one is free: for what is not urgent.
func (s *Store) roomNow(context.Context, string) (release func(), err error) {
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
