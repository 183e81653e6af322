package deadletter_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/outbox/record"
)

func TestParse_OfAShareGroupAndOfKafkaConnect(t *testing.T) {
	t.Parallel()
	share := &record.Record{Topic: "orders.dead", Key: []byte("k"), Headers: []record.Header{
		header("own", "1"), header("__dlq.errors.topic", "orders"), header("__dlq.errors.partition", "2"), header("__dlq.errors.offset", "77"),
		header("__dlq.errors.group", "sharers"), header("__dlq.errors.delivery.count", "5"), header("__dlq.errors.message", "rejected"),
	}}
	l, bad := deadletter.Parse(share, []byte("v"))
	require.Empty(t, bad)
	require.Equal(t, []any{"orders", int32(2), int64(77), "sharers", 5, "rejected", false},
		[]any{l.OriginalTopic, l.OriginalPartition, l.OriginalOffset, l.Group, l.Attempts, l.Error, l.ValueOmitted})

	connect := &record.Record{Topic: "orders.dead", Offset: 1, Key: []byte("k"), Headers: []record.Header{
		header("__connect.errors.topic", "orders"), header("__connect.errors.partition", "x"), header("__connect.errors.offset", "7"),
		header("__connect.errors.connector.name", "sink"), header("__connect.errors.exception.class.name", "org.E"), header("__connect.errors.exception.message", "broke"),
	}}
	l, bad = deadletter.Parse(connect, nil)
	require.Equal(t, []string{"__connect.errors.partition"}, bad)
	require.Equal(t, []any{"orders", record.PartitionByKey, int64(-1), "sink", "org.E", "broke", false},
		[]any{l.OriginalTopic, l.OriginalPartition, l.OriginalOffset, l.Group, l.ErrorType, l.Error, l.ValueOmitted})

	headersAlone := &record.Record{Topic: "orders.dead", Offset: 2, Headers: share.Headers}
	s, b := &memoryTopic{messages: map[int32][]storedMessage{0: {{rec: share, value: []byte("v")}, {rec: connect}, {rec: headersAlone}}}}, &broker{}
	res, err := deadletter.Replay(t.Context(), "orders.dead", s, b, deadletter.Config{Source: "orders"})
	require.NoError(t, err)
	require.Equal(t, 2, res.Replayed)
	require.Equal(t, 1, res.Refused, "nobody knows what it was")
	require.Equal(t, []record.Header{header("own", "1")}, b.All()[0].Headers[:1])
	require.Equal(t, int32(2), b.All()[0].Partition)
	require.Len(t, b.All()[0].Headers, 4)
}
