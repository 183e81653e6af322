package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/account"
)

// Principal is whom a valid token speaks for.
type Principal struct {
	Account      account.ID
	Email        string
	RegisteredAt time.Time
	Session      account.SessionID
	OpenedAt     time.Time
	ExpiresAt    time.Time
}

// Authenticate returns whom a token speaks for. A token that is not good is
// account.ErrInvalidToken; one that has not even the form of a token is told
// without asking anybody. Every other error says nothing about the token.
func (a *Access) Authenticate(ctx context.Context, token string) (Principal, error) {
	t, err := account.ParseToken(token)
	if err != nil {
		return Principal{}, fmt.Errorf("authenticate: %w", err)
	}
	s, owner, err := a.cache.Look(ctx, t.Session())
	if errors.Is(err, domain.ErrNotFound) || err == nil && !s.Live(owner, a.cfg.Now()) {
		err = account.ErrInvalidToken
	}
	if err != nil {
		return Principal{}, fmt.Errorf("authenticate: %w", err)
	}
	return Principal{
		Account: owner.ID, Email: owner.Email, RegisteredAt: owner.RegisteredAt,
		Session: s.ID, OpenedAt: s.OpenedAt, ExpiresAt: s.ExpiresAt,
	}, nil
}
