package app

import (
	"context"
	"fmt"

	"github.com/millrace-go/millrace/domain/account"
)

// SignUp makes an account and returns its id. Credentials of the wrong form are a
// *domain.ValidationError, a taken email is domain.ErrDuplicate, and ErrOverloaded
// means that too many passwords are being hashed.
func (a *Access) SignUp(ctx context.Context, email, password string) (account.ID, error) {
	if err := account.ValidateCredentials(email, password); err != nil {
		return "", fmt.Errorf("sign up: %w", err)
	}
	hash, err := a.passwords.Hash(ctx, password)
	if err != nil {
		return "", fmt.Errorf("sign up: %w", err)
	}
	id := account.ID(a.cfg.NewID())
	err = a.uow.Do(ctx, func(ctx context.Context, tx Tx) error {
		c, err := account.Register(id, email, hash, a.cfg.Now())
		if err != nil {
			return err
		}
		events := a.accountEvents(ctx, c)
		if err := tx.Accounts().Add(ctx, c); err != nil {
			return err
		}
		return tx.Record(ctx, events...)
	})
	if err != nil {
		return "", fmt.Errorf("sign up: %w", err)
	}
	return id, nil
}
