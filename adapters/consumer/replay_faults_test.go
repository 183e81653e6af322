package consumer_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter/audit"
	"github.com/millrace-go/millrace/adapters/consumer/inbox"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox/record"
	"github.com/millrace-go/millrace/test/harness"
)

// ledgered is a group whose handler writes a row for each message, through an
// inbox, and fails while down is set.
type ledgered struct {
	*pipe
	db    *sql.DB
	group string
	cause error // of failures, set before anything is sent
	down  atomic.Bool
	dead  atomic.Int64
}

func newLedgered(t *testing.T, partitions int) *ledgered {
	l := &ledgered{pipe: newPipe(t, partitions), db: harness.NewDatabase(t).DB, group: harness.Group(t), cause: errDown}
	l.createDeadLetters(partitions)
	_, err := l.db.Exec(`CREATE TABLE effect (n bigserial, key text, value text)`)
	require.NoError(t, err)
	box, err := inbox.New(l.db, l.group, inbox.Config{})
	require.NoError(t, err)
	r := newRouter(t, l.pub, consumer.Config{Retry: consumer.FixedBackOff(time.Millisecond, 1),
		Hooks: consumer.Hooks{Delivered: func(d consumer.Delivery) {
			if d.Outcome == consumer.OutcomeDeadLettered {
				l.dead.Add(1)
			}
		}},
	})
	r.Handle("h", l.topic, l.subscriber(l.group), box.Handler(func(ctx context.Context, tx *sql.Tx, m *message.Message) error {
		if l.down.Load() {
			return l.cause
		}
		rec, _ := record.From(m.Context())
		_, err := tx.ExecContext(ctx, `INSERT INTO effect (key, value) VALUES ($1, $2)`, string(rec.Key), string(m.Payload))
		return err
	}), consumer.WithGroup(l.group))
	start(t, r)
	return l
}

// send produces values of n messages over keys, named by prefix and number.
func (l *ledgered) send(prefix string, n, keys int) {
	var recs []*kgo.Record
	for i := range n {
		recs = append(recs, &kgo.Record{
			Key: fmt.Appendf(nil, "k%d", i%keys), Value: fmt.Appendf(nil, "%s%05d", prefix, i),
			Headers: []kgo.RecordHeader{{Key: "event-id", Value: fmt.Appendf(nil, "%s-%s-%d", l.topic, prefix, i)}},
		})
	}
	l.produce(recs...)
}

// await returns the effects of each key, in their order, once they are n.
func (l *ledgered) await(n int) map[string][]string {
	l.t.Helper()
	require.Eventually(l.t, func() bool {
		var have int
		require.NoError(l.t, l.db.QueryRow(`SELECT count(*) FROM effect`).Scan(&have))
		require.LessOrEqual(l.t, have, n, "an effect was made twice")
		return have == n
	}, liveness, 20*time.Millisecond)
	rows, err := l.db.Query(`SELECT key, value FROM effect ORDER BY n`)
	require.NoError(l.t, err)
	defer rows.Close()
	byKey := map[string][]string{}
	for rows.Next() {
		var key, value string
		require.NoError(l.t, rows.Scan(&key, &value))
		byKey[key] = append(byKey[key], value)
	}
	require.NoError(l.t, rows.Err())
	return byKey
}

// caughtUp waits until the group has handled everything on the topic.
func (l *ledgered) caughtUp() {
	l.t.Helper()
	admin, err := kafka.NewAdmin(l.config)
	require.NoError(l.t, err)
	defer admin.Close()
	require.Eventually(l.t, func() bool {
		lag, err := admin.Lag(l.t.Context(), l.group, l.topic)
		if err != nil {
			return false
		}
		behind := int64(0)
		for _, p := range lag {
			behind += p.Messages
		}
		return behind == 0
	}, liveness, 50*time.Millisecond)
}

// replay returns a function that replays the dead letters with a reader of its own.
func (l *ledgered) replay(t *testing.T) func(deadletter.Config) (deadletter.Result, error) {
	t.Helper()
	reader, err := kafka.NewDeadLetters(l.config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = reader.Close() })
	return func(cfg deadletter.Config) (deadletter.Result, error) {
		cfg.Rate, cfg.Actor = -1, "test"
		return deadletter.Replay(t.Context(), l.dlt, reader, l.pub, cfg)
	}
}

func ofPrefix(values []string, prefix string) (some []string) {
	for _, v := range values {
		if v[:len(prefix)] == prefix {
			some = append(some, v)
		}
	}
	return some
}

