package outboxtest

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/millrace-go/millrace/outbox"
)

// MemoryLog is an outbox.Log in memory, with transactions. It is safe for
// concurrent use. Serializing the writers of one key is the caller's task, as
// with Postgres.
type MemoryLog struct {
	now func() time.Time

	mu      sync.Mutex
	last    int64
	entries []outbox.Entry // committed, by position
	open    map[int64]bool // positions of transactions that still run
	relays  map[string]*memoryRelay
	members map[string]map[string]memoryInstance // by relay and instance
}

// memoryRelay is a relay's cursor and lease.
type memoryRelay struct {
	cursor outbox.Cursor
	parked map[int64]outbox.Parked
	epoch  int64
	owner  string
	until  time.Time
}

var _ outbox.Log = (*MemoryLog)(nil)

// NewMemoryLog returns an empty log whose leases are timed by now; nil means
// time.Now.
func NewMemoryLog(now func() time.Time) *MemoryLog {
	if now == nil {
		now = time.Now
	}
	return &MemoryLog{now: now, open: map[int64]bool{}, relays: map[string]*memoryRelay{}, members: map[string]map[string]memoryInstance{}}
}

// MemoryTx is a transaction of a MemoryLog.
type MemoryTx struct {
	log     *MemoryLog
	entries []outbox.Entry
	ended   bool
}

// Begin starts a transaction.
func (l *MemoryLog) Begin(context.Context) (Tx, error) { return &MemoryTx{log: l}, nil }

// Append gives msgs their positions. They show when the transaction commits.
func (t *MemoryTx) Append(_ context.Context, msgs ...outbox.Message) error {
	t.log.mu.Lock()
	defer t.log.mu.Unlock()
	if t.ended {
		return outbox.ErrTxDone
	}
	for _, m := range msgs {
		if m.ID == uuid.Nil {
			m.ID = uuid.New()
		}
		t.log.last++
		t.log.open[t.log.last] = true
		t.entries = append(t.entries, outbox.Entry{Position: t.log.last, CreatedAt: t.log.now(), Message: m})
	}
	return nil
}

// Commit makes the messages visible.
func (t *MemoryTx) Commit() error { return t.end(true) }

// Rollback forgets the messages; their positions stay unused.
func (t *MemoryTx) Rollback() error { return t.end(false) }

func (t *MemoryTx) end(commit bool) error {
	t.log.mu.Lock()
	defer t.log.mu.Unlock()
	if t.ended {
		return outbox.ErrTxDone
	}
	t.ended = true
	for _, e := range t.entries {
		delete(t.log.open, e.Position)
	}
	if commit {
		t.log.entries = append(t.log.entries, t.entries...)
		slices.SortFunc(t.log.entries, func(a, b outbox.Entry) int { return cmp.Compare(a.Position, b.Position) })
	}
	return nil
}

// Acquire implements outbox.Log.
func (l *MemoryLog) Acquire(_ context.Context, relay, owner string, ttl time.Duration) (outbox.Session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.relays[relay]
	if r == nil {
		r = &memoryRelay{parked: map[int64]outbox.Parked{}}
		l.relays[relay] = r
	}
	now := l.now()
	if r.owner != "" && r.owner != owner && now.Before(r.until) {
		return nil, outbox.ErrLeaseHeld
	}
	r.epoch, r.owner, r.until = r.epoch+1, owner, now.Add(ttl)
	return &memorySession{log: l, name: relay, relay: r, epoch: r.epoch, cursor: r.cursor, parked: r.keys()}, nil
}

// Cursor returns the saved cursor of a relay.
func (l *MemoryLog) Cursor(relay string) outbox.Cursor {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.relays[relay]; r != nil {
		return r.cursor
	}
	return outbox.Cursor{}
}

// Parked returns the parked messages of a relay by position.
func (l *MemoryLog) Parked(relay string) []outbox.Parked {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []outbox.Parked
	if r := l.relays[relay]; r != nil {
		for _, p := range r.parked {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b outbox.Parked) int { return cmp.Compare(a.Position, b.Position) })
	return all
}

func (r *memoryRelay) keys() []outbox.ParkedKey {
	seen := map[outbox.ParkedKey]bool{}
	var keys []outbox.ParkedKey
	for _, p := range r.parked {
		if !seen[p.ParkedKey] {
			seen[p.ParkedKey] = true
			keys = append(keys, p.ParkedKey)
		}
	}
	return keys
}
