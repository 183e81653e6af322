package quarantine_test

import (
	"database/sql"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
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

// newTool is the quarantine as a tool has it, which handles no messages.
func newTool(t *testing.T, db *harness.Database) *quarantine.Quarantine {
	t.Helper()
	q, err := quarantine.New(db.DB, quarantine.Config{})
	require.NoError(t, err)
	return q
}

// at selects the record that was first consumed at offset.
func at(offset int64) quarantine.Filter {
	return quarantine.Filter{Group: group, Topic: topic, Partitions: []int32{part}, Offsets: []int64{offset}}
}

func TestRelease_LetsTheNextOfTheKeyThrough(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	m, s := newMember(t, db, &deadLetterTopic{}, 1, quarantine.Config{}), newTool(t, db)
	m.bad["a1"] = true
	m.live("a", 1)
	m.live("a", 2)
	m.live("a", 3)
	n, err := s.Release(t.Context(), quarantine.Filter{Group: group, Topic: topic, Partitions: []int32{part}, Offsets: []int64{1, 99}})
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	m.replay("a1", 10) // given up: not handled, not published again
	m.replay("a2", 11)
	m.replay("a3", 12)
	m.live("a", 13)
	require.Equal(t, []string{"a2", "a3", "a13"}, m.done())
	n, err = s.Release(t.Context(), at(1))
	require.NoError(t, err)
	require.Zero(t, n, "it waits no more")
}

func TestRelease_WhileTheRecordIsHandledSpoilsNothing(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	m, s := newMember(t, db, &deadLetterTopic{}, 1, quarantine.Config{}), newTool(t, db)
	m.bad["a1"] = true
	m.live("a", 1)
	again := m.copyOf("a1", 5)
	m.during = func(string) {
		m.during = nil
		_, err := s.Release(t.Context(), at(1))
		require.NoError(t, err)
	}
	published := len(m.dead.all)
	require.NoError(t, m.deliver(again))
	require.Len(t, m.dead.all, published, "released while it failed: not published again")
	m.live("a", 6)
	require.Equal(t, []string{"a6"}, m.done())
}

func TestRelease_OfAKeyFreesIt(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	m, s := newMember(t, db, &deadLetterTopic{}, 1, quarantine.Config{}), newTool(t, db)
	m.bad["a1"], m.bad["b2"] = true, true
	m.live("a", 1)
	m.live("b", 2)
	m.live("a", 3)
	n, err := s.Release(t.Context(), quarantine.Filter{Group: group, Topic: topic, Key: []byte("a")})
	require.NoError(t, err)
	require.EqualValues(t, 2, n)
	m.live("a", 4)
	m.live("b", 5)
	require.Equal(t, []string{"a4"}, m.done())
	require.Equal(t, []string{"b2", "b5"}, waiting(t, db))
}

func TestRelease_RefusesToReleaseEverything(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	m, s := newMember(t, db, &deadLetterTopic{}, 1, quarantine.Config{}), newTool(t, db)
	m.fail("a", 1)
	_, err := s.Release(t.Context(), quarantine.Filter{})
	require.ErrorContains(t, err, "Group: must be set")
	require.ErrorContains(t, err, "Topic: must be set")
	require.Equal(t, []string{"a1"}, waiting(t, db))
}

func TestList_SelectsByEachField(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	m, s := newMember(t, db, &deadLetterTopic{}, 1, quarantine.Config{}), newTool(t, db)
	m.bad["a1"], m.bad["b2"] = true, true
	m.live("a", 1)
	m.live("b", 2)
	_, err := s.Release(t.Context(), quarantine.Filter{Group: group, Topic: topic, Key: []byte("b")})
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
		{quarantine.Filter{Resolved: true, Offsets: []int64{2, 3}}, []string{"b2"}},
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

func TestResolve_ReleasesWhatNobodyWillReplay(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	m, s := newMember(t, db, &deadLetterTopic{}, 1, quarantine.Config{}), newTool(t, db)
	m.fail("a", 1)
	m.live("a", 2)
	m.fail("b", 3)
	deadLetter := func(topic string, offset int64) deadletter.Message {
		return deadletter.Message{Group: group, OriginalTopic: topic, OriginalPartition: part, OriginalOffset: offset}
	}
	require.NoError(t, s.Resolve(t.Context(), []deadletter.Message{deadLetter(topic, 1), deadLetter("other", 3), deadLetter(topic, -1)}))
	require.Equal(t, []string{"a2", "b3"}, waiting(t, db))
}

func TestResolve_WithoutTheTablesNothingWaits(t *testing.T) {
	t.Parallel()
	resolved := []deadletter.Message{{Group: group, OriginalTopic: topic, OriginalPartition: part, OriginalOffset: 1}}
	require.NoError(t, newTool(t, harness.EmptyDatabase(t)).Resolve(t.Context(), resolved))
}

func TestClaim_ForgetsWhatWasResolvedLongAgo(t *testing.T) {
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
	entries, err := newTool(t, db).List(t.Context(), quarantine.Filter{Resolved: true})
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, "b2", entries[0].EventID)
}
