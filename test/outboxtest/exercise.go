package outboxtest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
)

// Subject is a log under test with a way to write to it.
type Subject interface {
	outbox.Log
	// Begin starts a transaction on the log.
	Begin(ctx context.Context) (Tx, error)
}

// Tx is a transaction that appends messages.
type Tx interface {
	Append(ctx context.Context, msgs ...outbox.Message) error
	Commit() error
	Rollback() error
}

// Exercise runs the conformance suite. open returns a fresh, empty log.
//
//	func TestStore(t *testing.T) { outboxtest.Exercise(t, func(t *testing.T) outboxtest.Subject { … }) }
func Exercise(t *testing.T, open func(t *testing.T) Subject) {
	for name, test := range map[string]func(t *testing.T, s *suite){
		"an empty log gives an empty batch":                      emptyLog,
		"every field comes back as it was written":               fields,
		"uncommitted and rolled-back messages stay unseen":       visibility,
		"a late commit is delivered and delays nobody":           lateCommit,
		"limits cut a read and lose nothing":                     limits,
		"a new leader goes on from the saved cursor":             takeover,
		"undelivered positions are read again, alone":            undelivered,
		"a lease excludes others until freed or run out":         lease,
		"an old epoch can change nothing":                        fencing,
		"parked messages survive, and their keys are known":      parking,
		"relays of different names are independent":              names,
		"instances of fleets find each other in the member list": membership,
		"random transactions are delivered once, in order":       random,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, &suite{t: t, Subject: open(t)})
		})
	}
}

// ttl of the suite's leases: longer than any test but the one that waits for it.
const ttl = time.Minute

// suite holds the steps that the tests are written in.
type suite struct {
	t *testing.T
	Subject
}

func (s *suite) begin() Tx {
	s.t.Helper()
	tx, err := s.Begin(s.t.Context())
	require.NoError(s.t, err)
	return tx
}

// write commits one transaction.
func (s *suite) write(msgs ...outbox.Message) {
	s.t.Helper()
	tx := s.begin()
	require.NoError(s.t, tx.Append(s.t.Context(), msgs...))
	require.NoError(s.t, tx.Commit())
}

// lead acquires the lease, to be released at the end of the test at the latest.
func (s *suite) lead(relay, owner string) outbox.Session {
	s.t.Helper()
	session, err := s.Acquire(s.t.Context(), relay, owner, ttl)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = session.Release(context.Background()) })
	return session
}

// read reads until nothing is left and returns the payloads and last cursor.
func (s *suite) read(from outbox.Session) (payloads []string, c outbox.Cursor) {
	s.t.Helper()
	for empty := 0; empty < 3; { // a gap may take a read more to close
		b, err := from.Read(s.t.Context(), 100, 1<<20)
		require.NoError(s.t, err)
		for _, e := range b.Entries {
			payloads = append(payloads, string(e.Payload))
		}
		if c = b.Cursor; len(b.Entries) == 0 {
			empty++
		}
	}
	return payloads, c
}

// message is a valid message of key with a payload.
func message(key, payload string) outbox.Message {
	return outbox.Message{ID: uuid.New(), Topic: "t.v1", Key: key, Payload: []byte(payload)}
}

func messages(key string, n int) []outbox.Message {
	msgs := make([]outbox.Message, n)
	for i := range msgs {
		msgs[i] = message(key, fmt.Sprintf("%s%d", key, i))
	}
	return msgs
}
