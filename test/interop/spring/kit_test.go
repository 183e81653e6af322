package spring_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m, "TestSpring_ReadsOurDeadLettersWithItsOwnClasses") }

// liveness bounds waits for what must happen in the end, a Java start on a busy
// machine among it.
const liveness = 3 * time.Minute

// record is what the Java programs print for each record.
type wireRecord struct {
	Topic     string
	Partition int32
	Offset    int64
	Timestamp int64
	Key       []byte // null is nil
	Value     []byte
	Headers   []struct {
		Name  string
		Value []byte
	}
	Spring fields
	Sizes  map[string]int
}

// fields are the headers of a dead letter as Spring's own classes read them.
type fields struct {
	Topic, Group, Exception, Cause, Message, Stacktrace string
	Partition                                           int32
	Offset, Timestamp                                   int64
	TimestampType                                       string `json:"timestamp_type"`
}

// await returns the records that p has printed once they are n.
func await(t *testing.T, p *lab.Program, n int) (records []wireRecord) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Count(p.Stdout(), "\n") >= n }, liveness, 20*time.Millisecond)
	for line := range strings.Lines(p.Stdout()) {
		var r wireRecord
		require.NoError(t, json.Unmarshal([]byte(line), &r), line)
		records = append(records, r)
	}
	require.Len(t, records, n)
	return records
}

func createTopic(t *testing.T, name string, partitions int) {
	t.Helper()
	require.NoError(t, harness.CreateTopic(t.Context(), harness.Brokers(t), name, partitions))
}

func produce(t *testing.T, topic string, recs ...*kgo.Record) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(harness.Brokers(t)...), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	require.NoError(t, err)
	defer c.Close()
	for _, r := range recs {
		r.Topic = topic
	}
	require.NoError(t, c.ProduceSync(t.Context(), recs...).FirstErr())
}

func kheader(name, value string) kgo.RecordHeader {
	return kgo.RecordHeader{Key: name, Value: []byte(value)}
}
