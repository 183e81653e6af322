package app

import (
	"time"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/account"
)

// AccountView is what every node must know of an account to judge its sessions.
type AccountView struct {
	ID           account.ID
	Version      int64
	Email        string
	Generation   int64
	RegisteredAt time.Time
}

// SessionView is what every node must know of a session to judge its token.
type SessionView struct {
	ID         account.SessionID
	Version    int64
	Account    account.ID
	Generation int64
	OpenedAt   time.Time
	ExpiresAt  time.Time
	Revoked    bool
}

// AccountViewOf is the view of a stored account.
func AccountViewOf(s account.State) AccountView {
	return AccountView{s.ID, s.Version, s.Email, s.Generation, s.RegisteredAt}
}

// SessionViewOf is the view of a stored session.
func SessionViewOf(s account.SessionState) SessionView {
	return SessionView{s.ID, s.Version, s.Account, s.Generation, s.OpenedAt, s.ExpiresAt, !s.RevokedAt.IsZero()}
}

// Live reports that the session is good at now for its account.
func (s SessionView) Live(a AccountView, now time.Time) bool {
	return !s.Revoked && s.Account == a.ID && s.Generation >= a.Generation && now.Before(s.ExpiresAt)
}

// ProjectAccount is the view of an account after r. As with ProjectStatus, the
// result with the highest version is right, in whatever order events come. It
// returns false for events that are no account's.
func ProjectAccount(r domain.Recorded) (AccountView, bool) {
	v := AccountView{ID: account.ID(r.AggregateID), Version: r.AggregateVersion}
	var about account.About
	switch e := r.Event.(type) {
	case account.Registered:
		about = e.About
	case account.SessionsRevoked:
		about = e.About
	default:
		return AccountView{}, false
	}
	v.Email, v.Generation, v.RegisteredAt = about.Email, about.Generation, about.RegisteredAt
	return v, true
}

// ProjectSession is the view of a session after r; it returns false for events
// that are no session's.
func ProjectSession(r domain.Recorded) (SessionView, bool) {
	v := SessionView{ID: account.SessionID(r.AggregateID), Version: r.AggregateVersion}
	var about account.AboutSession
	switch e := r.Event.(type) {
	case account.SessionOpened:
		about = e.AboutSession
	case account.SessionRevoked:
		about, v.Revoked = e.AboutSession, true
	default:
		return SessionView{}, false
	}
	v.Account, v.Generation, v.OpenedAt, v.ExpiresAt = about.Account, about.Generation, about.OpenedAt, about.ExpiresAt
	return v, true
}
