package codec

import (
	"errors"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/account"
)

// TopicAccount carries the events of accounts and of their sessions, keyed by
// account.
const TopicAccount = "account.v1"

// Wire names of the events of accounts and sessions.
const (
	AccountRegistered      = "account.registered"
	AccountSessionsRevoked = "account.sessions-revoked"
	SessionOpened          = "session.opened"
	SessionRevoked         = "session.revoked"
)

// accountV1 and sessionV1 are frozen: see the package comment. There is no
// password in any form in them, and of a token only the hash, as session_id.
type accountV1 struct {
	AccountID    string    `json:"account_id"`
	Email        string    `json:"email"`
	Generation   int64     `json:"generation"`
	RegisteredAt time.Time `json:"registered_at"`
}

type sessionV1 struct {
	SessionID  string    `json:"session_id"`
	AccountID  string    `json:"account_id"`
	Generation int64     `json:"generation"`
	OpenedAt   time.Time `json:"opened_at"`
	ExpiresAt  time.Time `json:"expires_at"`
}

func accountEvents(r registry) {
	registerAccount(r, AccountRegistered,
		func(e account.Registered) account.About { return e.About },
		func(_ domain.Recorded, a account.About) account.Registered { return account.Registered{About: a} })
	registerAccount(r, AccountSessionsRevoked,
		func(e account.SessionsRevoked) account.About { return e.About },
		func(rec domain.Recorded, a account.About) account.SessionsRevoked {
			return account.SessionsRevoked{About: a, At: rec.OccurredAt}
		})
	registerSession(r, SessionOpened,
		func(e account.SessionOpened) account.AboutSession { return e.AboutSession },
		func(_ domain.Recorded, a account.AboutSession) account.SessionOpened {
			return account.SessionOpened{AboutSession: a}
		})
	registerSession(r, SessionRevoked,
		func(e account.SessionRevoked) account.AboutSession { return e.AboutSession },
		func(rec domain.Recorded, a account.AboutSession) account.SessionRevoked {
			return account.SessionRevoked{AboutSession: a, At: rec.OccurredAt}
		})
}

func registerAccount[E domain.Event](r registry, name string, about func(E) account.About, event func(domain.Recorded, account.About) E) {
	register(r, schema{name: name, topic: TopicAccount, version: 1}, form[E, accountV1]{
		key: func(rec domain.Recorded, _ E) string { return rec.AggregateID },
		to: func(rec domain.Recorded, e E) accountV1 {
			a := about(e)
			return accountV1{rec.AggregateID, a.Email, a.Generation, a.RegisteredAt}
		},
		from: func(rec domain.Recorded, p accountV1) E {
			return event(rec, account.About{Email: p.Email, Generation: p.Generation, RegisteredAt: domain.Time(p.RegisteredAt)})
		},
		check: func(rec domain.Recorded, p accountV1) error { return p.check(rec) },
	})
}

func registerSession[E domain.Event](r registry, name string, about func(E) account.AboutSession, event func(domain.Recorded, account.AboutSession) E) {
	register(r, schema{name: name, topic: TopicAccount, version: 1}, form[E, sessionV1]{
		key: func(_ domain.Recorded, e E) string { return string(about(e).Account) },
		to: func(rec domain.Recorded, e E) sessionV1 {
			a := about(e)
			return sessionV1{rec.AggregateID, string(a.Account), a.Generation, a.OpenedAt, a.ExpiresAt}
		},
		from: func(rec domain.Recorded, p sessionV1) E {
			return event(rec, account.AboutSession{
				Account: account.ID(p.AccountID), Generation: p.Generation,
				OpenedAt: domain.Time(p.OpenedAt), ExpiresAt: domain.Time(p.ExpiresAt),
			})
		},
		check: func(rec domain.Recorded, p sessionV1) error { return p.check(rec) },
	})
}

// check refuses payloads that lack what every event of an account has, and those
// that speak of another one than their envelope.
func (p accountV1) check(rec domain.Recorded) error {
	return errors.Join(same("account_id", p.AccountID, rec.AggregateID), present(map[string]bool{
		"email": p.Email != "", "generation": p.Generation > 0, "registered_at": !p.RegisteredAt.IsZero(),
	}, "email", "generation", "registered_at"))
}

func (p sessionV1) check(rec domain.Recorded) error {
	return errors.Join(same("session_id", p.SessionID, rec.AggregateID), present(map[string]bool{
		"account_id": p.AccountID != "", "generation": p.Generation > 0,
		"opened_at": !p.OpenedAt.IsZero(), "expires_at": !p.ExpiresAt.IsZero(),
	}, "account_id", "generation", "opened_at", "expires_at"))
}

func same(field, have, want string) error {
	if have == want {
		return nil
	}
	return fmt.Errorf("%s: is %q, the record says %q", field, have, want)
}

// present names the fields, in order, that are not there.
func present(there map[string]bool, fields ...string) error {
	var errs []error
	for _, f := range fields {
		if !there[f] {
			errs = append(errs, errors.New(f+": is missing"))
		}
	}
	return errors.Join(errs...)
}
