package kafka

import (
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millrace-go/millrace/adapters/internal/backoff"
)

// windowModel drives a window with random deliveries, acks and refusals and
// checks it against what is known from outside.
type windowModel struct {
	w        *window
	parallel int
	ahead    int
	now      time.Time
	offset   int64
	keys     map[int64]string // every record added, by offset
	order    []int64          // offsets in the order they were added
	finished map[int64]bool
	out      []*windowDelivery
	lastDone map[string]int64 // newest finished offset of each key
}

type windowDelivery struct {
	records  []*consumed
	offsets  []int64
	released bool
}

const nullKey = "\x00"

func newWindowModel(parallel, ahead int) *windowModel {
	return &windowModel{
		w:        newWindow(parallel, ahead, 64, backoff.Doubling{First: 100 * time.Millisecond, Max: time.Second}),
		parallel: parallel, ahead: ahead, now: time.Unix(0, 0), offset: 10,
		keys: map[int64]string{}, finished: map[int64]bool{}, lastDone: map[string]int64{},
	}
}

func (m *windowModel) add(t *rapid.T) {
	m.offset += rapid.Int64Range(1, 3).Draw(t, "gap") // control records and compaction leave gaps
	key := rapid.SampledFrom([]string{"a", "b", "c", "d", "", nullKey}).Draw(t, "key")
	msg := &sarama.ConsumerMessage{Offset: m.offset}
	if key != nullKey {
		msg.Key = []byte(key)
	}
	m.w.add(msg)
	m.w.add(&sarama.ConsumerMessage{Offset: m.offset}) // seen before: dropped
	m.keys[m.offset] = key
	m.order = append(m.order, m.offset)
}

func (m *windowModel) take(t *rapid.T) {
	recs := m.w.take(rapid.IntRange(1, 5).Draw(t, "limit"), m.now)
	if recs == nil {
		return
	}
	if rapid.IntRange(0, 4).Draw(t, "put back") == 0 {
		m.w.putBack(recs)
		return
	}
	m.w.handedOver(recs)
	d := &windowDelivery{records: recs}
	for _, r := range recs {
		if n := len(d.offsets); n > 0 && d.offsets[n-1] >= r.offset {
			t.Fatalf("delivery is not in offset order: %v then %d", d.offsets, r.offset)
		}
		if m.finished[r.offset] {
			t.Fatalf("offset %d was handed out after it had been acknowledged", r.offset)
		}
		m.checkOrder(t, r.offset)
		d.offsets = append(d.offsets, r.offset)
	}
	m.out = append(m.out, d)
	full := 0
	for _, d := range m.out {
		if !d.released {
			full++
		}
	}
	if full > m.parallel {
		t.Fatalf("%d deliveries outstanding, limit %d", full, m.parallel)
	}
	m.checkKeys(t)
	m.checkAhead(t, recs[len(recs)-1].offset)
}

// checkOrder fails if an earlier record of the key is still unfinished and not
// in the same delivery before this one.
func (m *windowModel) checkOrder(t *rapid.T, offset int64) {
	key := m.keys[offset]
	if key == nullKey && m.parallel > 1 {
		return
	}
	if m.lastDone[key] > offset {
		t.Fatalf("offset %d of key %q handed out after %d was finished", offset, key, m.lastDone[key])
	}
}

func (m *windowModel) checkKeys(t *rapid.T) {
	owner := map[string]int{}
	for i, d := range m.out {
		for _, o := range d.offsets {
			key := m.keys[o]
			if key == nullKey {
				continue
			}
			if j, ok := owner[key]; ok && j != i {
				t.Fatalf("key %q is in two deliveries", key)
			}
			owner[key] = i
		}
	}
}

func (m *windowModel) checkAhead(t *rapid.T, offset int64) {
	n := 0
	for _, o := range m.order {
		if o >= m.mark() && o <= offset {
			n++
		}
	}
	if n > m.ahead {
		t.Fatalf("offset %d is %d records beyond the low-water mark, limit %d", offset, n, m.ahead)
	}
}

