package apptest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/account"
)

var _ app.AccountReader = (*Memory)(nil)

// access is the committed accounts and sessions of a Memory.
type access struct {
	accounts map[account.ID]account.State
	sessions map[account.SessionID]account.SessionState
}

// draft is what a unit of work did to the rows of one kind. base holds the
// versions that must still be the stored ones when it commits.
type draft[ID comparable, S any] struct {
	rows map[ID]S
	base map[ID]int64
	gone map[ID]bool
}

func newDraft[ID comparable, S any]() *draft[ID, S] {
	return &draft[ID, S]{map[ID]S{}, map[ID]int64{}, map[ID]bool{}}
}

// seen returns the row as the unit of work sees it.
func (d *draft[ID, S]) seen(m *Memory, stored func() map[ID]S, id ID) (S, bool) {
	if s, ok := d.rows[id]; ok || d.gone[id] {
		return s, ok
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := stored()[id]
	return s, ok
}

func (d *draft[ID, S]) expect(id ID, version int64) {
	if _, ok := d.base[id]; !ok {
		d.base[id] = version
	}
}

// check compares with what is stored now; the caller holds the lock.
func (d *draft[ID, S]) check(stored map[ID]S, version func(S) int64) error {
	for id, want := range d.base {
		have := int64(0)
		if s, ok := stored[id]; ok {
			have = version(s)
		}
		switch {
		case have == want:
		case want == 0:
			return domain.ErrDuplicate
		default:
			return domain.ErrVersionConflict
		}
	}
	return nil
}

func (d *draft[ID, S]) apply(stored map[ID]S) map[ID]S {
	if stored == nil {
		stored = map[ID]S{}
	}
	maps.Copy(stored, d.rows)
	for id := range d.gone {
		delete(stored, id)
	}
	return stored
}

// checkAccess refuses accounts and sessions that others changed in the meantime.
// The caller holds the lock.
func (m *Memory) checkAccess(tx *memoryTx) error {
	for _, s := range tx.accounts.rows {
		if m.emailTaken(s) {
			return domain.ErrDuplicate
		}
	}
	return cmp.Or(
		tx.accounts.check(m.access.accounts, func(s account.State) int64 { return s.Version }),
		tx.sessions.check(m.access.sessions, func(s account.SessionState) int64 { return s.Version }),
	)
}

func (m *Memory) applyAccess(tx *memoryTx) {
	m.access.accounts = tx.accounts.apply(m.access.accounts)
	m.access.sessions = tx.sessions.apply(m.access.sessions)
}

func (m *Memory) emailTaken(by account.State) bool {
	for _, s := range m.access.accounts {
		if s.Email == by.Email && s.ID != by.ID {
			return true
		}
	}
	return false
}

// Credentials implements app.AccountReader.
func (m *Memory) Credentials(_ context.Context, email string) (app.Credentials, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.access.accounts {
		if s.Email == email {
			return app.Credentials{ID: s.ID, Password: s.Password}, nil
		}
	}
	return app.Credentials{}, domain.ErrNotFound
}

// AccountView implements app.AccountReader.
func (m *Memory) AccountView(_ context.Context, id account.ID) (app.AccountView, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.access.accounts[id]
	if !ok {
		return app.AccountView{}, domain.ErrNotFound
	}
	return app.AccountViewOf(s), nil
}

// SessionView implements app.AccountReader.
func (m *Memory) SessionView(_ context.Context, id account.SessionID) (app.SessionView, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.access.sessions[id]
	if !ok {
		return app.SessionView{}, domain.ErrNotFound
	}
	return app.SessionViewOf(s), nil
}

func (tx *memoryTx) Accounts() app.Accounts { return memoryAccounts{tx} }

func (tx *memoryTx) Sessions() app.Sessions { return memorySessions{tx} }

type memoryAccounts struct{ tx *memoryTx }

func (r memoryAccounts) seen(id account.ID) (account.State, bool) {
	return r.tx.accounts.seen(r.tx.m, func() map[account.ID]account.State { return r.tx.m.access.accounts }, id)
}

func (r memoryAccounts) Add(_ context.Context, a *account.Account) error {
	_, taken := r.seen(a.ID())
	for _, s := range r.tx.accounts.rows {
		taken = taken || s.Email == a.State().Email
	}
	r.tx.m.mu.Lock()
	taken = taken || r.tx.m.emailTaken(a.State())
	r.tx.m.mu.Unlock()
	if taken {
		return domain.ErrDuplicate
	}
	r.put(a, 0, time.Now())
	return nil
}

func (r memoryAccounts) Get(_ context.Context, id account.ID) (*account.Account, error) {
	s, ok := r.seen(id)
	if !ok {
		return nil, domain.ErrNotFound
	}
	return account.FromState(s), nil
}

func (r memoryAccounts) Hold(ctx context.Context, id account.ID) (*account.Account, error) {
	a, err := r.Get(ctx, id)
	if err == nil {
		r.tx.accounts.expect(id, a.Stored())
	}
	return a, err
}

func (r memoryAccounts) Save(_ context.Context, a *account.Account) error {
	s, ok := r.seen(a.ID())
	switch {
	case !ok:
		return domain.ErrNotFound
	case s.Version != a.Stored():
		return domain.ErrVersionConflict
	case len(a.Pending()) == 0:
		return nil
	}
	r.put(a, s.Version, s.CreatedAt)
	return nil
}

func (r memoryAccounts) put(a *account.Account, base int64, createdAt time.Time) {
	r.tx.accounts.expect(a.ID(), base)
	a.Settle(domain.Time(createdAt), domain.Time(time.Now()))
	r.tx.accounts.rows[a.ID()] = a.State()
}

type memorySessions struct{ tx *memoryTx }

func (r memorySessions) seen(id account.SessionID) (account.SessionState, bool) {
	return r.tx.sessions.seen(r.tx.m, func() map[account.SessionID]account.SessionState { return r.tx.m.access.sessions }, id)
}

func (r memorySessions) Add(_ context.Context, s *account.Session) error {
	if _, taken := r.seen(s.ID()); taken {
		return domain.ErrDuplicate
	}
	if _, ok := memoryAccounts(r).seen(s.State().Account); !ok {
		return domain.ErrReference
	}
	r.put(s, 0, time.Now())
	return nil
}

func (r memorySessions) Get(_ context.Context, id account.SessionID) (*account.Session, error) {
	s, ok := r.seen(id)
	if !ok {
		return nil, domain.ErrNotFound
	}
	return account.SessionFromState(s), nil
}

func (r memorySessions) Save(_ context.Context, s *account.Session) error {
	have, ok := r.seen(s.ID())
	switch {
	case !ok:
		return domain.ErrNotFound
	case have.Version != s.Stored():
		return domain.ErrVersionConflict
	case len(s.Pending()) == 0:
		return nil
	}
	r.put(s, have.Version, have.CreatedAt)
	return nil
}

func (r memorySessions) Sweep(_ context.Context, before time.Time, limit int) (int, error) {
	r.tx.m.mu.Lock()
	defer r.tx.m.mu.Unlock()
	var over []account.SessionState
	for _, s := range r.tx.m.access.sessions {
		if _, mine := r.tx.sessions.rows[s.ID]; !mine && !r.tx.sessions.gone[s.ID] && s.ExpiresAt.Before(before) {
			over = append(over, s)
		}
	}
	slices.SortFunc(over, func(a, b account.SessionState) int { return a.ExpiresAt.Compare(b.ExpiresAt) })
	over = over[:min(limit, len(over))]
	for _, s := range over {
		r.tx.sessions.gone[s.ID] = true
	}
	return len(over), nil
}

func (r memorySessions) put(s *account.Session, base int64, createdAt time.Time) {
	r.tx.sessions.expect(s.ID(), base)
	s.Settle(domain.Time(createdAt), domain.Time(time.Now()))
	r.tx.sessions.rows[s.ID()] = s.State()
}
