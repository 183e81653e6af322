package app

import (
	"context"
	"errors"
	"time"

	"github.com/millrace-go/millrace/domain/account"
)

// ErrOverloaded means that the service has as much to do as it can take. Nothing
// is known of what was asked for; try again in a second.
var ErrOverloaded = errors.New("overloaded")

// Accounts stores accounts. It settles what it stores: version and times are
// then those of the stored row.
type Accounts interface {
	// Add stores a new account; domain.ErrDuplicate if its id or its email is taken.
	Add(ctx context.Context, a *account.Account) error
	// Get returns an account or domain.ErrNotFound.
	Get(ctx context.Context, id account.ID) (*account.Account, error)
	// Hold is Get, and nobody else saves the account until this unit of work has
	// committed: they wait, or it fails with domain.ErrVersionConflict.
	Hold(ctx context.Context, id account.ID) (*account.Account, error)
	// Save stores the pending acts of an account that Get or Hold returned. It is
	// domain.ErrVersionConflict if someone else stored one since, and
	// domain.ErrNotFound if it is not stored at all.
	Save(ctx context.Context, a *account.Account) error
}

// Sessions stores sessions. It settles what it stores.
type Sessions interface {
	// Add stores a new session; domain.ErrDuplicate if its id is taken, and
	// domain.ErrReference if its account is not stored.
	Add(ctx context.Context, s *account.Session) error
	// Get returns a session, expired or revoked ones too, or domain.ErrNotFound.
	Get(ctx context.Context, id account.SessionID) (*account.Session, error)
	// Save stores the pending acts of a session that Get returned; errors are those
	// of Accounts.Save.
	Save(ctx context.Context, s *account.Session) error
	// Sweep removes up to limit sessions that expired before the given time, and
	// returns how many. It passes over those that others work on.
	Sweep(ctx context.Context, before time.Time, limit int) (int, error)
}

// AccountReader answers questions from the database, outside of any unit of work.
type AccountReader interface {
	// Credentials returns what a login is checked against, or domain.ErrNotFound.
	// The email is in its normal form.
	Credentials(ctx context.Context, email string) (Credentials, error)
	// AccountView returns the latest committed state or domain.ErrNotFound.
	AccountView(ctx context.Context, id account.ID) (AccountView, error)
	// SessionView returns the latest committed state or domain.ErrNotFound.
	SessionView(ctx context.Context, id account.SessionID) (SessionView, error)
}

// SessionCache answers what a token needs on each request, without the database
// once it knows. It may be a moment behind, but an entry never goes backwards.
// Package apptest has the suite that every implementation passes.
type SessionCache interface {
	// Look returns a session and its account. It is domain.ErrNotFound if there is
	// no such session or account, or if the session was revoked; whether it is
	// expired or of an old generation, the caller decides. It is ErrOverloaded when
	// neither the cache nor the database can be asked now. That the cache itself
	// does not work is not an error: the database is asked.
	Look(ctx context.Context, session account.SessionID) (SessionView, AccountView, error)
	// Revoke remembers that a session was revoked, until it would have expired.
	// No answer that was read before can bring it back.
	Revoke(ctx context.Context, s SessionView) error
	// RefreshAccount replaces an account that is remembered by a later version of it. One
	// that is not remembered is looked up when it is next asked for.
	RefreshAccount(ctx context.Context, a AccountView) error
}

// Passwords hashes passwords, slowly on purpose. When too many are at work it
// answers ErrOverloaded.
type Passwords interface {
	// Hash returns a hash that Verify knows, with its salt and parameters.
	Hash(ctx context.Context, password string) (string, error)
	// Verify reports whether password is the one that was hashed. For an empty hash
	// it is false, at the price of any other answer.
	Verify(ctx context.Context, hash, password string) (bool, error)
}

// Credentials are what a login is checked against.
type Credentials struct {
	ID       account.ID
	Password string // hash
}