func (m *windowModel) answer(t *rapid.T) {
	if len(m.out) == 0 {
		return
	}
	i := rapid.IntRange(0, len(m.out)-1).Draw(t, "which")
	refuseFrom := rapid.IntRange(0, 8).Draw(t, "refuse from")
	m.answerAt(i, func(n int) bool { return n < refuseFrom })
}

// ackAll acknowledges up to n deliveries.
func (m *windowModel) ackAll(t *rapid.T, n int) {
	for range min(n, len(m.out)) {
		m.answerAt(rapid.IntRange(0, len(m.out)-1).Draw(t, "which"), func(int) bool { return true })
	}
}

func (m *windowModel) answerAt(i int, ok func(n int) bool) {
	d := m.out[i]
	m.out = append(m.out[:i:i], m.out[i+1:]...)
	acked := make([]bool, len(d.records))
	for n, o := range d.offsets {
		if acked[n] = ok(n); acked[n] {
			m.finished[o] = true
			m.lastDone[m.keys[o]] = max(m.lastDone[m.keys[o]], o)
		}
	}
	if d.released {
		m.w.finishPart(d.records, acked, m.now)
	} else {
		m.w.finish(d.records, acked, m.now)
	}
}

// answerLanes answers a delivery in part: every record of some of its keys.
func (m *windowModel) answerLanes(t *rapid.T) {
	if len(m.out) == 0 {
		return
	}
	d := m.out[rapid.IntRange(0, len(m.out)-1).Draw(t, "which")]
	chosen := map[*lane]bool{}
	refuseFrom := rapid.IntRange(0, 8).Draw(t, "refuse from")
	part, remaining := new(windowDelivery), new(windowDelivery)
	var acked []bool
	for i, r := range d.records {
		if _, seen := chosen[r.lane]; !seen {
			chosen[r.lane] = rapid.Bool().Draw(t, "choose lane")
		}
		if !chosen[r.lane] {
			remaining.records, remaining.offsets = append(remaining.records, r), append(remaining.offsets, d.offsets[i])
			continue
		}
		ok := len(acked) < refuseFrom
		part.records, part.offsets, acked = append(part.records, r), append(part.offsets, d.offsets[i]), append(acked, ok)
		if ok {
			m.finished[r.offset] = true
			m.lastDone[m.keys[r.offset]] = max(m.lastDone[m.keys[r.offset]], r.offset)
		}
	}
	if !d.released {
		m.w.freeSlot()
	}
	remaining.released = true
	*d = *remaining
	m.w.finishPart(part.records, acked, m.now)
}

// mark is the offset that may be committed, from the model's own knowledge.
func (m *windowModel) mark() int64 {
	if len(m.order) == 0 {
		return -1
	}
	for _, o := range m.order {
		if !m.finished[o] {
			return o
		}
	}
	return m.order[len(m.order)-1] + 1
}

func (m *windowModel) check(t *rapid.T) {
	if m.w.lowWater != m.mark() {
		t.Fatalf("low-water mark %d, want %d", m.w.lowWater, m.mark())
	}
	waiting := len(m.order) - len(m.finished)
	for _, d := range m.out {
		waiting -= len(d.offsets)
	}
	if m.w.waiting != waiting {
		t.Fatalf("%d records wait, want %d", m.w.waiting, waiting)
	}
}

// finish acknowledges everything and fails if a record is never handed out.
func (m *windowModel) finish(t *rapid.T) {
	for range 8 * (len(m.order) + 4) {
		for len(m.out) > 0 {
			m.answerAt(0, func(int) bool { return true })
		}
		m.now = m.now.Add(time.Second)
		m.take(t)
	}
	if len(m.finished) != len(m.order) {
		t.Fatalf("%d of %d records were finished", len(m.finished), len(m.order))
	}
	if len(m.w.lanes) != 0 || len(m.w.pending) != 0 || m.w.inFlight != 0 {
		t.Fatalf("window keeps %d lanes, %d records, %d deliveries when all is done", len(m.w.lanes), len(m.w.pending), m.w.inFlight)
	}
}

