package quarantine_test

import (
	"database/sql"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer/quarantine"
	"github.com/millrace-go/millrace/test/harness"
)

// proxied is a database behind a proxy; what the test itself asks goes through
// it too.
func proxied(t *testing.T) (*harness.Database, *harness.Proxy) {
	t.Helper()
	direct := harness.NewDatabase(t)
	u, err := url.Parse(direct.DSN)
	require.NoError(t, err)
	proxy := harness.NewProxy(t, u.Host)
	u.Host = proxy.Addr()
	db, err := sql.Open("postgres", u.String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return &harness.Database{DSN: u.String(), DB: db}, proxy
}

func newStore(t *testing.T, db *harness.Database) *quarantine.Store {
	t.Helper()
	s, err := quarantine.NewStore(db.DB)
	require.NoError(t, err)
	return s
}

func TestStore_ReleaseLetsTheNextOfTheKeyThrough(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	m, s := newMember(t, db, &deadLetterTopic{}, 1, quarantine.Config{}), newStore(t, db)
	m.bad["a1"] = true
	m.live("a", 1)
	m.live("a", 2)
	m.live("a", 3)
	n, err := s.Release(t.Context(), group, topic, quarantine.Place{Partition: part, Offset: 1}, quarantine.Place{Partition: part, Offset: 99})
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	m.replay("a1", 10) // given up: not handled, not published again
	m.replay("a2", 11)
	m.replay("a3", 12)
	m.live("a", 13)
	require.Equal(t, []string{"a2", "a3", "a13"}, m.done())
	n, err = s.Release(t.Context(), group, topic, quarantine.Place{Partition: part, Offset: 1})
	require.NoError(t, err)
	require.Zero(t, n, "it waits no more")
}

func TestStore_ReleaseWhileTheRecordIsHandledSpoilsNothing(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	m, s := newMember(t, db, &deadLetterTopic{}, 1, quarantine.Config{}), newStore(t, db)
	m.bad["a1"] = true
	m.live("a", 1)
	again := m.copyOf("a1", 5)
	m.during = func(string) {
		m.during = nil
		_, err := s.Release(t.Context(), group, topic, quarantine.Place{Partition: part, Offset: 1})
		require.NoError(t, err)
	}
	published := len(m.dead.all)
	require.NoError(t, m.deliver(again))
	require.Len(t, m.dead.all, published, "released while it failed: not published again")
	m.live("a", 6)
	require.Equal(t, []string{"a6"}, m.done())
}

func TestStore_DiscardFreesTheKey(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	m, s := newMember(t, db, &deadLetterTopic{}, 1, quarantine.Config{}), newStore(t, db)
	m.bad["a1"], m.bad["b2"] = true, true
	m.live("a", 1)
	m.live("b", 2)
	m.live("a", 3)
	n, err := s.Discard(t.Context(), group, topic, []byte("a"))
	require.NoError(t, err)
	require.EqualValues(t, 2, n)
	m.live("a", 4)
	m.live("b", 5)
	require.Equal(t, []string{"a4"}, m.done())
	require.Equal(t, []string{"b2", "b5"}, waiting(t, db))
}

func TestStore_CountsByGroupAndTopic(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	m, s := newMember(t, db, &deadLetterTopic{}, 1, quarantine.Config{}), newStore(t, db)
	stats, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.Empty(t, stats)
	m.bad["a1"], m.bad["b2"] = true, true
	m.live("a", 1)
	m.live("b", 2)
	m.live("a", 3)
	stats, err = s.Stats(t.Context())
	require.NoError(t, err)
	require.Len(t, stats, 1)
	require.False(t, stats[0].Oldest.IsZero())
	stats[0].Oldest = stats[0].Oldest.Truncate(1 << 62)
	require.Equal(t, quarantine.Stat{Group: group, Topic: topic, Keys: 2, Entries: 3, Failed: 2, Oldest: stats[0].Oldest}, stats[0])
}

func TestStore_ListsBySelection(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	m, s := newMember(t, db, &deadLetterTopic{}, 1, quarantine.Config{}), newStore(t, db)
	m.bad["a1"], m.bad["b2"] = true, true
	m.live("a", 1)
	m.live("b", 2)
	_, err := s.Discard(t.Context(), group, topic, []byte("b"))
	require.NoError(t, err)
	for _, c := range []struct {
		filter quarantine.Filter
		want   []string
	}{
		{quarantine.Filter{}, []string{"a1"}},
		{quarantine.Filter{Resolved: true}, []string{"a1", "b2"}},
		{quarantine.Filter{Resolved: true, Key: []byte("b")}, []string{"b2"}},
		{quarantine.Filter{Resolved: true, Limit: 1}, []string{"a1"}},
		{quarantine.Filter{Group: "other"}, nil},
		{quarantine.Filter{Topic: "other"}, nil},
		{quarantine.Filter{Partitions: []int32{1, 2}}, nil},
		{quarantine.Filter{Partitions: []int32{1, part}}, []string{"a1"}},
	} {
		entries, err := s.List(t.Context(), c.filter)
		require.NoError(t, err)
		var ids []string
		for _, e := range entries {
			ids = append(ids, e.EventID)
		}
		require.Equal(t, c.want, ids, "%+v", c.filter)
	}
}

func TestStore_KnowsWhetherItIsInstalled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		db   *harness.Database
		want bool
	}{{harness.NewDatabase(t), true}, {harness.EmptyDatabase(t), false}} {
		got, err := newStore(t, c.db).Installed(t.Context())
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
}

func TestClaim_ForgetsWhatWasSettledLongAgo(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	m := newMember(t, db, &deadLetterTopic{}, 1, quarantine.Config{Keep: 1})
	m.bad["a1"], m.bad["b2"] = true, true
	m.live("a", 1)
	m.live("b", 2)
	m.bad["a1"] = false
	m.replay("a1", 3)
	m.claim++
	m.live("c", 4)
	entries, err := newStore(t, db).List(t.Context(), quarantine.Filter{Resolved: true})
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, "b2", entries[0].EventID)
}
