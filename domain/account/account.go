// Package account is about who uses the service: accounts, and the sessions that
// are opened for them. A session belongs to a generation of its account; when
// the account begins a new one, all sessions of earlier generations are revoked
// at once, without being touched.
//
// Reference code: no compatibility promise.
package account

import (
	"time"

	"github.com/millrace-go/millrace/domain"
)

// Aggregate is the type name of accounts in envelopes and errors.
const Aggregate = "account"

// ID is a UUID in its canonical lower-case text form.
type ID string

// Account is the aggregate. Make one with Register or FromState. It is not safe
// for concurrent use.
type Account struct {
	root  domain.AggregateRoot
	state State
}

// State is everything an account is, for storage.
type State struct {
	domain.Entity[ID]
	// Email is the name to log in with, in the form NormalEmail gives.
	Email string
	// Password is the hash of the password. It is in no event.
	Password string
	// Generation is that of the sessions opened now; it starts at 1.
	Generation int64
	// RegisteredAt and ChangedAt are when the first and the latest event occurred.
	RegisteredAt time.Time
	ChangedAt    time.Time
}

// Register makes a new account. It refuses an email that is not one with a
// *domain.ValidationError. passwordHash is trusted: see
// ValidateCredentials for what to refuse before hashing.
func Register(id ID, email, passwordHash string, now time.Time) (*Account, error) {
	var v domain.Validation
	v.Check(domain.IsUUID(string(id)), "id", "must be a UUID in lower case")
	email = NormalEmail(email)
	checkEmail(&v, email)
	v.Check(passwordHash != "", "password", "has no hash")
	if err := v.Err(); err != nil {
		return nil, err
	}
	a := &Account{state: State{Entity: domain.Entity[ID]{ID: id}, Password: passwordHash}}
	a.raise(Registered{About: About{Email: email, Generation: 1, RegisteredAt: domain.Time(now)}})
	return a, nil
}

// FromState brings back a stored account. The state is trusted.
func FromState(s State) *Account {
	return &Account{root: domain.RootAt(s.Version), state: s}
}

// RevokeSessions begins a new generation: every session opened so far is revoked.
func (a *Account) RevokeSessions(now time.Time) {
	about := a.about()
	about.Generation++
	a.raise(SessionsRevoked{About: about, At: a.at(now)})
}

// State returns the present state. Its version counts the pending events too.
func (a *Account) State() State {
	s := a.state
	s.Version = a.root.Version()
	return s
}

// ID returns the identity.
func (a *Account) ID() ID { return a.state.ID }

// Version is the number of events so far, pending ones included.
func (a *Account) Version() int64 { return a.root.Version() }

// Stored is the version that storage knows: 0 for a new account.
func (a *Account) Stored() int64 { return a.root.Stored() }

// Pending returns the events raised since the account was last stored.
func (a *Account) Pending() []domain.Event { return a.root.Pending() }

// Settle is for repositories: the pending events are stored, and these are the
// times that the database gave.
func (a *Account) Settle(createdAt, updatedAt time.Time) {
	a.root.Settle()
	a.state.CreatedAt, a.state.UpdatedAt = createdAt, updatedAt
}

// at keeps the times of one account from running backwards when two nodes' clocks
// disagree.
func (a *Account) at(now time.Time) time.Time {
	return later(domain.Time(now), a.state.ChangedAt)
}

func (a *Account) about() About {
	return About{a.state.Email, a.state.Generation, a.state.RegisteredAt}
}

func (a *Account) raise(e domain.Event) { a.root.Raise(e, a.apply) }

// apply is the only place where the state changes: for new facts and for old.
func (a *Account) apply(event domain.Event) {
	s := &a.state
	switch e := event.(type) {
	case Registered:
		s.Email, s.Generation, s.RegisteredAt = e.Email, e.Generation, e.RegisteredAt
	case SessionsRevoked:
		s.Generation = e.Generation
	}
	s.ChangedAt = event.OccurredAt()
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
