package kafka

import (
	"container/heap"
	"time"

	"github.com/IBM/sarama"

	"github.com/millrace-go/millrace/adapters/internal/backoff"
)

// window decides, for one claimed partition, which records may be handed over next
// and which offset may be committed. It does no I/O and reads no clock. A claim
// drives it, and so do a seeded simulation and the scripts in testdata/window.
//
// Records are sorted into lanes. A lane has at most one delivery outstanding and
// hands its records over in offset order; a refused record stays at the front of
// its lane until its back-off is over. With one lane (parallel 1) the whole
// partition is in order. With a lane for each key only each key is in order.
//
// The low-water mark is the offset to commit: every record below it is finished.
type window struct {
	parallel int // deliveries outstanding at once
	ahead    int // how far beyond the low-water mark records may be handed over
	buffer   int // waiting records at which the reader should pause
	backOff  backoff.Doubling

	first    int64       // sequence number of pending[0]
	pending  []*consumed // every record from the low-water mark on, in offset order
	last     int64       // offset of the newest record, -1 before the first
	lowWater int64       // offset to commit, -1 before the first record
	newest   int64       // sequence number of the newest record handed over, -1 before that
	closing  bool

	lanes      map[string]*lane
	ready      laneHeap // lanes that may hand over, by offset of their first record
	backingOff laneHeap // lanes in back-off, by wake-up time
	waiting    int      // records in lanes
	inFlight   int      // deliveries outstanding
}

// consumed is one consumed record on its way through a window.
type consumed struct {
	msg     *sarama.ConsumerMessage // nil once done
	offset  int64
	seq     int64 // place in the window's history, without the gaps of offsets
	lane    *lane
	attempt int // deliveries so far
	done    bool
}

// lane is a queue of records that must be handled one after the other.
type lane struct {
	key     string
	keyed   bool
	waiting []*consumed
	busy    bool
	wakeAt  time.Time
	index   int // place in the heap it is in
}

func newWindow(parallel, ahead, buffer int, backOff backoff.Doubling) *window {
	return &window{
		parallel: parallel, ahead: ahead, buffer: buffer, backOff: backOff,
		last: -1, lowWater: -1, newest: -1,
		lanes:      make(map[string]*lane),
		ready:      laneHeap{before: func(a, b *lane) bool { return a.waiting[0].offset < b.waiting[0].offset }},
		backingOff: laneHeap{before: func(a, b *lane) bool { return a.wakeAt.Before(b.wakeAt) }},
	}
}

// add adds the next record of the partition. Offsets rise; a record whose offset
// does not was added before and is dropped.
func (w *window) add(msg *sarama.ConsumerMessage) {
	if msg.Offset <= w.last {
		return
	}
	w.last = msg.Offset
	r := &consumed{msg: msg, offset: msg.Offset, seq: w.first + int64(len(w.pending))}
	w.pending = append(w.pending, r)
	if len(w.pending) == 1 {
		w.lowWater = msg.Offset // offsets have gaps: it may be more than last + 1
	}
	r.lane = w.laneOf(msg)
	r.lane.waiting = append(r.lane.waiting, r)
	w.waiting++
	if len(r.lane.waiting) == 1 && !r.lane.busy {
		heap.Push(&w.ready, r.lane)
	}
}

// laneOf returns the lane of a record. A record without a key has no order to keep:
// it gets a lane of its own where lanes are by key.
func (w *window) laneOf(msg *sarama.ConsumerMessage) *lane {
	if w.parallel > 1 && msg.Key == nil {
		return &lane{}
	}
	key := ""
	if w.parallel > 1 {
		key = string(msg.Key)
	}
	l := w.lanes[key]
	if l == nil {
		l = &lane{key: key, keyed: true}
		w.lanes[key] = l
	}
	return l
}

// full reports that enough records wait: fetching should pause.
func (w *window) full() bool { return w.waiting >= w.buffer }

// low reports that few records wait: fetching should resume.
func (w *window) low() bool { return w.waiting <= w.buffer/2 }

