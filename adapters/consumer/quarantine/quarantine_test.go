package quarantine_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/consumer/quarantine"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
	"github.com/millrace-go/millrace/test/harness"
)

func TestQuarantine_FollowersOfADeadLetterWaitAndOtherKeysFlow(t *testing.T) {
	t.Parallel()
	m, db := alone(t)
	m.fail("a", 1)
	m.live("b", 2)
	m.live("a", 3)
	m.live("b", 4)
	m.live("a", 5)
	require.Equal(t, []string{"b2", "b4"}, m.done())
	require.Equal(t, []string{"a1", "a3", "a5"}, waiting(t, db))
	require.Equal(t, string(deadletter.DispositionFatal), header(m.dead.of("a1"), deadletter.HeaderDisposition))
	follower := m.dead.of("a5")
	require.Equal(t, string(deadletter.DispositionQuarantined), header(follower, deadletter.HeaderDisposition))
	require.Equal(t, "0", header(follower, deadletter.HeaderAttempts))
	require.Equal(t, "quarantined: its key waits for notification.v1/3/1", header(follower, deadletter.HeaderExceptionMessage))
}

func TestQuarantine_ReplayHandlesAKeyInItsOrder(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	var freed []string
	m := newMember(t, db, &deadLetterTopic{}, 1, quarantine.Config{Hooks: quarantine.Hooks{Done: func(e quarantine.Entry, last bool) {
		if last {
			freed = append(freed, e.EventID)
		}
	}}})
	m.bad["a1"] = true
	for offset := range int64(4) {
		m.live("a", offset+1)
	}
	m.bad["a1"] = false
	m.replay("a3", 10) // before its turn
	require.Empty(t, m.done())
	m.replay("a1", 11)
	m.replay("a2", 12)
	m.live("a", 13) // while a3 and a4 still wait
	m.replay("a3", 14)
	m.replay("a4", 15)
	require.Equal(t, []string{"a1", "a2", "a3", "a4"}, m.done())
	require.Empty(t, freed)
	m.live("a", 16)
	m.replay("a13", 17)
	m.replay("a16", 18)
	require.Equal(t, []string{"a16"}, freed)
	m.live("a", 19)
	require.Equal(t, []string{"a1", "a2", "a3", "a4", "a13", "a16", "a19"}, m.done())
	require.Empty(t, waiting(t, db))
}

func TestQuarantine_ReplayThatFailsAgainStaysFirst(t *testing.T) {
	t.Parallel()
	m, db := alone(t)
	m.fail("a", 1)
	m.live("a", 2)
	m.replay("a1", 3)
	m.replay("a2", 4)
	require.Empty(t, m.done())
	require.Equal(t, []string{"a1", "a2"}, waiting(t, db))
	require.Equal(t, "1", header(m.dead.of("a1"), deadletter.HeaderReplayCount))
	require.Equal(t, "0", header(m.dead.of("a2"), deadletter.HeaderReplayCount), "a replay that did not reach the handler does not count")
	entries, err := newTool(t, db).List(t.Context(), quarantine.Filter{})
	require.NoError(t, err)
	require.Equal(t, 2, entries[0].Failures)
	require.Zero(t, entries[1].Failures)
	require.True(t, entries[0].First)
	require.False(t, entries[1].First)
}

func TestQuarantine_SecondCopyOfADeadLetterIsSkipped(t *testing.T) {
	t.Parallel()
	m, _ := alone(t)
	m.fail("a", 1)
	m.live("a", 2)
	m.bad["a1"] = false
	dead := len(m.dead.all)
	for at := int64(10); at < 14; at += 2 {
		m.replay("a1", at)
		m.replay("a2", at+1)
	}
	require.Equal(t, []string{"a1", "a2"}, m.done())
	require.Len(t, m.dead.all, dead, "a copy is acknowledged, not published again")
}