func TestReplay_TwoAtOnceWhileLiveMakeEachEffectOnceInOrder(t *testing.T) {
	t.Parallel()
	l := newLedgered(t, 3)
	const n, keys = 600, 12
	l.down.Store(true)
	l.send("dead", n, keys)
	require.Eventually(t, func() bool { return l.dead.Load() == n }, liveness, 10*time.Millisecond)
	l.down.Store(false)

	// Nothing keeps the two apart: there is no audit log and no lock.
	var work sync.WaitGroup
	results := make([]deadletter.Result, 2)
	for i := range results {
		replay := l.replay(t)
		work.Go(func() {
			var err error
			if results[i], err = replay(deadletter.Config{}); err != nil {
				t.Errorf("replay %d: %v", i, err)
			}
		})
	}
	work.Go(func() { l.send("live", n, keys) })
	work.Wait()

	byKey := l.await(2 * n)
	for key, values := range byKey {
		for _, prefix := range []string{"dead", "live"} {
			some := ofPrefix(values, prefix)
			require.Len(t, some, n/keys, key)
			require.True(t, slices.IsSorted(some), "%s: %v", key, some)
		}
	}
	require.LessOrEqual(t, len(harness.ReadTopic(t, l.config.Brokers, l.topic)), 4*n, "at most each dead letter by each replay")
	l.caughtUp()
	l.await(2 * n)
}

func TestReplay_OfTwoAtOnceWithAnAuditLogOneIsTurnedAway(t *testing.T) {
	t.Parallel()
	l := newLedgered(t, 2)
	const n = 400
	l.down.Store(true)
	l.send("dead", n, 7)
	require.Eventually(t, func() bool { return l.dead.Load() == n }, liveness, 10*time.Millisecond)
	l.down.Store(false)
	log, err := audit.New(l.db)
	require.NoError(t, err)

	first, second := l.replay(t), l.replay(t)
	meanwhile := func(deadletter.Result) { // the other begins in the middle of it
		if _, err := second(deadletter.Config{AuditLog: log}); !errors.Is(err, deadletter.ErrTopicBusy) {
			t.Errorf("the second replay is not turned away: %v", err)
		}
	}
	res, err := first(deadletter.Config{AuditLog: log, OnProgress: meanwhile})
	require.NoError(t, err)
	require.Equal(t, n, res.Replayed)
	for key, values := range l.await(n) {
		require.True(t, slices.IsSorted(values), key)
	}
	require.Len(t, harness.ReadTopic(t, l.config.Brokers, l.topic), 2*n, "nothing was sent twice")
	res, err = second(deadletter.Config{AuditLog: log})
	require.NoError(t, err)
	require.Zero(t, res.Open)
	entries, err := log.List(t.Context(), l.dlt, 10)
	require.NoError(t, err)
	require.Len(t, entries, 2)
	require.Equal(t, int64(n), entries[1].Resolved)
}

func TestDeadLetter_OfARecordTooLargeForItsTopicIsReplayedWhole(t *testing.T) {
	t.Parallel()
	l := newLedgered(t, 1)
	l.down.Store(true)
	l.cause = errors.New(strings.Repeat("a long story ", 100))
	big, small := strings.Repeat("x", 999_000), "small" // with the reason of the failure it is over the publisher's 1,000,000
	for _, v := range []string{big, small} {
		rec := &record.Record{Partition: record.PartitionByKey, Key: []byte("k")}
		require.NoError(t, l.pub.Publish(l.topic, message.NewMessageWithContext(record.With(t.Context(), rec), "id", []byte(v))))
	}
	require.Eventually(t, func() bool { return l.dead.Load() == 2 }, liveness, 10*time.Millisecond)
	dead := harness.ReadTopic(t, l.config.Brokers, l.dlt)
	require.Nil(t, dead[0].Value)
	require.Equal(t, "999000", dead[0].Header("dlt-value-omitted"))
	require.Equal(t, l.topic+"/0/0", dead[0].Header("dlt-failed-record"))
	require.Empty(t, dead[0].Header("kafka_dlt-exception-stacktrace"))
	require.Contains(t, l.cause.Error(), dead[0].Header("kafka_dlt-exception-message"))
	require.Equal(t, small, string(dead[1].Value))
	require.NotEmpty(t, dead[1].Header("kafka_dlt-exception-stacktrace"))

	l.down.Store(false)
	res, err := l.replay(t)(deadletter.Config{})
	require.NoError(t, err)
	require.Equal(t, 2, res.Replayed)
	require.Equal(t, []string{big, small}, l.await(2)["k"])
}
