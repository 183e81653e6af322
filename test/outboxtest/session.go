package outboxtest

import (
	"context"
	"slices"
	"sort"
	"time"

	"github.com/millrace-go/millrace/outbox"
)

// memorySession is one leadership over a MemoryLog.
type memorySession struct {
	log    *MemoryLog
	name   string
	relay  *memoryRelay
	epoch  int64
	cursor outbox.Cursor // what holds when everything read is delivered
	parked []outbox.ParkedKey
}

// Epoch implements outbox.Session.
func (s *memorySession) Epoch() int64 { return s.epoch }

// Parked implements outbox.Session.
func (s *memorySession) Parked() []outbox.ParkedKey { return s.parked }

// Read implements outbox.Session. The log knows who is still writing, so a gap
// is simply a position of an open transaction, or one that was not delivered.
func (s *memorySession) Read(ctx context.Context, limit, maxBytes int) (outbox.Batch, error) {
	if err := ctx.Err(); err != nil {
		return outbox.Batch{}, err
	}
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	b := outbox.Batch{}
	bytes := 0
	for _, e := range s.log.entries {
		if !s.pending(e.Position) {
			continue
		}
		if len(b.Entries) == limit || bytes >= maxBytes {
			b.More = true
			break
		}
		b.Entries = append(b.Entries, e)
		bytes += len(e.Payload)
	}
	b.Cursor = s.advance(b.Entries, b.More)
	b.Moved = b.Cursor.Position != s.cursor.Position || !slices.Equal(b.Cursor.Gaps, s.cursor.Gaps)
	s.cursor = b.Cursor
	return b, nil
}

func (s *memorySession) pending(position int64) bool {
	if position > s.cursor.Position {
		return true
	}
	i := sort.Search(len(s.cursor.Gaps), func(i int) bool { return s.cursor.Gaps[i].Hi >= position })
	return i < len(s.cursor.Gaps) && s.cursor.Gaps[i].Lo <= position
}

// advance returns the cursor after read: gaps that nobody can fill are closed.
func (s *memorySession) advance(read []outbox.Entry, more bool) outbox.Cursor {
	next := outbox.Cursor{Position: s.cursor.Position}
	taken := map[int64]bool{}
	for _, e := range read {
		taken[e.Position] = true
		next.Position = max(next.Position, e.Position)
	}
	present := map[int64]bool{}
	for _, e := range s.log.entries {
		present[e.Position] = true
	}
	var missing []int64
	for p := int64(1); p <= next.Position; p++ {
		if s.pending(p) && !taken[p] && (s.log.open[p] || present[p]) {
			missing = append(missing, p)
		}
	}
	return next.Without(missing)
}

// Save implements outbox.Session.
func (s *memorySession) Save(_ context.Context, cp outbox.Checkpoint) error {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if s.relay.epoch != s.epoch {
		return outbox.ErrLeaseLost
	}
	s.relay.cursor = cp.Cursor
	for _, p := range cp.Parked {
		s.relay.parked[p.Position] = p
	}
	return nil
}

// Renew implements outbox.Session.
func (s *memorySession) Renew(_ context.Context, ttl time.Duration) error {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if s.relay.epoch != s.epoch {
		return outbox.ErrLeaseLost
	}
	s.relay.until = s.log.now().Add(ttl)
	return nil
}

// Release implements outbox.Session.
func (s *memorySession) Release(context.Context) error {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if s.relay.epoch == s.epoch {
		s.relay.owner = ""
	}
	return nil
}
