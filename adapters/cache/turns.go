package cache

import "sync"

// turns are loads past Redis: of a key one at a time, and a caller joins only one
// that has not begun. So what a caller gets was read after it came, and however
// many ask, a key has one load at work and one waiting.
type turns struct {
	mu   sync.Mutex
	last map[string]*turn
}

type turn struct {
	done  chan struct{} // closed when found and err are there
	begun bool          // under the mutex of turns
	found raw
	err   error
}

// join returns the turn to wait for. run is to call begun, at the latest when it
// begins to read.
func (ts *turns) join(store *Store, key string, run func() (raw, error)) (*turn, error) {
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
		ts.last = map[string]*turn{}
	}
	t := &turn{done: make(chan struct{})}
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

// begun closes the turn of key, which is the only one that runs, to newcomers.
func (ts *turns) begun(key string) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.last[key].begun = true
}

func (ts *turns) end(key string, t *turn) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.last[key] == t {
		delete(ts.last, key)
	}
	close(t.done)
}
