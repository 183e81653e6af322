package account

import (
	"time"

	"github.com/millrace-go/millrace/domain"
)

// SessionAggregate is the type name of sessions in envelopes and errors.
const SessionAggregate = "session"

// Session is the aggregate of one login: it is opened, and it may be revoked
// before it expires. Make one with Open or SessionFromState. It is not safe for
// concurrent use.
type Session struct {
	root  domain.AggregateRoot
	state SessionState
}

// SessionState is everything a session is, for storage.
type SessionState struct {
	domain.Entity[SessionID]
	Account ID
	// Generation is the account's when the session was opened.
	Generation int64
	OpenedAt   time.Time
	ExpiresAt  time.Time
	// RevokedAt is zero while the session has not been revoked by itself.
	RevokedAt time.Time
}

// Live reports that the session is good at now for an account at generation.
func (s SessionState) Live(generation int64, now time.Time) bool {
	return s.RevokedAt.IsZero() && s.Generation >= generation && now.Before(s.ExpiresAt)
}

// Open makes a new session for the holder of the token, good for life. A life that
// is not positive is a *domain.ValidationError.
func Open(a *Account, token Token, now time.Time, life time.Duration) (*Session, error) {
	var v domain.Validation
	v.Check(life > 0, "life", "must be positive")
	if err := v.Err(); err != nil {
		return nil, err
	}
	at := domain.Time(now)
	s := &Session{state: SessionState{Entity: domain.Entity[SessionID]{ID: token.Session()}}}
	s.raise(SessionOpened{AboutSession{a.ID(), a.state.Generation, at, domain.Time(at.Add(life))}})
	return s, nil
}

// SessionFromState brings back a stored session. The state is trusted.
func SessionFromState(s SessionState) *Session {
	return &Session{root: domain.RootAt(s.Version), state: s}
}

// Revoke ends the session before its time. It is illegal once revoked.
func (s *Session) Revoke(now time.Time) error {
	if !s.state.RevokedAt.IsZero() {
		return &domain.IllegalActError{Aggregate: SessionAggregate, ID: string(s.state.ID), Act: "revoke", State: "revoked"}
	}
	s.raise(SessionRevoked{
		AboutSession: AboutSession{s.state.Account, s.state.Generation, s.state.OpenedAt, s.state.ExpiresAt},
		At:           later(domain.Time(now), s.state.OpenedAt),
	})
	return nil
}

// State returns the present state. Its version counts the pending events too.
func (s *Session) State() SessionState {
	state := s.state
	state.Version = s.root.Version()
	return state
}

// ID returns the identity.
func (s *Session) ID() SessionID { return s.state.ID }

// Version is the number of events so far, pending ones included.
func (s *Session) Version() int64 { return s.root.Version() }

// Stored is the version that storage knows: 0 for a new session.
func (s *Session) Stored() int64 { return s.root.Stored() }

// Pending returns the events raised since the session was last stored.
func (s *Session) Pending() []domain.Event { return s.root.Pending() }

// Settle is for repositories: the pending events are stored, and these are the
// times that the database gave.
func (s *Session) Settle(createdAt, updatedAt time.Time) {
	s.root.Settle()
	s.state.CreatedAt, s.state.UpdatedAt = createdAt, updatedAt
}

func (s *Session) raise(e domain.Event) { s.root.Raise(e, s.apply) }

// apply is the only place where the state changes: for new facts and for old.
func (s *Session) apply(event domain.Event) {
	switch e := event.(type) {
	case SessionOpened:
		s.state.Account, s.state.Generation = e.Account, e.Generation
		s.state.OpenedAt, s.state.ExpiresAt = e.OpenedAt, e.ExpiresAt
	case SessionRevoked:
		s.state.RevokedAt = e.At
	}
}
