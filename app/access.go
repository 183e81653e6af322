package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/account"
)

// AccessConfig configures an Access. The zero value is usable.
type AccessConfig struct {
	// SessionLife is how long a session is good for unless it is revoked; at least
	// one second. Default 12 h.
	SessionLife time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// NewID draws the ids of accounts and events: UUIDs in text form. Default NewID.
	NewID func() string
	// CacheFailed is told when the cache could not be reported a login or a logout.
	// A logout is then known to the cache when its event arrives. Default: nobody.
	CacheFailed func(ctx context.Context, err error)
}

// Access is the use cases of accounts and sessions over their ports. It is safe
// for concurrent use.
type Access struct {
	uow       UnitOfWork
	reader    AccountReader
	cache     SessionCache
	passwords Passwords
	cfg       AccessConfig
}

// NewAccess returns the use cases over the given ports, all of which are required.
func NewAccess(uow UnitOfWork, reader AccountReader, cache SessionCache, passwords Passwords, cfg AccessConfig) (*Access, error) {
	var v domain.Validation
	v.Check(uow != nil, "uow", "is nil")
	v.Check(reader != nil, "reader", "is nil")
	v.Check(cache != nil, "cache", "is nil")
	v.Check(passwords != nil, "passwords", "is nil")
	v.Check(cfg.SessionLife == 0 || cfg.SessionLife >= time.Second, "SessionLife", "must be at least 1s")
	if err := v.Err(); err != nil {
		return nil, fmt.Errorf("access: %w", err)
	}
	if cfg.SessionLife == 0 {
		cfg.SessionLife = 12 * time.Hour
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.NewID == nil {
		cfg.NewID = NewID
	}
	if cfg.CacheFailed == nil {
		cfg.CacheFailed = func(context.Context, error) {}
	}
	return &Access{uow: uow, reader: reader, cache: cache, passwords: passwords, cfg: cfg}, nil
}

// conflictRetries is how often a use case that lost against another decides again.
const conflictRetries = 3

// decide runs fn in a unit of work, and again when another one was faster.
func (a *Access) decide(ctx context.Context, fn func(context.Context, Tx) error) error {
	for attempt := 0; ; attempt++ {
		err := a.uow.Do(ctx, fn)
		if attempt >= conflictRetries || !errors.Is(err, domain.ErrVersionConflict) {
			return err
		}
	}
}

// owned returns the session that a token opens and its account, if the session
// is good now; account.ErrInvalidToken otherwise.
func (a *Access) owned(ctx context.Context, tx Tx, token account.Token) (*account.Session, *account.Account, error) {
	s, err := tx.Sessions().Get(ctx, token.Session())
	if errors.Is(err, domain.ErrNotFound) {
		return nil, nil, account.ErrInvalidToken
	}
	if err != nil {
		return nil, nil, err
	}
	owner, err := tx.Accounts().Get(ctx, s.State().Account)
	if err != nil {
		return nil, nil, err
	}
	if !s.State().Live(owner.State().Generation, a.cfg.Now()) {
		return nil, nil, account.ErrInvalidToken
	}
	return s, owner, nil
}

// tell lets the cache know of something that is committed. The caller may be
// gone; the cache is told all the same, within a bound.
func (a *Access) tell(ctx context.Context, what func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellTimeout)
	defer cancel()
	if err := what(ctx); err != nil {
		a.cfg.CacheFailed(ctx, err)
	}
}

const tellTimeout = 2 * time.Second

func (a *Access) accountEvents(ctx context.Context, c *account.Account) []domain.Recorded {
	return domain.Envelopes(account.Aggregate, string(c.ID()), c.Version(), c.Pending(), TraceFrom(ctx), a.cfg.NewID)
}

func (a *Access) sessionEvents(ctx context.Context, s *account.Session) []domain.Recorded {
	return domain.Envelopes(account.SessionAggregate, string(s.ID()), s.Version(), s.Pending(), TraceFrom(ctx), a.cfg.NewID)
}
