package spring_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

// millrace runs a command of the program to its end and returns its output.
func millrace(t *testing.T, args ...string) string {
	t.Helper()
	p := lab.StartProgram(t, lab.ProgramConfig{
		Path: lab.Build(t, "github.com/millrace-go/millrace/cmd/millrace"),
		Args: append(args, "--kafka", strings.Join(harness.Brokers(t), ",")),
	})
	require.Zero(t, p.Wait(liveness), p.Stderr())
	return p.Stdout()
}

func TestReplay_CarriesDeadLettersOfSpringKafkaBack(t *testing.T) {
	t.Parallel()
	program := lab.BuildJava(t, ".")
	topic, group, dsn := harness.Topic(t, 3), harness.Group(t), harness.NewDatabase(t).DSN
	createTopic(t, topic+"-dlt", 3)
	const n = 12
	var recs []*kgo.Record
	for i := range n {
		recs = append(recs, &kgo.Record{
			Key: fmt.Appendf(nil, "k%d", i%4), Value: fmt.Appendf(nil, "\x00\xff value %d", i),
			Headers: []kgo.RecordHeader{kheader("own", fmt.Sprint(i)), kheader("twice", "1"), kheader("twice", "\x00\xff")},
		})
	}
	recs[5].Value = nil
	produce(t, topic, recs...)
	java := program.Start(t, "FailAndHeal", strings.Join(harness.Brokers(t), ","), topic, group)
	sources := map[string]harness.Record{}
	for _, r := range harness.ReadTopic(t, harness.Brokers(t), topic) {
		sources[r.Header("own")] = r
	}
	require.Eventually(t, func() bool { return len(harness.ReadTopic(t, harness.Brokers(t), topic+"-dlt")) == n }, liveness, 200*time.Millisecond)

	var deadLetters []struct {
		Partition, SourcePartition            int32
		SourceOffset                          int64
		Source, Group, Reason, ErrorType, Key string
	}
	list := millrace(t, "dlt", "list", "--json", "--topic", topic, "--dlt-topic", topic+"-dlt")
	list = strings.NewReplacer(`"source_partition"`, `"SourcePartition"`, `"source_offset"`, `"SourceOffset"`, `"error_type"`, `"ErrorType"`).Replace(list)
	require.NoError(t, json.Unmarshal([]byte(list), &deadLetters))
	require.Len(t, deadLetters, n)
	offsets := map[string]bool{}
	for _, l := range deadLetters {
		require.Equal(t, topic, l.Source)
		require.Equal(t, group, l.Group)
		require.Equal(t, l.Partition, l.SourcePartition)
		require.Contains(t, l.Reason, "the index is down")
		require.Equal(t, "org.springframework.kafka.listener.ListenerExecutionFailedException", l.ErrorType)
		offsets[fmt.Sprintf("%d/%d", l.SourcePartition, l.SourceOffset)] = true
	}
	for _, src := range sources {
		require.True(t, offsets[fmt.Sprintf("%d/%d", src.Partition, src.Offset)])
	}

	java.Say("heal\n")
	java.AwaitOutput("healed", liveness)
	out := millrace(t, "dlt", "replay", "--topic", topic, "--dlt-topic", topic+"-dlt", "--rate", "-1", "--note", "index is up", "--postgres", dsn, "--yes")
	require.Equal(t, "replayed 12 of 12 open dead letters\n", out)
	last := map[string]int64{}
	for _, got := range await(t, java, n) {
		require.Equal(t, "own twice twice", got.Headers[0].Name+" "+got.Headers[1].Name+" "+got.Headers[2].Name)
		src := sources[string(got.Headers[0].Value)]
		require.Equal(t, src.Key, got.Key)
		require.Equal(t, src.Value, got.Value)
		require.Equal(t, src.Partition, got.Partition)
		require.Equal(t, []byte("\x00\xff"), got.Headers[2].Value)
		for _, h := range got.Headers {
			require.NotContains(t, h.Name, "exception")
		}
		require.GreaterOrEqual(t, src.Offset, last[string(got.Key)], "each key in its order")
		last[string(got.Key)] = src.Offset
	}
	require.Equal(t, "replayed 0 of 0 open dead letters\n",
		millrace(t, "dlt", "replay", "--topic", topic, "--dlt-topic", topic+"-dlt", "--postgres", dsn, "--yes"))
	require.Equal(t, "no dead letters\n", millrace(t, "dlt", "list", "--topic", topic, "--dlt-topic", topic+"-dlt"))
}
