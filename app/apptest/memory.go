// Package apptest helps to test use cases and the ports they stand on: Memory is
// storage without a database, Exercise the suite that every storage passes.
//
// Reference code: no compatibility promise.
package apptest

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/account"
	"github.com/millrace-go/millrace/domain/notification"
)

// Memory is storage in memory: unit of work, repository and reader. It behaves
// as the Postgres one does, with optimistic concurrency and all-or-nothing
// commits. The zero value is empty and ready to use.
type Memory struct {
	// Now is the clock of claims, which takes the part of the database's. Set it
	// before use. Default time.Now.
	Now func() time.Time

	mu     sync.Mutex
	rows   map[notification.ID]notification.State
	events []domain.Recorded
	access access
	book   book
}

var (
	_ app.UnitOfWork = (*Memory)(nil)
	_ app.Reader     = (*Memory)(nil)
)

// Do implements app.UnitOfWork.
func (m *Memory) Do(ctx context.Context, fn func(context.Context, app.Tx) error) error {
	if outer, ok := ctx.Value(memoryKey{m}).(*memoryTx); ok {
		err := fn(ctx, outer)
		if err != nil && outer.failed == nil {
			outer.failed = err
		}
		return err
	}
	tx := &memoryTx{m: m, rows: map[notification.ID]notification.State{}, base: map[notification.ID]int64{}}
	tx.accounts, tx.sessions = newDraft[account.ID, account.State](), newDraft[account.SessionID, account.SessionState]()
	defer m.unlock(tx)
	err := fn(context.WithValue(ctx, memoryKey{m}, tx), tx)
	if err == nil {
		err = tx.failed
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	return m.commit(tx)
}

func (m *Memory) commit(tx *memoryTx) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, version := range tx.base {
		if m.rows[id].Version == version {
			continue
		}
		if version == 0 {
			return domain.ErrDuplicate
		}
		return domain.ErrVersionConflict
	}
	if err := m.checkAccess(tx); err != nil {
		return err
	}
	m.applyAccess(tx)
	m.applyClaims(tx)
	if m.rows == nil {
		m.rows = map[notification.ID]notification.State{}
	}
	maps.Copy(m.rows, tx.rows)
	m.events = append(m.events, tx.events...)
	return nil
}

// NotificationStatus implements app.Reader.
func (m *Memory) NotificationStatus(_ context.Context, id notification.ID) (app.NotificationStatus, error) {
	s, ok := m.row(id)
	if !ok {
		return app.NotificationStatus{}, domain.ErrNotFound
	}
	return app.StatusOf(s), nil
}

// RecipientNotifications implements app.Reader.
func (m *Memory) RecipientNotifications(_ context.Context, recipient string, limit int) ([]app.NotificationStatus, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []app.NotificationStatus
	for _, s := range m.rows {
		if s.Recipient == recipient {
			list = append(list, app.StatusOf(s))
		}
	}
	sortNewest(list)
	return list[:min(limit, len(list))], nil
}

// Events returns what was committed, in the order of the commits.
func (m *Memory) Events() []domain.Recorded {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.events)
}

func (m *Memory) row(id notification.ID) (notification.State, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.rows[id]
	return s, ok
}

type memoryKey struct{ m *Memory }

// memoryTx keeps the writes of one unit of work until it commits. base holds the
// versions that must still be the stored ones then.
type memoryTx struct {
	m      *Memory
	rows   map[notification.ID]notification.State
	base   map[notification.ID]int64
	events []domain.Recorded
	failed error
	pages  map[notification.ID]*page

	accounts *draft[account.ID, account.State]
	sessions *draft[account.SessionID, account.SessionState]
}

func (tx *memoryTx) Notifications() app.Notifications { return tx }

func (tx *memoryTx) Record(_ context.Context, events ...domain.Recorded) error {
	tx.events = append(tx.events, events...)
	return nil
}

func (tx *memoryTx) Add(_ context.Context, n *notification.Notification) error {
	if _, ok := tx.seen(n.ID()); ok {
		return domain.ErrDuplicate
	}
	tx.put(n, 0, time.Now())
	return nil
}

func (tx *memoryTx) Get(_ context.Context, id notification.ID) (*notification.Notification, error) {
	s, ok := tx.seen(id)
	if !ok {
		return nil, domain.ErrNotFound
	}
	return notification.FromState(s), nil
}

func (tx *memoryTx) Save(_ context.Context, n *notification.Notification) error {
	s, ok := tx.seen(n.ID())
	switch {
	case !ok:
		return domain.ErrNotFound
	case s.Version != n.Stored():
		return domain.ErrVersionConflict
	case len(n.Pending()) == 0:
		return nil
	}
	tx.put(n, s.Version, s.CreatedAt)
	return nil
}

func (tx *memoryTx) seen(id notification.ID) (notification.State, bool) {
	if s, ok := tx.rows[id]; ok {
		return s, true
	}
	return tx.m.row(id)
}

func (tx *memoryTx) put(n *notification.Notification, base int64, createdAt time.Time) {
	if _, ok := tx.base[n.ID()]; !ok {
		tx.base[n.ID()] = base
	}
	n.Settle(domain.Time(createdAt), domain.Time(time.Now()))
	tx.rows[n.ID()] = n.State()
}
