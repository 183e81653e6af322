package harness_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/test/harness"
)

func TestReadTopic_ReturnsCommittedRecordsAsTheyAre(t *testing.T) {
	t.Parallel()
	brokers, topic := harness.Brokers(t), harness.Topic(t, 2)
	c, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.TransactionalID(topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(topic))
	require.NoError(t, err)
	defer c.Close()
	in := func(commit kgo.TransactionEndTry, records ...*kgo.Record) {
		require.NoError(t, c.BeginTransaction())
		require.NoError(t, c.ProduceSync(t.Context(), records...).FirstErr())
		require.NoError(t, c.EndTransaction(t.Context(), commit))
	}
	in(kgo.TryCommit, &kgo.Record{Partition: 1, Value: []byte("kept"), Headers: []kgo.RecordHeader{
		{Key: "h", Value: []byte("1")}, {Key: "h", Value: []byte{0xff}}}})
	in(kgo.TryAbort, &kgo.Record{Partition: 0, Key: []byte("k"), Value: []byte("aborted")})
	in(kgo.TryCommit, &kgo.Record{Partition: 0, Key: []byte("k"), Value: nil})
	in(kgo.TryAbort, &kgo.Record{Partition: 1, Value: []byte("aborted, last of its partition")})

	got := harness.ReadTopic(t, brokers, topic)
	require.Len(t, got, 2)
	require.Equal(t, int32(0), got[0].Partition)
	require.Equal(t, []byte("k"), got[0].Key)
	require.Nil(t, got[0].Value)
	require.Equal(t, int64(2), got[0].Offset, "after the aborted record and its marker")
	require.Nil(t, got[1].Key)
	require.Equal(t, []harness.Header{{Key: "h", Value: []byte("1")}, {Key: "h", Value: []byte{0xff}}}, got[1].Headers)
	require.Equal(t, "\xff", got[1].Header("h"))
}

func TestReadTopic_OfAnEmptyTopicIsEmpty(t *testing.T) {
	t.Parallel()
	require.Empty(t, harness.ReadTopic(t, harness.Brokers(t), harness.Topic(t, 1)))
}

// verdict takes an assertion's failures.
type verdict struct {
	testing.TB
	said string
}

func (v *verdict) Helper()                      {}
func (v *verdict) Errorf(f string, args ...any) { v.said += fmt.Sprintf(f, args...) }

func record(key string, n int) harness.Record {
	return harness.Record{Key: []byte(key), Value: fmt.Append(nil, n)}
}

func number(r harness.Record) int64 {
	var n int64
	_, _ = fmt.Sscan(string(r.Value), &n)
	return n
}

func TestAssertOrder_SeesInversionsAndForgivesDuplicates(t *testing.T) {
	t.Parallel()
	fine := []harness.Record{record("a", 1), record("b", 9), record("a", 2), record("a", 1), record("a", 2), record("a", 5)}
	v := &verdict{}
	harness.AssertOrder(v, fine, number)
	require.Empty(t, v.said)

	harness.AssertOrder(v, append(fine, record("a", 4)), number)
	require.Contains(t, v.said, `1 out of order`)
	require.Contains(t, v.said, `key "a": 4`)
}

func TestAssertComplete_SeesWhatIsMissingAndWhatIsTooMuch(t *testing.T) {
	t.Parallel()
	id := func(r harness.Record) string { return string(r.Value) }
	records := []harness.Record{record("a", 1), record("a", 2), record("a", 1), record("a", 1)}
	v := &verdict{}
	require.Equal(t, 2, harness.AssertComplete(v, records, id, []string{"1", "2"}))
	require.Empty(t, v.said)

	harness.AssertComplete(v, records, id, []string{"1", "3"})
	require.Contains(t, v.said, "1 missing, among them:\n3")
	require.Contains(t, v.said, "1 unexpected, among them:\n2")
}

func TestUntil_EndsWithWhatWasMissingLast(t *testing.T) {
	t.Parallel()
	tries := 0
	require.NoError(t, harness.Until(t.Context(), 2*time.Minute, func(context.Context) error {
		if tries++; tries < 3 {
			return errors.New("not yet")
		}
		return nil
	}))
	err := harness.Until(t.Context(), 2*time.Minute, func(ctx context.Context) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return errors.New("3 of 4 views")
	})
	require.ErrorContains(t, err, "3 of 4 views")
	require.True(t, strings.HasPrefix(err.Error(), "not within "), err.Error())
}
