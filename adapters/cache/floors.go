package cache

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// maxFloors bounds the memory of an outage.
const maxFloors = 1 << 16

// floors remember what this process knows to be newer than Redis may be: what it
// could not put, and what it read from the database past Redis. Redis may come
// back with entries of before; below its floor an entry is no answer. A floor
// ends when Redis has caught up, or when every such entry has expired.
type floors struct {
	life  time.Duration // of the longest-lived entry; 0 keeps none
	count atomic.Int64  // of entries in at; spares the lock while there are none

	mu sync.Mutex
	at map[string]floor
}

type floor struct {
	version int64
	until   time.Time
}

// unknownVersion is the floor of what is gone by no known version: whatever is
// stored does not count.
const unknownVersion = math.MaxInt64

// read remembers what was found in the database, past Redis.
func (f *floors) read(key string, found raw, now time.Time) {
	version := found.version
	if version == 0 {
		version = unknownVersion
	}
	f.raise(key, version, true, now)
}

// raise remembers that version is not in Redis yet. A floor never sinks, except
// that a load which found something after one that found nothing knows better.
func (f *floors) raise(key string, version int64, load bool, now time.Time) {
	if f.life == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at == nil {
		f.at = map[string]floor{}
	}
	have, ok := f.at[key]
	if ok && have.version > version && now.Before(have.until) && (have.version != unknownVersion || !load) {
		version = have.version
	}
	if !ok && len(f.at) >= maxFloors {
		f.sweep(now)
	}
	f.at[key] = floor{version, now.Add(f.life)}
	f.count.Store(int64(len(f.at)))
}

// sweep makes room: the floors that are over go, or if there are none, any.
func (f *floors) sweep(now time.Time) {
	for key, have := range f.at {
		if !now.Before(have.until) {
			delete(f.at, key)
		}
	}
	for key := range f.at {
		if len(f.at) < maxFloors {
			return
		}
		delete(f.at, key)
	}
}

// of returns the least version that an entry of key must have.
func (f *floors) of(key string, now time.Time) int64 {
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

// reached takes the floor away if Redis has that version now, or got it from a
// load that took no entry below asked.
func (f *floors) reached(key string, version, asked int64) {
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
