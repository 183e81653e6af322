package apptest

import (
	"context"
	"errors"
	"sync"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/account"
)

// SessionCache is a session cache in memory, over a reader.
type SessionCache struct {
	Reader app.AccountReader

	mu       sync.Mutex
	sessions map[account.SessionID]app.SessionView
	accounts map[account.ID]app.AccountView
	// Err, if set, is what Revoked and Changed answer, and Look asks the reader:
	// the cache cannot be reached.
	Err error
}

var _ app.SessionCache = (*SessionCache)(nil)

// Look implements app.SessionCache.
func (c *SessionCache) Look(ctx context.Context, id account.SessionID) (app.SessionView, app.AccountView, error) {
	s, err := recall(ctx, c, &c.sessions, id, c.Reader.SessionView, c.keepSession)
	if err == nil && s.Revoked {
		err = domain.ErrNotFound
	}
	if err != nil {
		return app.SessionView{}, app.AccountView{}, err
	}
	a, err := recall(ctx, c, &c.accounts, s.Account, c.Reader.AccountView, c.keepAccount)
	return s, a, err
}

func recall[K comparable, V any](ctx context.Context, c *SessionCache, from *map[K]V, id K,
	read func(context.Context, K) (V, error), keep func(V),
) (V, error) {
	c.mu.Lock()
	v, ok := (*from)[id]
	away := c.Err != nil
	c.mu.Unlock()
	if ok && !away {
		return v, nil
	}
	v, err := read(ctx, id)
	if err == nil && !away {
		keep(v)
	}
	return v, err
}

// Revoke implements app.SessionCache.
func (c *SessionCache) Revoke(_ context.Context, s app.SessionView) error {
	if c.Err != nil {
		return c.Err
	}
	s.Revoked = true
	c.keepSession(s)
	return nil
}

// RefreshAccount implements app.SessionCache.
func (c *SessionCache) RefreshAccount(_ context.Context, a app.AccountView) error {
	if c.Err != nil {
		return c.Err
	}
	c.mu.Lock()
	_, there := c.accounts[a.ID]
	c.mu.Unlock()
	if there {
		c.keepAccount(a)
	}
	return nil
}

func (c *SessionCache) keepSession(s app.SessionView) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sessions == nil {
		c.sessions = map[account.SessionID]app.SessionView{}
	}
	if c.sessions[s.ID].Version < s.Version {
		c.sessions[s.ID] = s
	}
}

func (c *SessionCache) keepAccount(a app.AccountView) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.accounts == nil {
		c.accounts = map[account.ID]app.AccountView{}
	}
	if c.accounts[a.ID].Version < a.Version {
		c.accounts[a.ID] = a
	}
}

// Passwords "hashes" without effort, and counts what it was asked.
type Passwords struct {
	mu       sync.Mutex
	verified int
	// Err, if set, is what every call answers.
	Err error
}

var _ app.Passwords = (*Passwords)(nil)

// Hash implements app.Passwords.
func (p *Passwords) Hash(_ context.Context, password string) (string, error) {
	return "hash of " + password, p.Err
}

// Verify implements app.Passwords.
func (p *Passwords) Verify(_ context.Context, hash, password string) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.verified++
	return hash == "hash of "+password, p.Err
}

// Verified is how often Verify was called.
func (p *Passwords) Verified() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.verified
}

// errGone is what a reader answers that must not be asked.
var errGone = errors.New("the database was asked")