func TestQuarantine_SurvivesARestart(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	shared := &deadLetterTopic{}
	first := newMember(t, db, shared, 1, quarantine.Config{})
	first.fail("a", 1)
	second := newMember(t, db, shared, 1, quarantine.Config{})
	second.live("a", 2)
	second.live("b", 3)
	require.Equal(t, []string{"b3"}, second.done())
	require.Equal(t, []string{"a1", "a2"}, waiting(t, db))
}

func TestQuarantine_MemberThatGetsAPartitionBackLearnsWhatOthersDid(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	shared := &deadLetterTopic{}
	first, second := newMember(t, db, shared, 1, quarantine.Config{}), newMember(t, db, shared, 1, quarantine.Config{})
	first.live("a", 1)
	second.fail("a", 2)
	first.claim = 2
	first.live("a", 3)
	require.Equal(t, []string{"a1"}, first.done())
	require.Equal(t, []string{"a2", "a3"}, waiting(t, db))
}

func TestQuarantine_FormerOwnerEntersNothing(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	shared := &deadLetterTopic{}
	former, owner := newMember(t, db, shared, 1, quarantine.Config{}), newMember(t, db, shared, 1, quarantine.Config{})
	former.bad["a1"] = true
	former.during = func(string) {
		former.during = nil
		owner.live("b", 0) // the partition has moved
		owner.live("a", 1)
	}
	require.ErrorIs(t, former.deliver(newRecord("a", 1)), consumer.ErrUnfinished)
	require.Empty(t, waiting(t, db), "nothing would ever free it")
	require.Empty(t, shared.all)
	owner.live("a", 2)
	require.Equal(t, []string{"b0", "a1", "a2"}, owner.done())
	require.NoError(t, former.deliver(newRecord("c", 3)), "an owner after all claims the partition again")
}

func TestQuarantine_DeliveryOfAnOlderClaimIsLeft(t *testing.T) {
	t.Parallel()
	m := newMember(t, harness.NewDatabase(t), &deadLetterTopic{}, 2, quarantine.Config{})
	m.live("a", 1)
	m.claim = 1
	require.ErrorIs(t, m.deliver(newRecord("a", 2)), consumer.ErrUnfinished)
	require.Equal(t, []string{"a1"}, m.done())
}

func TestQuarantine_EntersBeforeTheDeadLetterIsAcknowledged(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	shared := &deadLetterTopic{refuse: errBad}
	first := newMember(t, db, shared, 1, quarantine.Config{})
	first.bad["a1"] = true
	finished := make(chan error, 1)
	go func() { finished <- first.deliver(newRecord("a", 1)) }()
	require.Eventually(t, func() bool { return len(waiting(t, db)) == 1 }, 2*time.Minute, time.Millisecond)
	first.end() // a crash, as far as the next owner can tell
	require.ErrorIs(t, <-finished, consumer.ErrUnfinished)

	shared.refuse = nil
	second := newMember(t, db, shared, 1, quarantine.Config{})
	second.live("a", 1) // delivered again, the first of its key: it may
	second.live("a", 2)
	require.Equal(t, []string{"a1", "a2"}, second.done())
	require.Empty(t, waiting(t, db))
}

func TestQuarantine_EarlierRecordThanAllThatWaitPasses(t *testing.T) {
	t.Parallel()
	m, db := alone(t)
	m.fail("a", 5)
	m.live("a", 4) // delivered again after a crash
	require.Equal(t, []string{"a4"}, m.done())
	m.fail("a", 3)
	m.live("a", 4)
	require.Equal(t, []string{"a3", "a4", "a5"}, waiting(t, db))
}

func TestQuarantine_AsksNothingOfADatabaseThatIsAwayWhileNothingWaits(t *testing.T) {
	t.Parallel()
	cfg := quarantine.Config{RetryWait: time.Millisecond, Timeout: time.Second}
	troubled := make(chan struct{}, 1000)
	cfg.Hooks.Error = func(error, time.Duration) { troubled <- struct{}{} }
	db, proxy := proxied(t)
	m := newMember(t, db, &deadLetterTopic{}, 1, cfg)
	m.live("a", 1)
	proxy.Cut()
	m.live("a", 2)
	m.bad["b3"] = true
	finished := make(chan error, 1)
	go func() { finished <- m.deliver(newRecord("b", 3)) }()
	<-troubled
	require.Empty(t, m.dead.of("b3"), "no dead letter without its entry")
	require.NoError(t, proxy.Heal())
	require.NoError(t, <-finished)
	require.NotNil(t, m.dead.of("b3"))
	require.Equal(t, []string{"a1", "a2"}, m.done())
	require.Equal(t, []string{"b3"}, waiting(t, db))
}