// take returns the next delivery: up to limit records in offset order, of lanes
// that have no delivery outstanding. Nil means that nothing may be handed over
// until a delivery is finished, a back-off ends or a record is added.
func (w *window) take(limit int, now time.Time) []*consumed {
	w.endBackOffs(now)
	if w.inFlight >= w.parallel {
		return nil
	}
	var (
		taken []*consumed
		busy  []*lane
	)
	for len(taken) < limit && len(w.ready.lanes) > 0 {
		l := w.ready.lanes[0]
		r := l.waiting[0]
		if r.seq-w.first >= int64(w.ahead) || w.closing && r.seq > w.newest {
			break
		}
		r.attempt++
		taken = append(taken, r)
		l.waiting[0], l.waiting = nil, l.waiting[1:]
		if !l.busy {
			l.busy = true
			busy = append(busy, l)
		}
		if len(l.waiting) > 0 {
			heap.Fix(&w.ready, 0)
		} else {
			heap.Pop(&w.ready)
		}
	}
	for _, l := range busy {
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

// handedOver records that a delivery has reached its handler.
func (w *window) handedOver(taken []*consumed) {
	w.newest = max(w.newest, taken[len(taken)-1].seq)
}

// putBack undoes a take whose delivery was not handed over.
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

// close lets take return only records that lie below the newest one that was handed
// over. When these are finished too, no finished record lies above the low-water
// mark: after a stop no message is delivered twice. No back-off ends any more.
func (w *window) close() { w.closing = true }

// finish ends a delivery. acked[i] tells whether taken[i] is finished; the others
// return to the front of their lanes, which then back off.
func (w *window) finish(taken []*consumed, acked []bool, now time.Time) {
	w.freeSlot()
	w.finishPart(taken, acked, now)
}

// freeSlot allows another delivery although one is still outstanding, of which some
// lanes are already finished. The lanes of that one are then ended by finishPart.
func (w *window) freeSlot() { w.inFlight-- }

// finishPart is finish for the records of some lanes of a delivery whose slot is
// free already.
func (w *window) finishPart(taken []*consumed, acked []bool, now time.Time) {
	var refused map[*lane][]*consumed
	for i, r := range taken {
		if acked[i] {
			r.done, r.msg = true, nil
			continue
		}
		if refused == nil {
			refused = make(map[*lane][]*consumed)
		}
		refused[r.lane] = append(refused[r.lane], r)
	}
	for _, r := range taken {
		if r.lane.busy {
			w.finishLane(r.lane, refused[r.lane], now)
		}
	}
	w.advance()
}

// finishLane ends the delivery of one lane, refused being the records to return.
func (w *window) finishLane(l *lane, refused []*consumed, now time.Time) {
	l.busy = false
	if len(refused) > 0 {
		l.waiting = append(refused, l.waiting...)
		l.wakeAt = now.Add(w.backOff.After(refused[0].attempt))
		w.waiting += len(refused)
		heap.Push(&w.backingOff, l)
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
		w.lowWater = w.pending[0].offset
	} else {
		w.lowWater = w.last + 1
	}
}

// endBackOffs returns the lanes whose back-off is over to ready.
func (w *window) endBackOffs(now time.Time) {
	for !w.closing && len(w.backingOff.lanes) > 0 && !w.backingOff.lanes[0].wakeAt.After(now) {
		heap.Push(&w.ready, heap.Pop(&w.backingOff).(*lane))
	}
}

// nextWake returns when the earliest back-off ends.
func (w *window) nextWake() (time.Time, bool) {
	if len(w.backingOff.lanes) == 0 {
		return time.Time{}, false
	}
	return w.backingOff.lanes[0].wakeAt, true
}

// queueHeap is a container/heap of lanes.
type laneHeap struct {
	lanes  []*lane
	before func(a, b *lane) bool
}

func (h *laneHeap) Len() int           { return len(h.lanes) }
func (h *laneHeap) Less(i, j int) bool { return h.before(h.lanes[i], h.lanes[j]) }

func (h *laneHeap) Swap(i, j int) {
	h.lanes[i], h.lanes[j] = h.lanes[j], h.lanes[i]
	h.lanes[i].index, h.lanes[j].index = i, j
}

func (h *laneHeap) Push(x any) {
	l := x.(*lane)
	l.index = len(h.lanes)
	h.lanes = append(h.lanes, l)
}

func (h *laneHeap) Pop() any {
	n := len(h.lanes) - 1
	l := h.lanes[n]
	h.lanes[n] = nil
	h.lanes = h.lanes[:n]
	return l
}
