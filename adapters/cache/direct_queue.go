package cache

import "sync"

// directQueue holds the loads past Redis. A key has one load at a time, and a caller
// joins only a load that has not begun. So what a caller gets was read after it
// came, and however many callers there are, a key has one load at work and one that
// waits.
type directQueue struct {
	mu   sync.Mutex
	last map[string]*directLoad
}

type directLoad struct {
	done  chan struct{} // closed when found and err are there
	begun bool          // under the mutex of directQueue
	found raw
	err   error
}

// join returns the load to wait for. run is to call begun, at the latest when it
// begins to read.
func (ts *directQueue) join(store *Store, key string, run func() (raw, error)) (*directLoad, error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	before := ts.last[key]
	if before != nil && !before.begun {
		return before, nil
	}
	if err := store.begin(); err != nil {
		return nil, err
	}
	if ts.last == nil {
		ts.last = map[string]*directLoad{}
	}
	t := &directLoad{done: make(chan struct{})}
	ts.last[key] = t
	go func() {
		defer store.running.Done()
		defer ts.end(key, t)
		if before != nil {
			<-before.done
		}
		t.found, t.err = run()
	}()
	return t, nil
}

// begun closes the load of key, which is the only one that runs, to newcomers.
func (ts *directQueue) begun(key string) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.last[key].begun = true
}

func (ts *directQueue) end(key string, t *directLoad) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.last[key] == t {
		delete(ts.last, key)
	}
	close(t.done)
}
