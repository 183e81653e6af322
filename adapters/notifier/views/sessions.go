package views

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/account"
)

// SessionsConfig configures Sessions. The zero value is usable.
type SessionsConfig struct {
	// TTL is how long an entry serves before the database is asked again, at least
	// one second; a session's never longer than the session. Default 30 min.
	TTL time.Duration
	// NegativeTTL is how long it is remembered that there is no such session, at
	// least one second. Default 30 s.
	NegativeTTL time.Duration
}

// Sessions answers from Redis who a session belongs to: one entry for the
// session, under the hash that is its id, and one for its account. A session
// that was revoked leaves a tombstone until it would have expired. It is safe for
// concurrent use.
type Sessions struct {
	sessions *cache.Versioned[app.SessionView]
	accounts *cache.Versioned[app.AccountView]
}

var _ app.SessionCache = (*Sessions)(nil)

// NewSessions returns the cache in store, of what reader says. It asks nothing.
func NewSessions(store *cache.Store, reader app.AccountReader, cfg SessionsConfig) (*Sessions, error) {
	if reader == nil {
		return nil, errors.New("session cache: reader: is nil")
	}
	if cfg.TTL == 0 {
		cfg.TTL = 30 * time.Minute
	}
	sessions, err := cache.NewVersioned(store, "sessions", loadSession(reader), cache.VersionedConfig[app.SessionView]{
		TTL: cfg.TTL, NegativeTTL: cfg.NegativeTTL, Prefix: "auth:tok:", Encode: encodeSession, Decode: decodeSession,
	})
	if err != nil {
		return nil, fmt.Errorf("session cache: %w", err)
	}
	accounts, err := cache.NewVersioned(store, "accounts", loadAccount(reader), cache.VersionedConfig[app.AccountView]{
		TTL: cfg.TTL, NegativeTTL: cfg.NegativeTTL, Prefix: "auth:usr:", Encode: encodeAccount, Decode: decodeAccount,
	})
	if err != nil {
		return nil, fmt.Errorf("session cache: %w", err)
	}
	return &Sessions{sessions, accounts}, nil
}

// Look implements app.SessionCache. While both entries are in Redis it costs two
// GETs and no question to the database.
func (c *Sessions) Look(ctx context.Context, id account.SessionID) (app.SessionView, app.AccountView, error) {
	s, err := c.sessions.Get(ctx, string(id))
	if err != nil {
		return app.SessionView{}, app.AccountView{}, fmt.Errorf("look up session %s: %w", id, appError(err))
	}
	s.ID = id
	a, err := c.accounts.Get(ctx, string(s.Account))
	if err != nil {
		return app.SessionView{}, app.AccountView{}, fmt.Errorf("look up account %s: %w", s.Account, appError(err))
	}
	a.ID = s.Account
	return s, a, nil
}

// Revoke implements app.SessionCache.
func (c *Sessions) Revoke(ctx context.Context, s app.SessionView) error {
	if err := c.sessions.Revoke(ctx, string(s.ID), s.Version, s.ExpiresAt); err != nil {
		return fmt.Errorf("revoke session %s: %w", s.ID, err)
	}
	return nil
}

// RefreshAccount implements app.SessionCache. It only replaces what is there: if there
// is nothing, the next Look asks the database.
func (c *Sessions) RefreshAccount(ctx context.Context, a app.AccountView) error {
	if _, err := c.accounts.Refresh(ctx, string(a.ID), cache.Found(a.Version, a)); err != nil {
		return fmt.Errorf("refresh account %s: %w", a.ID, err)
	}
	return nil
}

// Apply updates the cache from events, for writes whose process could not reach
// Redis. Order and repetition do not matter; events of other aggregates are ignored.
// After an error apply all again.
func (c *Sessions) Apply(ctx context.Context, events ...domain.Recorded) error {
	for _, e := range events {
		var err error
		if s, ok := app.ProjectSession(e); ok && s.Revoked {
			err = c.Revoke(ctx, s)
		} else if a, ok := app.ProjectAccount(e); ok {
			err = c.RefreshAccount(ctx, a)
		}
		if err != nil {
			return fmt.Errorf("apply event to the session cache: %w", err)
		}
	}
	return nil
}

// appError gives the cache's errors the names that app has for them.
func appError(err error) error {
	switch {
	case errors.Is(err, cache.ErrNotFound), errors.Is(err, cache.ErrRevoked):
		return domain.ErrNotFound
	case errors.Is(err, cache.ErrOverloaded):
		return fmt.Errorf("%w: %w", app.ErrOverloaded, err)
	}
	return err
}

func loadSession(reader app.AccountReader) cache.Load[app.SessionView] {
	return func(ctx context.Context, id string) (cache.Entry[app.SessionView], error) {
		s, err := reader.SessionView(ctx, account.SessionID(id))
		if errors.Is(err, domain.ErrNotFound) {
			err = cache.ErrNotFound
		}
		if err != nil {
			return cache.Entry[app.SessionView]{}, err
		}
		e := cache.Entry[app.SessionView]{Version: s.Version, Value: s, Expires: s.ExpiresAt}
		if s.Revoked {
			e.State = cache.Revoked
		}
		return e, nil
	}
}

func loadAccount(reader app.AccountReader) cache.Load[app.AccountView] {
	return func(ctx context.Context, id string) (cache.Entry[app.AccountView], error) {
		a, err := reader.AccountView(ctx, account.ID(id))
		if errors.Is(err, domain.ErrNotFound) {
			err = cache.ErrNotFound
		}
		return cache.Found(a.Version, a), err
	}
}

// sessionPayload and accountPayload are the stored forms. Their field names are
// part of the format.
type sessionPayload struct {
	Version    int64      `json:"version"`
	Account    account.ID `json:"account"`
	Generation int64      `json:"generation"`
	OpenedAt   time.Time  `json:"opened_at"`
	ExpiresAt  time.Time  `json:"expires_at"`
}

type accountPayload struct {
	Version      int64     `json:"version"`
	Email        string    `json:"email"`
	Generation   int64     `json:"generation"`
	RegisteredAt time.Time `json:"registered_at"`
}

func encodeSession(s app.SessionView) ([]byte, error) {
	return json.Marshal(sessionPayload{s.Version, s.Account, s.Generation, s.OpenedAt, s.ExpiresAt})
}

func decodeSession(b []byte) (app.SessionView, error) {
	var p sessionPayload
	err := json.Unmarshal(b, &p)
	return app.SessionView{
		Version: p.Version, Account: p.Account, Generation: p.Generation, OpenedAt: p.OpenedAt, ExpiresAt: p.ExpiresAt,
	}, err
}

func encodeAccount(a app.AccountView) ([]byte, error) {
	return json.Marshal(accountPayload{a.Version, a.Email, a.Generation, a.RegisteredAt})
}

func decodeAccount(b []byte) (app.AccountView, error) {
	var p accountPayload
	err := json.Unmarshal(b, &p)
	return app.AccountView{Version: p.Version, Email: p.Email, Generation: p.Generation, RegisteredAt: p.RegisteredAt}, err
}
