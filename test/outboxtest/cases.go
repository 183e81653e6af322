package outboxtest

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
)

func emptyLog(t *testing.T, s *suite) {
	b, err := s.lead("r", "a").Read(t.Context(), 10, 1<<20)
	require.NoError(t, err)
	require.Empty(t, b.Entries)
	require.False(t, b.More)
	require.Equal(t, outbox.Cursor{}, b.Cursor)
}

func fields(t *testing.T, s *suite) {
	full := outbox.Message{
		ID: uuid.New(), Topic: "a.b_c-1", Key: "schlüssel, \"quoted\" \\ {}", Type: "thing.happened",
		AggregateType: "thing", AggregateID: "NULL", AggregateVersion: 1 << 40,
		Headers: map[string]string{"traceparent": "00-x", "späť": `"a\b"`, "empty": ""}, Payload: []byte{0, 1, 0xff, '\\', '"'},
	}
	tombstone := outbox.Message{ID: uuid.New(), Topic: "t", Key: "k"}
	empty := outbox.Message{ID: uuid.New(), Topic: "t", Key: "k", Payload: []byte{}}
	s.write(full, tombstone, empty)
	b, err := s.lead("r", "a").Read(t.Context(), 10, 1<<20)
	require.NoError(t, err)
	require.Len(t, b.Entries, 3)
	require.Equal(t, full, b.Entries[0].Message)
	require.Nil(t, b.Entries[1].Payload, "a null payload is a tombstone")
	require.Equal(t, tombstone, b.Entries[1].Message)
	require.NotNil(t, b.Entries[2].Payload, "an empty payload is none")
	require.Empty(t, b.Entries[2].Payload)
	require.WithinDuration(t, time.Now(), b.Entries[0].CreatedAt, time.Minute)
	require.Less(t, b.Entries[0].Position, b.Entries[1].Position)
}

func visibility(t *testing.T, s *suite) {
	session := s.lead("r", "a")
	open, dead := s.begin(), s.begin()
	require.NoError(t, open.Append(t.Context(), message("k", "open")))
	require.NoError(t, dead.Append(t.Context(), message("l", "dead")))
	require.NoError(t, dead.Rollback())
	got, _ := s.read(session)
	require.Empty(t, got)
	require.NoError(t, open.Commit())
	got, _ = s.read(session)
	require.Equal(t, []string{"open"}, got)
}

func lateCommit(t *testing.T, s *suite) {
	session := s.lead("r", "a")
	long := s.begin()
	require.NoError(t, long.Append(t.Context(), message("slow", "late")))
	s.write(message("fast", "1"), message("fast", "2"))
	got, c := s.read(session)
	require.Equal(t, []string{"1", "2"}, got, "nobody waits for the long transaction")
	require.Equal(t, int64(1), c.Missing(), "its place is kept")
	require.NoError(t, long.Commit())
	got, c = s.read(session)
	require.Equal(t, []string{"late"}, got)
	require.Zero(t, c.Missing())
}

func limits(t *testing.T, s *suite) {
	s.write(messages("k", 10)...)
	session := s.lead("r", "a")
	b, err := session.Read(t.Context(), 4, 1<<20)
	require.NoError(t, err)
	require.Len(t, b.Entries, 4)
	require.True(t, b.More)
	b, err = session.Read(t.Context(), 100, 4) // two payloads of two bytes
	require.NoError(t, err)
	require.Len(t, b.Entries, 2)
	require.True(t, b.More)
	s.write(message("k", strings.Repeat("x", 1000)))
	b, err = session.Read(t.Context(), 100, 1)
	require.NoError(t, err)
	require.Len(t, b.Entries, 1, "one entry at least")
	rest, c := s.read(session)
	require.Equal(t, []string{"k7", "k8", "k9", strings.Repeat("x", 1000)}, rest)
	require.Zero(t, c.Missing())
}

func takeover(t *testing.T, s *suite) {
	s.write(messages("k", 6)...)
	first := s.lead("r", "a")
	b, err := first.Read(t.Context(), 3, 1<<20)
	require.NoError(t, err)
	require.NoError(t, first.Save(t.Context(), outbox.Checkpoint{Cursor: b.Cursor}))
	_, err = first.Read(t.Context(), 2, 1<<20) // read, and never saved
	require.NoError(t, err)
	require.NoError(t, first.Release(t.Context()))

	second := s.lead("r", "b")
	require.Greater(t, second.Epoch(), first.Epoch())
	got, c := s.read(second)
	require.Equal(t, []string{"k3", "k4", "k5"}, got)
	require.NoError(t, second.Save(t.Context(), outbox.Checkpoint{Cursor: c}))
	require.NoError(t, second.Release(t.Context()))
	got, _ = s.read(s.lead("r", "a"))
	require.Empty(t, got)
}

