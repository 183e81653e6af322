package outbox

import (
	"context"
	"slices"
	"sync"
	"time"
)

// window holds the batches that were read and are not yet covered by a saved
// cursor. Its rows are what a crash can make the relay send again, so the reader
// waits while it is full. It decides nothing about time and does no I/O.
type window struct {
	maxRows, maxBytes int

	mu       sync.Mutex
	batches  []*inFlightBatch // in reading order
	rows     int
	bytes    int
	released chan struct{} // capacity 1: rows were saved
	resolved chan struct{} // capacity 1: every entry of a batch is resolved
}

// inFlightBatch is one batch in the window.
type inFlightBatch struct {
	batch  Batch
	bytes  int
	readAt time.Time

	mu         sync.Mutex
	unresolved int    // how many entries are not resolved
	resolved   []bool // per entry: acknowledged, parked or failed
	failed     []int64
	parked     []Parked
}

func newWindow(maxRows, maxBytes int) *window {
	return &window{maxRows: maxRows, maxBytes: maxBytes, released: make(chan struct{}, 1), resolved: make(chan struct{}, 1)}
}

// capacity waits until at least one batch of rows fits, and returns how many rows
// and bytes fit. It returns 0 rows when ctx ends.
func (w *window) capacity(ctx context.Context, batch int) (rows, bytes int) {
	for ctx.Err() == nil {
		w.mu.Lock()
		rows, bytes = w.maxRows-w.rows, w.maxBytes-w.bytes
		w.mu.Unlock()
		if rows >= batch && bytes > 0 {
			return batch, bytes
		}
		select {
		case <-ctx.Done():
		case <-w.released:
		}
	}
	return 0, 0
}

// add puts a batch into the window. An empty batch is resolved at once.
func (w *window) add(b Batch, now time.Time) *inFlightBatch {
	f := &inFlightBatch{batch: b, readAt: now, unresolved: len(b.Entries), resolved: make([]bool, len(b.Entries))}
	for i := range b.Entries {
		f.bytes += len(b.Entries[i].Payload)
	}
	w.mu.Lock()
	w.batches = append(w.batches, f)
	w.rows += len(b.Entries)
	w.bytes += f.bytes
	w.mu.Unlock()
	if f.unresolved == 0 {
		signal(w.resolved)
	}
	return f
}

// resolve records the result of entry i: delivered, or parked, or (failed) neither.
// Only the first result counts. It reports whether it was the batch's last one.
func (w *window) resolve(f *inFlightBatch, i int, parked *Parked, failed bool) (last bool) {
	f.mu.Lock()
	if f.resolved[i] {
		f.mu.Unlock()
		return false
	}
	f.resolved[i] = true
	f.unresolved--
	if parked != nil {
		f.parked = append(f.parked, *parked)
	}
	if failed {
		f.failed = append(f.failed, f.batch.Entries[i].Position)
	}
	last = f.unresolved == 0
	f.mu.Unlock()
	if last {
		signal(w.resolved)
	}
	return last
}

// acknowledged returns the oldest batches of which every entry is acknowledged or
// parked, and what to save for them; ok is false if there are none. They stay in
// the window until released.
func (w *window) acknowledged() (batches []*inFlightBatch, cp Checkpoint, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.batches {
		f.mu.Lock()
		complete := f.unresolved == 0 && len(f.failed) == 0
		f.mu.Unlock()
		if !complete {
			break
		}
		batches = append(batches, f)
		cp.Cursor = f.batch.Cursor
		cp.Parked = append(cp.Parked, f.parked...)
	}
	return batches, cp, len(batches) > 0
}

// release removes the first n batches, whose cursor has been saved.
func (w *window) release(n int) {
	w.mu.Lock()
	for _, f := range w.batches[:n] {
		w.rows -= len(f.batch.Entries)
		w.bytes -= f.bytes
	}
	w.batches = slices.Delete(w.batches, 0, n)
	w.mu.Unlock()
	signal(w.released)
}

// remaining returns what to save when no further result will come: the cursor of
// the newest batch without every entry that was not delivered. ok is false if the
// window is empty.
func (w *window) remaining() (cp Checkpoint, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var undelivered []int64
	for _, f := range w.batches {
		f.mu.Lock()
		undelivered = append(undelivered, f.failed...)
		for i, resolved := range f.resolved {
			if !resolved {
				undelivered = append(undelivered, f.batch.Entries[i].Position)
			}
		}
		cp.Parked = append(cp.Parked, f.parked...)
		cp.Cursor = f.batch.Cursor
		f.mu.Unlock()
	}
	slices.Sort(undelivered)
	cp.Cursor = cp.Cursor.Without(undelivered)
	return cp, len(w.batches) > 0
}

// unresolved counts the entries without a result.
func (w *window) unresolved() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.batches {
		f.mu.Lock()
		n += f.unresolved
		f.mu.Unlock()
	}
	return n
}

// inFlight counts the rows in the window.
func (w *window) inFlight() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rows
}

// signal leaves a token in a channel of capacity 1.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