func TestQuarantine_LeavesDeliveriesWhoseContextEnds(t *testing.T) {
	t.Parallel()
	db, proxy := proxied(t)
	proxy.Cut()
	m := newMember(t, db, &deadLetterTopic{}, 1, quarantine.Config{RetryWait: time.Millisecond})
	time.AfterFunc(50*time.Millisecond, m.end)
	require.ErrorIs(t, m.deliver(newRecord("a", 1)), consumer.ErrUnfinished)
	require.Empty(t, m.done())
}

func TestQuarantine_FailureUnderAnEndedContextEntersNothing(t *testing.T) {
	t.Parallel()
	m, db := alone(t)
	m.bad["a1"] = true
	m.during = func(string) { m.end() }
	require.ErrorIs(t, m.deliver(newRecord("a", 1)), consumer.ErrUnfinished)
	require.Empty(t, waiting(t, db))
}

func TestQuarantine_PassesWhatHasNoOrder(t *testing.T) {
	t.Parallel()
	m, db := alone(t)
	noKey := newRecord("", 1)
	noKey.Key = nil
	m.bad["1"] = true
	require.NoError(t, m.deliver(noKey))
	require.Empty(t, waiting(t, db))
	noRecord := message.NewMessage("x", nil)
	_, err := m.q.Middleware()(func(*message.Message) ([]*message.Message, error) { return nil, errBad })(noRecord)
	require.ErrorIs(t, err, errBad)
}

func TestQuarantine_AsksForEachRecordOfASubscriberThatTellsNoClaim(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	shared := &deadLetterTopic{}
	first, second := newMember(t, db, shared, 0, quarantine.Config{}), newMember(t, db, shared, 0, quarantine.Config{})
	first.live("a", 1)
	second.fail("a", 2)
	require.ErrorIs(t, first.deliver(newRecord("a", 3)), consumer.ErrUnfinished, "the partition is claimed again first")
	first.live("a", 3)
	require.Equal(t, []string{"a1"}, first.done())
}

func TestQuarantine_TellsTopicsOfOneNameApartByTheEventID(t *testing.T) {
	t.Parallel()
	m, db := alone(t)
	m.fail("a", 1)
	m.bad["a1"] = false
	m.replay("a1", 2)
	again := newRecord("a", 1) // the topic was made again
	again.Headers = []record.Header{text(outbox.HeaderEventID, "other")}
	m.bad["other"] = true
	require.NoError(t, m.deliver(again))
	require.NotNil(t, m.dead.of("other"))
	require.Equal(t, []string{"a1"}, waiting(t, db))
}

func TestQuarantine_TakesAnyBytesAsKeyAndID(t *testing.T) {
	t.Parallel()
	m, db := alone(t)
	key := string(make([]byte, 10_000)) + "\xff"
	for offset, id := range []string{"\x00", "\xff\xfe", string(make([]byte, 1000))} {
		rec := newRecord(key, int64(offset))
		rec.Headers = []record.Header{text(outbox.HeaderEventID, id)}
		m.bad[id] = true
		require.NoError(t, m.deliver(rec))
	}
	require.Len(t, waiting(t, db), 3)
}

func TestNew_NamesEveryWrongField(t *testing.T) {
	t.Parallel()
	_, err := quarantine.New(nil, quarantine.Config{Timeout: -1, RetryWait: -1, MaxRetryWait: -1, Keep: -2})
	for _, want := range []string{"db: must not be nil", "Timeout: must be", "RetryWait: must be", "MaxRetryWait: must be", "Keep: must be"} {
		require.ErrorContains(t, err, want)
	}
}
