package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox/record"
	"github.com/millrace-go/millrace/test/harness"
)

func newDeadLetters(t *testing.T) *kafka.DeadLetters {
	t.Helper()
	d, err := kafka.NewDeadLetters(kafka.Config{Brokers: harness.Brokers(t)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

func TestDeadLetters_ReadsARangeToItsEnd(t *testing.T) {
	t.Parallel()
	topic, d := harness.Topic(t, 1), newDeadLetters(t)
	var recs []*kgo.Record
	for i := range 100 {
		recs = append(recs, &kgo.Record{
			Topic: topic, Key: []byte("k"), Value: fmt.Appendf(nil, "%d", i),
			Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("\x00\xff")}, {Key: "h", Value: nil}},
		})
	}
	recs[50].Value, recs[50].Key = nil, nil
	require.NoError(t, independent(t).ProduceSync(t.Context(), recs...).FirstErr())

	first, end, err := d.Bounds(t.Context(), topic)
	require.NoError(t, err)
	require.Equal(t, map[int32]int64{0: 0}, first)
	require.Equal(t, map[int32]int64{0: 100}, end)
	next := int64(10)
	err = d.Read(t.Context(), topic, 0, 10, 90, func(rec *record.Record, value []byte) error {
		require.Equal(t, next, rec.Offset)
		require.Equal(t, topic, rec.Topic)
		require.False(t, rec.Timestamp.IsZero())
		require.Equal(t, []record.Header{{Key: "h", Value: []byte("\x00\xff")}, {Key: "h", Value: nil}}, rec.Headers)
		if next == 50 {
			require.Nil(t, value)
			require.Nil(t, rec.Key)
		} else {
			require.Equal(t, fmt.Sprint(next), string(value))
			require.Equal(t, "k", string(rec.Key))
		}
		next++
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, int64(90), next)
}

func TestDeadLetters_EndsAtTransactionMarkersAndSkipsAborted(t *testing.T) {
	t.Parallel()
	topic, d := harness.Topic(t, 1), newDeadLetters(t)
	c, err := kgo.NewClient(kgo.SeedBrokers(harness.Brokers(t)...), kgo.TransactionalID(topic))
	require.NoError(t, err)
	defer c.Close()
	write := func(value string, end kgo.TransactionEndTry) {
		require.NoError(t, c.BeginTransaction())
		require.NoError(t, c.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr())
		require.NoError(t, c.EndTransaction(t.Context(), end))
	}
	write("a", kgo.TryCommit)
	write("b", kgo.TryAbort)
	write("c", kgo.TryCommit)
	write("d", kgo.TryAbort)

	var end map[int32]int64
	harness.Await(t, liveness, "the broker has written the last marker, after its answer", func(ctx context.Context) (err error) {
		if _, end, err = d.Bounds(ctx, topic); err == nil && end[0] < 8 {
			err = fmt.Errorf("the topic ends at %d", end[0])
		}
		return err
	})
	require.Equal(t, int64(8), end[0])
	var got []string
	require.NoError(t, d.Read(t.Context(), topic, 0, 0, end[0], func(rec *record.Record, value []byte) error {
		got = append(got, fmt.Sprintf("%d %s", rec.Offset, value))
		return nil
	}))
	require.Equal(t, []string{"0 a", "4 c"}, got)
}

func TestDeadLetters_ReadsBatchesLargerThanAFetch(t *testing.T) {
	t.Parallel()
	topic, d := harness.Topic(t, 1), newDeadLetters(t)
	large := make([]byte, 900_000)
	for range 5 {
		require.NoError(t, independent(t).ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: large}).FirstErr())
	}
	n := 0
	require.NoError(t, d.Read(t.Context(), topic, 0, 0, 5, func(_ *record.Record, value []byte) error {
		require.Len(t, value, len(large))
		n++
		return nil
	}))
	require.Equal(t, 5, n)
}

func TestDeadLetters_StopsWithItsCaller(t *testing.T) {
	t.Parallel()
	topic, d := harness.Topic(t, 1), newDeadLetters(t)
	produce(t, topic, 10, 1)
	enough := errors.New("enough")
	err := d.Read(t.Context(), topic, 0, 0, 10, func(*record.Record, []byte) error { return enough })
	require.ErrorIs(t, err, enough)

	ctx, cancel := context.WithCancel(t.Context())
	err = d.Read(ctx, topic, 0, 0, 11, func(rec *record.Record, _ []byte) error { // one more than there is
		if rec.Offset == 9 {
			cancel()
		}
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
}

func TestDeadLetters_RemembersProgressBesideAReader(t *testing.T) {
	t.Parallel()
	topic, group, d := harness.Topic(t, 2), harness.Group(t), newDeadLetters(t)
	produce(t, topic, 10, 4)
	offsets, _, err := d.Progress(t.Context(), topic, group)
	require.NoError(t, err)
	require.Empty(t, offsets)

	_, end, err := d.Bounds(t.Context(), topic)
	require.NoError(t, err)
	busiest := int32(0)
	if end[1] > end[0] {
		busiest = 1
	}
	require.NoError(t, d.Read(t.Context(), topic, busiest, 0, end[busiest], func(rec *record.Record, _ []byte) error {
		return d.Commit(t.Context(), topic, group, busiest, rec.Offset+1, "text")
	}))
	offsets, metadata, err := d.Progress(t.Context(), topic, group)
	require.NoError(t, err)
	require.Equal(t, map[int32]int64{busiest: end[busiest]}, offsets)
	require.Equal(t, map[int32]string{busiest: "text"}, metadata)
	require.Equal(t, end[busiest], committed(t, group, topic)[busiest])

	tooMuch := string(slices.Repeat([]byte("x"), 5000))
	require.Error(t, d.Commit(t.Context(), topic, group, 0, 1, tooMuch))
}

func TestDeadLetters_WaitForTheCoordinatorOfTheirGroup(t *testing.T) {
	t.Parallel()
	for _, code := range []*kerr.Error{kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.CoordinatorNotAvailable} {
		t.Run(code.Message, func(t *testing.T) {
			t.Parallel()
			const refusals = 20 // more than any other failure is retried
			cluster, brokers := fake(t, "thing.v1.dlt", 1)
			d, err := kafka.NewDeadLetters(kafka.Config{Brokers: brokers, RetryBackoff: time.Millisecond, MaxRetryBackoff: time.Millisecond})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, d.Close()) })

			commits := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: code, Count: refusals})
			require.NoError(t, d.Commit(t.Context(), "thing.v1.dlt", "replayer", 0, 7, "text"))
			require.Equal(t, refusals, commits.Hits())

			reads := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Err: code, Count: refusals})
			offsets, metadata, err := d.Progress(t.Context(), "thing.v1.dlt", "replayer")
			require.NoError(t, err)
			require.Equal(t, refusals, reads.Hits())
			require.Equal(t, map[int32]int64{0: 7}, offsets)
			require.Equal(t, map[int32]string{0: "text"}, metadata)

			cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Err: code, Count: -1})
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, _, err = d.Progress(ctx, "thing.v1.dlt", "replayer")
			require.ErrorIs(t, err, context.DeadlineExceeded)
		})
	}
}

func TestNewDeadLetters_NamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := kafka.NewDeadLetters(kafka.Config{})
	require.ErrorContains(t, err, "Brokers")
}
