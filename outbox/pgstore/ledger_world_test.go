package pgstore

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/google/uuid"
)

// world is a model of Postgres as far as the ledger depends on it: a sequence,
// transactions that lock keys and the sequence, visibility that comes before the
// locks go, snapshots, prepared transactions and crashes. One call of step is
// one act of one transaction, chosen by rng.
type world struct {
	rng     *rand.Rand
	clock   int64 // counts ends of transactions: a snapshot is a clock reading
	seq     int64
	started int
	live    []*simTx
	ended   map[string]int64 // xid -> clock of its end
	rows    []*simRow        // visible ones, by position
	version [5]int64         // committed, per key
	lock    [5]*simTx
	busy    bool // a crash now would end the reader's statement
	quiet   bool // nothing happens any more
}

type simRow struct {
	position, version int64
	key               int
	visible           int64 // clock of the commit
}

type simTx struct {
	virtual, xid string
	prepared     bool
	over         bool  // committed or rolled back; locks are still held
	holds        bool  // the sequence's lock
	drawn        int64 // position drawn for key and not yet stored
	key          int
	rows         []*simRow
}

func newWorld(rng *rand.Rand) *world { return &world{rng: rng, ended: map[string]int64{}} }

// run takes up to n steps.
func (w *world) run(n int) {
	for range w.rng.IntN(n + 1) {
		w.step()
	}
}

func (w *world) step() {
	if w.quiet {
		return
	}
	if len(w.live) == 0 || len(w.live) < 7 && chance(w.rng, 20) {
		w.started++
		w.live = append(w.live, &simTx{virtual: fmt.Sprintf("%d/%d", w.rng.IntN(9)+1, w.started)})
		return
	}
	if !w.busy && w.rng.IntN(400) == 0 {
		w.crash()
		return
	}
	i := w.rng.IntN(len(w.live))
	switch tx := w.live[i]; {
	case tx.over:
		w.release(i)
	case tx.prepared:
		if chance(w.rng, 15) {
			w.end(tx, chance(w.rng, 70))
		}
	default:
		w.act(tx)
	}
}

// act is a step of a running transaction.
func (w *world) act(tx *simTx) {
	switch n := w.rng.IntN(100); {
	case n < 12:
		if k := w.rng.IntN(len(w.lock)); w.lock[k] == nil {
			w.lock[k] = tx
		}
	case n < 72:
		w.insert(tx)
	case n < 76: // a savepoint is rolled back: the sequence's lock and the position stay gone
		if len(tx.rows) > 0 {
			tx.rows = tx.rows[:len(tx.rows)-1]
		}
	case n < 80:
		tx.prepared = tx.xid != ""
	case n < 94:
		w.end(tx, true)
	default:
		w.end(tx, false)
	}
}

// insert is one of the three things that happen one after the other: the
// sequence is locked, a position is drawn, the row is stored.
func (w *world) insert(tx *simTx) {
	switch k := w.ownKey(tx); {
	case !tx.holds:
		tx.holds = true
	case tx.drawn == 0 && k >= 0: // the key is locked before its position is drawn
		w.seq++
		tx.drawn, tx.key = w.seq, k
	case tx.drawn != 0:
		k = tx.key
		if tx.xid == "" {
			w.started++
			tx.xid = strconv.Itoa(w.started)
		}
		version := w.version[k] + 1
		for _, r := range tx.rows {
			if r.key == k {
				version++
			}
		}
		tx.rows = append(tx.rows, &simRow{position: tx.drawn, version: version, key: k})
		tx.drawn = 0
	}
}

// ownKey returns one of the keys that tx has locked, or -1.
func (w *world) ownKey(tx *simTx) int {
	first := w.rng.IntN(len(w.lock))
	for i := range w.lock {
		if k := (first + i) % len(w.lock); w.lock[k] == tx {
			return k
		}
	}
	return -1
}

// end makes a transaction's outcome visible. Its locks go later.
func (w *world) end(tx *simTx, commit bool) {
	w.clock++
	tx.over = true
	if tx.xid != "" {
		w.ended[tx.xid] = w.clock
	}
	if !commit {
		return
	}
	for _, r := range tx.rows {
		r.visible = w.clock
		w.version[r.key] = max(w.version[r.key], r.version)
		i, _ := slices.BinarySearchFunc(w.rows, r.position, func(x *simRow, p int64) int { return int(x.position - p) })
		w.rows = slices.Insert(w.rows, i, r)
	}
}

// release drops one lock of an ended transaction, or the last trace of it.
func (w *world) release(i int) {
	tx := w.live[i]
	if tx.holds && chance(w.rng, 50) {
		tx.holds = false
		return
	}
	for k, owner := range w.lock {
		if owner == tx {
			w.lock[k] = nil
			return
		}
	}
	if !tx.holds {
		w.live = slices.Delete(w.live, i, i+1)
	}
	tx.holds = false
}

// crash ends what runs; prepared transactions come back under another name, and
// the sequence may have jumped.
func (w *world) crash() {
	w.seq += w.rng.Int64N(33)
	w.live = slices.DeleteFunc(w.live, func(tx *simTx) bool {
		if tx.prepared && !tx.over {
			tx.virtual = "-1/" + tx.xid
			return false
		}
		if !tx.over {
			w.end(tx, false)
		}
		for k, owner := range w.lock {
			if owner == tx {
				w.lock[k] = nil
			}
		}
		return true
	})
}

// holders is a look at pg_locks: one transaction after the other, while others
// go on.
func (w *world) holders() (found []holder) {
	w.busy = true
	defer func() { w.busy = false }()
	order := slices.Clone(w.live)
	w.rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, tx := range order {
		w.run(1)
		if tx.holds {
			found = append(found, holder{virtual: tx.virtual, xid: tx.xid})
		}
	}
	return found
}

// settle ends everything for good.
func (w *world) settle() {
	w.quiet = true
	for _, tx := range w.live {
		if !tx.over {
			w.end(tx, chance(w.rng, 70))
		}
	}
	w.live, w.lock = nil, [5]*simTx{}
}

func (r *simRow) event() event {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:], uint64(r.position))
	return event{id, strconv.Itoa(r.key), r.version}
}
