package cache

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// maxMinimums bounds the memory of an outage.
const maxMinimums = 1 << 16

// minimums remembers, by id, the lowest version that this process may answer with:
// of what it could not put, and of what it read from the database past Redis. Redis
// may come back with older entries; one below its minimum is not an answer. A
// minimum ends when Redis has caught up, or when every such entry has expired.
type minimums struct {
	life  time.Duration // of the longest-lived entry; 0 keeps none
	count atomic.Int64  // of entries in at; spares the lock while there are none

	mu sync.Mutex
	at map[string]minimum
}

type minimum struct {
	version int64
	until   time.Time
}

// unknownVersion is the minimum of what is gone by no known version: whatever is
// stored does not count.
const unknownVersion = math.MaxInt64

// read remembers what was found in the database, past Redis.
func (f *minimums) read(key string, found raw, now time.Time) {
	version := found.version
	if version == 0 {
		version = unknownVersion
	}
	f.raise(key, version, true, now)
}

// raise remembers that version is not in Redis yet. A minimum never sinks, except
// that a load which found something after one that found nothing knows better.
func (f *minimums) raise(key string, version int64, load bool, now time.Time) {
	if f.life == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at == nil {
		f.at = map[string]minimum{}
	}
	have, ok := f.at[key]
	if ok && have.version > version && now.Before(have.until) && (have.version != unknownVersion || !load) {
		version = have.version
	}
	if !ok && len(f.at) >= maxMinimums {
		f.sweep(now)
	}
	f.at[key] = minimum{version, now.Add(f.life)}
	f.count.Store(int64(len(f.at)))
}

// sweep removes minimums that have ended, or if there are none, any.
func (f *minimums) sweep(now time.Time) {
	for key, have := range f.at {
		if !now.Before(have.until) {
			delete(f.at, key)
		}
	}
	for key := range f.at {
		if len(f.at) < maxMinimums {
			return
		}
		delete(f.at, key)
	}
}

// of returns the least version that an entry of key must have.
func (f *minimums) of(key string, now time.Time) int64 {
	if f.count.Load() == 0 {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	have, ok := f.at[key]
	if ok && now.Before(have.until) {
		return have.version
	}
	delete(f.at, key)
	f.count.Store(int64(len(f.at)))
	return 0
}

// reached takes the minimum away if Redis has that version now, or got it from a
// load that took no entry below asked.
func (f *minimums) reached(key string, version, asked int64) {
	if f.count.Load() == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if have, ok := f.at[key]; ok && (version >= have.version || asked >= have.version) {
		delete(f.at, key)
		f.count.Store(int64(len(f.at)))
	}
}
