package consumer

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// inflight counts the deliveries handed to the router and not yet finished.
// Watermill's own count misses those that have left the subscriber's channel and
// not yet reached their goroutine when it closes.
type inflight struct {
	mu     sync.Mutex
	total  int
	byName map[string]int
	idle   chan struct{} // closed when total falls to 0; nil if nobody waits
}

func (f *inflight) add(name string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byName == nil {
		f.byName = map[string]int{}
	}
	f.total += n
	f.byName[name] += n
}

func (f *inflight) done(name string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.total -= n
	if f.byName[name] -= n; f.byName[name] == 0 {
		delete(f.byName, name)
	}
	if f.total == 0 && f.idle != nil {
		close(f.idle)
		f.idle = nil
	}
}

func (f *inflight) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.total
}

func (f *inflight) names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.byName))
}

// wait reports whether all deliveries finished within d.
func (f *inflight) wait(d time.Duration) bool {
	f.mu.Lock()
	if f.total == 0 {
		f.mu.Unlock()
		return true
	}
	if f.idle == nil {
		f.idle = make(chan struct{})
	}
	idle := f.idle
	f.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-idle:
		return true
	case <-timer.C:
		return false
	}
}
