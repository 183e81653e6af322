package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/account"
)

// LoggedIn is the answer to LogIn.
type LoggedIn struct {
	Token     account.Token
	Account   account.ID
	ExpiresAt time.Time
}

// LogIn opens a session. Anything but the right password of an account is
// account.ErrWrongCredentials, after the same work whether there is such an
// account or not; ErrOverloaded means that too many passwords are being checked.
//
// The password is checked outside of the transaction, since that is slow. Within,
// the account is held: a session belongs to the generation that is current when
// it commits, and ends with every LogOutEverywhere that begins after LogIn returns.
func (a *Access) LogIn(ctx context.Context, email, password string) (LoggedIn, error) {
	c, err := a.checkPassword(ctx, email, password)
	if err != nil {
		return LoggedIn{}, fmt.Errorf("log in: %w", err)
	}
	out := LoggedIn{Token: account.NewToken(), Account: c.ID}
	err = a.decide(ctx, func(ctx context.Context, tx Tx) error {
		owner, err := tx.Accounts().Hold(ctx, c.ID)
		if errors.Is(err, domain.ErrNotFound) || err == nil && owner.State().Password != c.Password { // changed since it was checked
			err = account.ErrWrongCredentials
		}
		if err != nil {
			return err
		}
		s, err := account.Open(owner, out.Token, a.cfg.Now(), a.cfg.SessionLife)
		if err != nil {
			return err
		}
		out.ExpiresAt = s.State().ExpiresAt
		events := a.sessionEvents(ctx, s)
		if err := tx.Sessions().Add(ctx, s); err != nil {
			return err
		}
		return tx.Record(ctx, events...)
	})
	if err != nil {
		return LoggedIn{}, fmt.Errorf("log in: %w", err)
	}
	a.tell(ctx, func(ctx context.Context) error { // the first request then needs no database
		_, _, err := a.cache.Look(ctx, out.Token.Session())
		return err
	})
	return out, nil
}

// checkPassword costs one question to the database and one hash, whatever the
// answer is.
func (a *Access) checkPassword(ctx context.Context, email, password string) (Credentials, error) {
	var c Credentials
	if email = account.NormalEmail(email); account.IsEmail(email) {
		var err error
		if c, err = a.reader.Credentials(ctx, email); err != nil && !errors.Is(err, domain.ErrNotFound) {
			return Credentials{}, err
		}
	}
	ok, err := a.passwords.Verify(ctx, c.Password, password)
	if err != nil {
		return Credentials{}, err
	}
	if !ok {
		return Credentials{}, account.ErrWrongCredentials
	}
	return c, nil
}
