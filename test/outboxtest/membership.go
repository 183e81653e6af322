package outboxtest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
)

// membership tests a log as an outbox.Membership, if it is one.
func membership(t *testing.T, s *suite) {
	r, ok := s.Subject.(outbox.Membership)
	if !ok {
		return
	}
	announce := func(relay, id string, leads int, ttl time.Duration) outbox.Members {
		members, err := r.Announce(t.Context(), relay, outbox.Member{ID: id, Leads: leads}, ttl)
		require.NoError(t, err)
		return members
	}
	require.Equal(t, outbox.Members{}, announce("r", "a", 0, ttl), "nobody is there, and the lease is free")
	require.Equal(t, []outbox.Member{{ID: "a", Leads: 0}}, announce("r", "b", 2, ttl).Others)
	require.Equal(t, []outbox.Member{{ID: "b", Leads: 2}}, announce("r", "a", 1, ttl).Others)
	require.Equal(t, []outbox.Member{{ID: "a", Leads: 1}}, announce("r", "b", 0, ttl).Others, "the latest word counts")
	require.Empty(t, announce("other", "c", 0, ttl).Others, "each relay has its own")

	session := s.lead("r", "a/x")
	members := announce("r", "b", 0, ttl)
	require.Equal(t, "a/x", members.Owner)
	require.Positive(t, members.Left)
	require.LessOrEqual(t, members.Left, ttl)

	require.NoError(t, r.Leave(t.Context(), "r", "a"))
	require.Empty(t, announce("r", "b", 0, ttl).Others)
	present, ok := session.(outbox.MemberSession)
	require.True(t, ok, "the sessions of a Membership renew and announce in one")
	members, err := present.RenewMember(t.Context(), ttl, outbox.Member{ID: "a", Leads: 3})
	require.NoError(t, err)
	require.Equal(t, "a/x", members.Owner)
	require.Equal(t, []outbox.Member{{ID: "b", Leads: 0}}, members.Others)
	require.Equal(t, []outbox.Member{{ID: "a", Leads: 3}}, announce("r", "b", 0, 50*time.Millisecond).Others)
	require.Eventually(t, func() bool { return len(announce("r", "a", 3, ttl).Others) == 0 }, 2*time.Minute, 10*time.Millisecond,
		"an entry that is not renewed runs out")
	require.NoError(t, r.NotifyStandbys(t.Context(), "r"))

	fresh := s.lead("r", "a/x")
	require.NoError(t, r.Leave(t.Context(), "r", "a"))
	_, err = present.RenewMember(t.Context(), ttl, outbox.Member{ID: "a"})
	require.ErrorIs(t, err, outbox.ErrLeaseLost, "an old epoch renews nothing")
	require.Empty(t, announce("r", "b", 0, ttl).Others, "and announces nobody")
	require.NoError(t, fresh.Release(t.Context()))
	require.Empty(t, announce("r", "b", 0, ttl).Owner, "a freed lease has no owner")
}
