package account

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
)

// ErrInvalidToken means that a token opens nothing: it is none, or its session is
// unknown, expired or revoked. Which of these, the caller is not told.
var ErrInvalidToken = errors.New("token is not valid")

// SessionID is the SHA-256 of the session's token in 64 hex digits. It is the
// only form of the token that is stored or logged, and leads to no token.
type SessionID string

// Token proves a session to the service: 256 random bits in 43 characters of
// base64url. The bearer acts as the account; so it prints as "[token]", and only
// Reveal shows it.
type Token struct{ text string }

var tokenText = base64.RawURLEncoding.Strict()

const (
	tokenBytes  = 32
	tokenLength = 43
)

// NewToken draws a token.
func NewToken() Token {
	var b [tokenBytes]byte
	_, _ = rand.Read(b[:]) // never fails: the runtime ends the process instead
	return Token{tokenText.EncodeToString(b[:])}
}

// ParseToken returns the token that text spells, or ErrInvalidToken. It looks
// at the form alone.
func ParseToken(text string) (Token, error) {
	if len(text) != tokenLength {
		return Token{}, ErrInvalidToken
	}
	b, err := tokenText.DecodeString(text)
	if err != nil || len(b) != tokenBytes { // the decoder passes over line ends
		return Token{}, ErrInvalidToken
	}
	return Token{text}, nil
}

// Session is the identity of the session that the token opens.
func (t Token) Session() SessionID {
	sum := sha256.Sum256([]byte(t.text))
	return SessionID(hex.EncodeToString(sum[:]))
}

// Reveal returns the token itself, for the answer to its owner.
func (t Token) Reveal() string { return t.text }

// String hides the token.
func (Token) String() string { return "[token]" }

// GoString hides the token.
func (Token) GoString() string { return "[token]" }
