package account

import "time"

// About is in every event of an account, so that the event with the highest
// version is the whole truth about it, but for the password.
type About struct {
	Email string
	// Generation is that of the sessions opened from now on.
	Generation   int64
	RegisteredAt time.Time
}

// Registered is the first event of every account.
type Registered struct{ About }

// SessionsRevoked means that all sessions of earlier generations are over.
type SessionsRevoked struct {
	About
	At time.Time
}

// AboutSession is in every event of a session.
type AboutSession struct {
	Account    ID
	Generation int64
	OpenedAt   time.Time
	ExpiresAt  time.Time
}

// SessionOpened is the first event of every session.
type SessionOpened struct{ AboutSession }

// SessionRevoked means that the session ended before its time.
type SessionRevoked struct {
	AboutSession
	At time.Time
}

// EventName returns "Registered".
func (Registered) EventName() string { return "Registered" }

// EventName returns "SessionsRevoked".
func (SessionsRevoked) EventName() string { return "SessionsRevoked" }

// EventName returns "Opened".
func (SessionOpened) EventName() string { return "Opened" }

// EventName returns "Revoked".
func (SessionRevoked) EventName() string { return "Revoked" }

// OccurredAt is the time of the registration.
func (e Registered) OccurredAt() time.Time { return e.RegisteredAt }

// OccurredAt is when the new generation began.
func (e SessionsRevoked) OccurredAt() time.Time { return e.At }

// OccurredAt is the time of the login.
func (e SessionOpened) OccurredAt() time.Time { return e.OpenedAt }

// OccurredAt is the time of the logout.
func (e SessionRevoked) OccurredAt() time.Time { return e.At }