func undelivered(t *testing.T, s *suite) {
	s.write(messages("k", 6)...)
	first := s.lead("r", "a")
	b, err := first.Read(t.Context(), 10, 1<<20)
	require.NoError(t, err)
	c := b.Cursor.Without([]int64{b.Entries[1].Position, b.Entries[4].Position})
	require.NoError(t, first.Save(t.Context(), outbox.Checkpoint{Cursor: c}))
	require.NoError(t, first.Release(t.Context()))
	s.write(message("l", "new"))
	got, c := s.read(s.lead("r", "b"))
	require.Equal(t, []string{"k1", "k4", "new"}, got)
	require.Zero(t, c.Missing())
}

func lease(t *testing.T, s *suite) {
	first := s.lead("r", "a")
	_, err := s.Acquire(t.Context(), "r", "b", ttl)
	require.ErrorIs(t, err, outbox.ErrLeaseHeld)
	again, err := s.Acquire(t.Context(), "r", "a", ttl)
	require.NoError(t, err, "the owner may take its own lease again")
	require.Greater(t, again.Epoch(), first.Epoch())
	require.NoError(t, again.Renew(t.Context(), ttl))
	require.NoError(t, again.Release(t.Context()))

	short, err := s.Acquire(t.Context(), "r", "b", 50*time.Millisecond)
	require.NoError(t, err, "a freed lease is free at once")
	defer short.Release(t.Context())
	require.Eventually(t, func() bool {
		next, err := s.Acquire(t.Context(), "r", "c", ttl)
		if err != nil {
			require.ErrorIs(t, err, outbox.ErrLeaseHeld)
			return false
		}
		return next.Release(t.Context()) == nil
	}, 2*time.Minute, 10*time.Millisecond, "a lease that ran out is free")
}

func fencing(t *testing.T, s *suite) {
	s.write(messages("k", 3)...)
	old := s.lead("r", "a")
	b, err := old.Read(t.Context(), 10, 1<<20)
	require.NoError(t, err)
	fresh := s.lead("r", "a")
	cp := outbox.Checkpoint{Cursor: b.Cursor, Parked: []outbox.Parked{{Position: b.Entries[0].Position, ParkedKey: outbox.ParkedKey{Topic: "t.v1", Key: "k"}, Reason: "zombie"}}}
	require.ErrorIs(t, old.Save(t.Context(), cp), outbox.ErrLeaseLost)
	require.ErrorIs(t, old.Save(t.Context(), outbox.Checkpoint{Cursor: b.Cursor}), outbox.ErrLeaseLost)
	require.ErrorIs(t, old.Renew(t.Context(), ttl), outbox.ErrLeaseLost)
	require.NoError(t, old.Release(t.Context()), "releasing a lost lease frees nothing and is no error")
	require.NoError(t, fresh.Renew(t.Context(), ttl))
	got, _ := s.read(fresh)
	require.Equal(t, []string{"k0", "k1", "k2"}, got, "the zombie's cursor did not count")
	require.NoError(t, fresh.Release(t.Context()))
	require.Empty(t, s.lead("r", "b").Parked(), "nor did what it parked")
}

func parking(t *testing.T, s *suite) {
	s.write(messages("k", 2)...)
	first := s.lead("r", "a")
	require.Empty(t, first.Parked())
	b, err := first.Read(t.Context(), 10, 1<<20)
	require.NoError(t, err)
	key := outbox.ParkedKey{Topic: "t.v1", Key: "k"}
	cp := outbox.Checkpoint{Cursor: b.Cursor, Parked: []outbox.Parked{
		{Position: b.Entries[0].Position, ParkedKey: key, Reason: "too large\x00\xff"},
		{Position: b.Entries[1].Position, ParkedKey: key, Reason: outbox.ReasonBehind},
	}}
	require.NoError(t, first.Save(t.Context(), cp))
	require.NoError(t, first.Save(t.Context(), cp), "parking again is no error")
	require.NoError(t, first.Release(t.Context()))
	second := s.lead("r", "b")
	require.Equal(t, []outbox.ParkedKey{key}, second.Parked())
	got, _ := s.read(second)
	require.Empty(t, got, "parked messages count as delivered")
}

func names(t *testing.T, s *suite) {
	s.write(messages("k", 2)...)
	a, b := s.lead("one", "x"), s.lead("two", "y")
	got, c := s.read(a)
	require.Len(t, got, 2)
	require.NoError(t, a.Save(t.Context(), outbox.Checkpoint{Cursor: c}))
	got, _ = s.read(b)
	require.Len(t, got, 2)
}
