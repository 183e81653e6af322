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

	mu      sync.Mutex
	flights []*flight // in reading order
	rows    int
	bytes   int
	freed   chan struct{} // capacity 1: rows were saved
	done    chan struct{} // capacity 1: a flight came home
}

// flight is one batch on its way.
type flight struct {
	batch  Batch
	bytes  int
	readAt time.Time

	mu     sync.Mutex
	open   int    // entries without a verdict
	given  []bool // verdict given: acknowledged, parked or failed
	failed []int64
	parked []Parked
}

func newWindow(maxRows, maxBytes int) *window {
	return &window{maxRows: maxRows, maxBytes: maxBytes, freed: make(chan struct{}, 1), done: make(chan struct{}, 1)}
}

// room waits until at least one batch of rows fits and returns how many rows and
// bytes do. It returns 0 rows when ctx ends.
func (w *window) room(ctx context.Context, batch int) (rows, bytes int) {
	for ctx.Err() == nil {
		w.mu.Lock()
		rows, bytes = w.maxRows-w.rows, w.maxBytes-w.bytes
		w.mu.Unlock()
		if rows >= batch && bytes > 0 {
			return batch, bytes
		}
		select {
		case <-ctx.Done():
		case <-w.freed:
		}
	}
	return 0, 0
}

// add takes in a batch and returns its flight. An empty batch is home at once.
func (w *window) add(b Batch, now time.Time) *flight {
	f := &flight{batch: b, readAt: now, open: len(b.Entries), given: make([]bool, len(b.Entries))}
	for i := range b.Entries {
		f.bytes += len(b.Entries[i].Payload)
	}
	w.mu.Lock()
	w.flights = append(w.flights, f)
	w.rows += len(b.Entries)
	w.bytes += f.bytes
	w.mu.Unlock()
	if f.open == 0 {
		signal(w.done)
	}
	return f
}

// settle gives entry i its verdict: delivered, or parked, or (failed) neither.
// Only the first verdict counts. It reports whether the flight is now home.
func (w *window) settle(f *flight, i int, parked *Parked, failed bool) (home bool) {
	f.mu.Lock()
	if f.given[i] {
		f.mu.Unlock()
		return false
	}
	f.given[i] = true
	f.open--
	if parked != nil {
		f.parked = append(f.parked, *parked)
	}
	if failed {
		f.failed = append(f.failed, f.batch.Entries[i].Position)
	}
	home = f.open == 0
	f.mu.Unlock()
	if home {
		signal(w.done)
	}
	return home
}

// landed returns the flights at the head that are home, without a failure, and
// what to save for them; ok is false if there are none. They stay in the window
// until released.
func (w *window) landed() (flights []*flight, cp Checkpoint, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.flights {
		f.mu.Lock()
		home := f.open == 0 && len(f.failed) == 0
		f.mu.Unlock()
		if !home {
			break
		}
		flights = append(flights, f)
		cp.Cursor = f.batch.Cursor
		cp.Parked = append(cp.Parked, f.parked...)
	}
	return flights, cp, len(flights) > 0
}

// release forgets the first n flights, whose cursor has been saved.
func (w *window) release(n int) {
	w.mu.Lock()
	for _, f := range w.flights[:n] {
		w.rows -= len(f.batch.Entries)
		w.bytes -= f.bytes
	}
	w.flights = slices.Delete(w.flights, 0, n)
	w.mu.Unlock()
	signal(w.freed)
}

// rest returns what to save when nothing more will come home: the cursor of the
// newest batch less every entry that was not delivered. ok is false if the
// window is empty.
func (w *window) rest() (cp Checkpoint, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var undelivered []int64
	for _, f := range w.flights {
		f.mu.Lock()
		undelivered = append(undelivered, f.failed...)
		for i, given := range f.given {
			if !given {
				undelivered = append(undelivered, f.batch.Entries[i].Position)
			}
		}
		cp.Parked = append(cp.Parked, f.parked...)
		cp.Cursor = f.batch.Cursor
		f.mu.Unlock()
	}
	slices.Sort(undelivered)
	cp.Cursor = cp.Cursor.Without(undelivered)
	return cp, len(w.flights) > 0
}

// open counts the entries without a verdict.
func (w *window) open() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.flights {
		f.mu.Lock()
		n += f.open
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
