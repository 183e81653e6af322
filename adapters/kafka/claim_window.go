package kafka

import (
	"container/heap"
	"time"

	"github.com/IBM/sarama"
)

// window decides, for one claimed partition, which records may be handed out
// and how far the partition is done. It does no I/O and reads no clock: claim
// drives it, and so can a seeded test.
//
// Records are sorted into lanes. A lane has at most one delivery outstanding
// and hands its records out in offset order; a refused record stays at the
// front of its lane until its back-off is over. With one lane (parallel 1) the
// whole partition is in order, with a lane per key only each key is.
//
// The low-water mark is the offset to commit: no unfinished record lies below it.
type window struct {
	parallel int // deliveries outstanding at once
	ahead    int // records that may be handed out beyond the low-water mark
	buffer   int // waiting records at which the reader should pause
	backOff  func(attempt int) time.Duration

	first   int64       // sequence number of pending[0]
	pending []*consumed // every record from the low-water mark on, in offset order
	last    int64       // offset of the newest record, -1 before the first
	mark    int64       // low-water mark, -1 before the first record
	top     int64       // sequence number of the newest record handed over, -1 before the first
	closing bool

	lanes    map[string]*keyQueue
	ready    queueHeap // lanes that can be handed out, by offset of their first record
	asleep   queueHeap // lanes in back-off, by wake-up time
	waiting  int       // records in lanes
	inFlight int       // deliveries outstanding
}

// consumed is one consumed record on its way through a window.
type consumed struct {
	msg     *sarama.ConsumerMessage // nil once done
	offset  int64
	seq     int64 // place in the window's history, without the gaps of offsets
	lane    *keyQueue
	attempt int // deliveries so far
	done    bool
}

// keyQueue is a lane: a queue of records that must be handled one after the other.
type keyQueue struct {
	key     string
	keyed   bool
	waiting []*consumed
	busy    bool
	wakeAt  time.Time
	index   int // place in the heap it is in
}

func newWindow(parallel, ahead, buffer int, backOff func(int) time.Duration) *window {
	return &window{
		parallel: parallel, ahead: ahead, buffer: buffer, backOff: backOff,
		last: -1, mark: -1, top: -1,
		lanes:  make(map[string]*keyQueue),
		ready:  queueHeap{before: func(a, b *keyQueue) bool { return a.waiting[0].offset < b.waiting[0].offset }},
		asleep: queueHeap{before: func(a, b *keyQueue) bool { return a.wakeAt.Before(b.wakeAt) }},
	}
}

// add takes the next record of the partition. Offsets rise; one that does not
// was seen before and is dropped.
func (w *window) add(msg *sarama.ConsumerMessage) {
	if msg.Offset <= w.last {
		return
	}
	w.last = msg.Offset
	r := &consumed{msg: msg, offset: msg.Offset, seq: w.first + int64(len(w.pending))}
	w.pending = append(w.pending, r)
	if len(w.pending) == 1 {
		w.mark = msg.Offset // offsets have gaps: it may be more than last + 1
	}
	r.lane = w.laneOf(msg)
	r.lane.waiting = append(r.lane.waiting, r)
	w.waiting++
	if len(r.lane.waiting) == 1 && !r.lane.busy {
		heap.Push(&w.ready, r.lane)
	}
}

// laneOf finds the lane of a record. A record without a key has no order to
// keep and gets a lane of its own when lanes are by key.
func (w *window) laneOf(msg *sarama.ConsumerMessage) *keyQueue {
	if w.parallel > 1 && msg.Key == nil {
		return &keyQueue{}
	}
	key := ""
	if w.parallel > 1 {
		key = string(msg.Key)
	}
	l := w.lanes[key]
	if l == nil {
		l = &keyQueue{key: key, keyed: true}
		w.lanes[key] = l
	}
	return l
}

// full reports that enough records wait: the reader should pause.
func (w *window) full() bool { return w.waiting >= w.buffer }

// low reports that the reader should go on again.
func (w *window) low() bool { return w.waiting <= w.buffer/2 }

// take returns the next delivery: up to limit records in offset order, of lanes
// that have no delivery outstanding. Nil means that nothing can be handed out
// until a delivery is settled, a back-off ends or a record is added.
func (w *window) take(limit int, now time.Time) []*consumed {
	w.wake(now)
	if w.inFlight >= w.parallel {
		return nil
	}
	var (
		taken []*consumed
		held  []*keyQueue
	)
	for len(taken) < limit && len(w.ready.lanes) > 0 {
		l := w.ready.lanes[0]
		r := l.waiting[0]
		if r.seq-w.first >= int64(w.ahead) || w.closing && r.seq > w.top {
			break
		}
		r.attempt++
		taken = append(taken, r)
		l.waiting[0], l.waiting = nil, l.waiting[1:]
		if !l.busy {
			l.busy = true
			held = append(held, l)
		}
		if len(l.waiting) > 0 {
			heap.Fix(&w.ready, 0)
		} else {
			heap.Pop(&w.ready)
		}
	}
	for _, l := range held {
		if len(l.waiting) > 0 {
			heap.Remove(&w.ready, l.index)
		}
	}
	w.waiting -= len(taken)
	if len(taken) > 0 {
		w.inFlight++
	}
	return taken
}