func TestWindow_KeepsOrderAndLowWaterMarkUnderRandomAnswers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := newWindowModel(rapid.IntRange(1, 4).Draw(t, "parallel"), rapid.IntRange(1, 20).Draw(t, "ahead"))
		t.Repeat(map[string]func(*rapid.T){
			"add":    m.add,
			"take":   m.take,
			"answer": m.answer,
			"part":   m.answerLanes,
			"wait": func(t *rapid.T) {
				m.now = m.now.Add(time.Duration(rapid.IntRange(1, 500).Draw(t, "ms")) * time.Millisecond)
			},
			"": m.check,
		})
		m.finish(t)
	})
}

func TestWindow_LeavesNothingFinishedAboveTheMarkWhenItCloses(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := newWindowModel(rapid.IntRange(1, 5).Draw(t, "parallel"), rapid.IntRange(1, 50).Draw(t, "ahead"))
		t.Repeat(map[string]func(*rapid.T){
			"add":    m.add,
			"take":   m.take,
			"answer": func(t *rapid.T) { m.ackAll(t, 1) },
			"":       m.check,
		})
		finished := len(m.finished)
		for _, d := range m.out {
			finished += len(d.offsets)
		}
		m.w.close()
		for range 8 * (len(m.order) + 4) {
			m.take(t)
			m.ackAll(t, len(m.out))
		}
		for o := range m.finished {
			if o >= m.w.lowWater {
				t.Fatalf("offset %d is finished above the low-water mark %d", o, m.w.lowWater)
			}
		}
		if m.parallel == 1 && len(m.finished) != finished {
			t.Fatalf("closing handed out %d more records of an ordered partition", len(m.finished)-finished)
		}
	})
}

func TestWindow_RefusedRecordHoldsOnlyItsKey(t *testing.T) {
	t.Parallel()
	w := newWindow(2, 100, 100, backoff.Doubling{First: 100 * time.Millisecond, Max: time.Second})
	now := time.Unix(0, 0)
	for i, key := range []string{"a", "a", "b", "b"} {
		w.add(&sarama.ConsumerMessage{Offset: int64(i), Key: []byte(key)})
	}
	a := w.take(1, now)
	require.Equal(t, int64(0), a[0].offset)
	w.finish(a, []bool{false}, now)

	for _, want := range []int64{2, 3} {
		b := w.take(1, now)
		require.Equal(t, want, b[0].offset)
		w.finish(b, []bool{true}, now)
	}
	require.Nil(t, w.take(1, now), "key a is still in back-off")
	require.Equal(t, int64(0), w.lowWater)

	at, ok := w.nextWake()
	require.True(t, ok)
	require.Equal(t, now.Add(100*time.Millisecond), at)
	a = w.take(1, at)
	require.Equal(t, int64(0), a[0].offset)
	require.Equal(t, 2, a[0].attempt)
	w.finish(a, []bool{true}, at)
	require.Equal(t, int64(1), w.lowWater)
}

func TestWindow_RefusedRecordIsNotTriedAgainWhenItCloses(t *testing.T) {
	t.Parallel()
	w := newWindow(2, 100, 100, backoff.Doubling{First: time.Millisecond, Max: time.Millisecond})
	now := time.Unix(0, 0)
	w.add(&sarama.ConsumerMessage{Offset: 0, Key: []byte("a")})
	w.add(&sarama.ConsumerMessage{Offset: 1, Key: []byte("b")})
	a, b := w.take(1, now), w.take(1, now)
	w.handedOver(a)
	w.handedOver(b)
	w.close()
	w.finish(a, []bool{false}, now)
	w.finish(b, []bool{true}, now)
	require.Nil(t, w.take(1, now.Add(time.Hour)))
	require.Equal(t, int64(0), w.lowWater)
}
