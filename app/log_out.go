package app

import (
	"context"
	"fmt"

	"github.com/millrace-go/millrace/domain/account"
)

// LogOut revokes the session of a token, which is account.ErrInvalidToken if it
// is not good (any more). When it returns nil the database knows, so that no
// cache that forgets can bring the token back; caches know at once, or when the
// event arrives.
func (a *Access) LogOut(ctx context.Context, token string) error {
	t, err := account.ParseToken(token)
	if err != nil {
		return fmt.Errorf("log out: %w", err)
	}
	var view SessionView
	err = a.decide(ctx, func(ctx context.Context, tx Tx) error {
		s, _, err := a.owned(ctx, tx, t)
		if err != nil {
			return err
		}
		if err := s.Revoke(a.cfg.Now()); err != nil {
			return err
		}
		events := a.sessionEvents(ctx, s)
		if err := tx.Sessions().Save(ctx, s); err != nil {
			return err
		}
		view = SessionViewOf(s.State())
		return tx.Record(ctx, events...)
	})
	if err != nil {
		return fmt.Errorf("log out: %w", err)
	}
	a.tell(ctx, func(ctx context.Context) error { return a.cache.Revoke(ctx, view) })
	return nil
}
