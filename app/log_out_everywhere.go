package app

import (
	"context"
	"fmt"

	"github.com/millrace-go/millrace/domain/account"
)

// LogOutEverywhere revokes all sessions of the account that a token speaks for,
// by one write however many there are. Sessions whose LogIn begins after it
// returned are not touched. Errors are those of LogOut.
func (a *Access) LogOutEverywhere(ctx context.Context, token string) error {
	t, err := account.ParseToken(token)
	if err != nil {
		return fmt.Errorf("log out everywhere: %w", err)
	}
	var view AccountView
	err = a.decide(ctx, func(ctx context.Context, tx Tx) error {
		_, owner, err := a.owned(ctx, tx, t)
		if err != nil {
			return err
		}
		owner.RevokeSessions(a.cfg.Now())
		events := a.accountEvents(ctx, owner)
		if err := tx.Accounts().Save(ctx, owner); err != nil {
			return err
		}
		view = AccountViewOf(owner.State())
		return tx.Record(ctx, events...)
	})
	if err != nil {
		return fmt.Errorf("log out everywhere: %w", err)
	}
	a.tell(ctx, func(ctx context.Context) error { return a.cache.RefreshAccount(ctx, view) })
	return nil
}