// handedOver notes that a delivery has reached its handler.
func (w *window) handedOver(taken []*consumed) {
	w.top = max(w.top, taken[len(taken)-1].seq)
}

// putBack undoes a take whose delivery nobody has seen.
func (w *window) putBack(taken []*consumed) {
	w.inFlight--
	w.waiting += len(taken)
	for i := len(taken) - 1; i >= 0; i-- {
		r := taken[i]
		r.attempt--
		r.lane.waiting = append([]*consumed{r}, r.lane.waiting...)
	}
	for _, r := range taken {
		if r.lane.busy {
			r.lane.busy = false
			heap.Push(&w.ready, r.lane)
		}
	}
}

// close lets only those records out that lie between ones already handed over.
// When they are finished too, nothing above the low-water mark is: a stop
// leaves nothing to be delivered twice. Back-offs end no more.
func (w *window) close() { w.closing = true }

// settle ends a delivery.
func (w *window) settle(taken []*consumed, acked []bool, now time.Time) {
	w.giveWay()
	w.settleLanes(taken, acked, now)
}

// giveWay makes room for another delivery beside one that goes on for some of its
// lanes only. These are then ended by settleLanes alone.
func (w *window) giveWay() { w.inFlight-- }

// settleLanes ends the part of a delivery that is in the lanes of taken. acked[i]
// tells whether taken[i] is finished; the others go back to the front of their
// lanes, which then back off.
func (w *window) settleLanes(taken []*consumed, acked []bool, now time.Time) {
	var refused map[*keyQueue][]*consumed
	for i, r := range taken {
		if acked[i] {
			r.done, r.msg = true, nil
			continue
		}
		if refused == nil {
			refused = make(map[*keyQueue][]*consumed)
		}
		refused[r.lane] = append(refused[r.lane], r)
	}
	for _, r := range taken {
		if r.lane.busy {
			w.release(r.lane, refused[r.lane], now)
		}
	}
	w.advance()
}

func (w *window) release(l *keyQueue, refused []*consumed, now time.Time) {
	l.busy = false
	if len(refused) > 0 {
		l.waiting = append(refused, l.waiting...)
		l.wakeAt = now.Add(w.backOff(refused[0].attempt))
		w.waiting += len(refused)
		heap.Push(&w.asleep, l)
		return
	}
	if len(l.waiting) > 0 {
		heap.Push(&w.ready, l)
		return
	}
	if l.keyed {
		delete(w.lanes, l.key)
	}
}

// advance moves the low-water mark over the finished records at the front.
func (w *window) advance() {
	n := 0
	for n < len(w.pending) && w.pending[n].done {
		w.pending[n] = nil
		n++
	}
	if n == 0 {
		return
	}
	w.pending = w.pending[n:]
	w.first += int64(n)
	if len(w.pending) > 0 {
		w.mark = w.pending[0].offset
	} else {
		w.mark = w.last + 1
	}
}

// wake ends the back-offs that are over.
func (w *window) wake(now time.Time) {
	for !w.closing && len(w.asleep.lanes) > 0 && !w.asleep.lanes[0].wakeAt.After(now) {
		heap.Push(&w.ready, heap.Pop(&w.asleep).(*keyQueue))
	}
}

// nextWake returns when the earliest back-off ends.
func (w *window) nextWake() (time.Time, bool) {
	if len(w.asleep.lanes) == 0 {
		return time.Time{}, false
	}
	return w.asleep.lanes[0].wakeAt, true
}

// queueHeap is a container/heap of lanes.
type queueHeap struct {
	lanes  []*keyQueue
	before func(a, b *keyQueue) bool
}

func (h *queueHeap) Len() int           { return len(h.lanes) }
func (h *queueHeap) Less(i, j int) bool { return h.before(h.lanes[i], h.lanes[j]) }

func (h *queueHeap) Swap(i, j int) {
	h.lanes[i], h.lanes[j] = h.lanes[j], h.lanes[i]
	h.lanes[i].index, h.lanes[j].index = i, j
}

func (h *queueHeap) Push(x any) {
	l := x.(*keyQueue)
	l.index = len(h.lanes)
	h.lanes = append(h.lanes, l)
}

func (h *queueHeap) Pop() any {
	n := len(h.lanes) - 1
	l := h.lanes[n]
	h.lanes[n] = nil
	h.lanes = h.lanes[:n]
	return l
}
