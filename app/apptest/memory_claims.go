package apptest

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// book is which notifications are to be tried again. A row that a unit of work
// has touched is its own until it ends: claimers pass over it, others conflict.
type book struct {
	rows   map[notification.ID]page
	locked map[notification.ID]*memoryTx
}

// page is one notification of a book; due is when it can be claimed.
type page struct {
	attempt int
	group   int
	trace   domain.Trace
	due     time.Time
	claimed bool
	fence   int64
}

// Fence is what the latest claim of a notification noted; 0 without one.
func (m *Memory) Fence(id notification.ID) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.book.rows[id].fence
}

// Scheduled returns how long a notification has to wait for its next attempt, and
// whether there will be one.
func (m *Memory) Scheduled(id notification.ID) (wait time.Duration, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.book.rows[id]
	return p.due.Sub(m.now()), ok
}

func (m *Memory) now() time.Time {
	if m.Now != nil {
		return m.Now()
	}
	return time.Now()
}

// unlock ends the locks of tx. The caller does not hold m.mu.
func (m *Memory) unlock(tx *memoryTx) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range tx.pages {
		if m.book.locked[id] == tx {
			delete(m.book.locked, id)
		}
	}
}

// applyClaims commits what tx wrote. The caller holds m.mu.
func (m *Memory) applyClaims(tx *memoryTx) {
	if m.book.rows == nil {
		m.book.rows = map[notification.ID]page{}
	}
	for id, p := range tx.pages {
		if p == nil {
			delete(m.book.rows, id)
		} else {
			m.book.rows[id] = *p
		}
	}
}

// Claims implements app.Tx.
func (tx *memoryTx) Claims() app.Claims { return memoryClaims{tx} }

// memoryClaims works on tx.pages, where nil stands for a page that is dropped.
type memoryClaims struct{ tx *memoryTx }

// touch locks a page for tx and returns tx's copy of it. The caller holds m.mu.
func (c memoryClaims) touch(id notification.ID) (*page, error) {
	m := c.tx.m
	if owner := m.book.locked[id]; owner != nil && owner != c.tx {
		return nil, domain.ErrVersionConflict
	}
	if m.book.locked == nil {
		m.book.locked = map[notification.ID]*memoryTx{}
	}
	m.book.locked[id] = c.tx
	if p, ok := c.tx.pages[id]; ok {
		return p, nil
	}
	var copied *page
	if p, ok := m.book.rows[id]; ok {
		copied = &p
	}
	if c.tx.pages == nil {
		c.tx.pages = map[notification.ID]*page{}
	}
	c.tx.pages[id] = copied
	return copied, nil
}

// Schedule implements app.Claims.
func (c memoryClaims) Schedule(_ context.Context, id notification.ID, r app.Retry) error {
	c.tx.m.mu.Lock()
	defer c.tx.m.mu.Unlock()
	p, err := c.touch(id)
	if err != nil {
		return err
	}
	if p == nil {
		p = &page{attempt: 1, group: 1}
		c.tx.pages[id] = p
	}
	p.claimed, p.due, p.group = false, c.tx.m.now().Add(r.Wait), max(p.group, r.Group)
	if r.Trace != (domain.Trace{}) {
		p.trace = r.Trace
	}
	return nil
}

// Drop implements app.Claims.
func (c memoryClaims) Drop(_ context.Context, id notification.ID) error {
	c.tx.m.mu.Lock()
	defer c.tx.m.mu.Unlock()
	if _, err := c.touch(id); err != nil {
		return err
	}
	c.tx.pages[id] = nil
	return nil
}

// Claim implements app.Claims.
func (c memoryClaims) Claim(_ context.Context, q app.ClaimQuery) ([]app.Claim, error) {
	m := c.tx.m
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	var due []notification.ID
	for id, p := range m.book.rows {
		if owner := m.book.locked[id]; (owner == nil || owner == c.tx) && !p.due.After(now) {
			due = append(due, id)
		}
	}
	slices.SortFunc(due, func(a, b notification.ID) int {
		return cmp.Or(m.book.rows[a].due.Compare(m.book.rows[b].due), cmp.Compare(a, b))
	})
	var claims []app.Claim
	for _, id := range due[:min(q.Limit, len(due))] {
		p, err := c.touch(id)
		if err != nil || p == nil {
			continue
		}
		p.attempt++
		p.claimed, p.due, p.fence = true, now.Add(q.Lease), q.Fence
		n := m.rows[id]
		claims = append(claims, app.Claim{ID: id, Attempt: p.attempt, Group: p.group, Trace: p.trace, Status: n.Status, Content: n.Content})
	}
	return claims, nil
}

// Confirm implements app.Claims.
func (c memoryClaims) Confirm(_ context.Context, claim app.Claim) error {
	c.tx.m.mu.Lock()
	defer c.tx.m.mu.Unlock()
	p, err := c.touch(claim.ID)
	if err != nil {
		return err
	}
	if p == nil || !p.claimed || p.attempt != claim.Attempt {
		return app.ErrClaimLost
	}
	return nil
}

// Release implements app.Claims.
func (c memoryClaims) Release(_ context.Context, wait time.Duration, claims ...app.Claim) error {
	c.tx.m.mu.Lock()
	defer c.tx.m.mu.Unlock()
	for _, claim := range claims {
		p, err := c.touch(claim.ID)
		if err != nil {
			return err
		}
		if p != nil && p.claimed && p.attempt == claim.Attempt {
			p.claimed, p.due = false, c.tx.m.now().Add(wait)
		}
	}
	return nil
}
