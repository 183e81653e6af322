package cli_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

func TestDLT_AKilledReplayGoesOnWithoutLoss(t *testing.T) {
	t.Parallel()
	b := newDeadLetterTopic(t, ".dlt")
	const n, keys = 1500, 9
	var recs []*kgo.Record
	for i := range n {
		p := int32(i % keys % 2)
		recs = append(recs, &kgo.Record{
			Topic: b.topic + ".dlt", Partition: p, Key: fmt.Appendf(nil, "k%d", i%keys), Value: fmt.Appendf(nil, "%05d", i),
			Headers: []kgo.RecordHeader{
				kheader("kafka_dlt-original-topic", b.topic), kheader("kafka_dlt-original-partition", "\x00\x00\x00"+string(p)),
				kheader("kafka_dlt-original-offset", fmt.Sprintf("\x00\x00\x00\x00\x00\x00%c%c", i/128, i%128)), kheader("dlt-target-group", "views"),
			},
		})
	}
	require.NoError(t, b.cl.ProduceSync(t.Context(), recs...).FirstErr())
	replay := func() *lab.Program {
		return lab.StartProgram(t, lab.ProgramConfig{
			Path: lab.Build(t, "github.com/millrace-go/millrace/cmd/millrace"),
			Args: []string{
				"dlt", "replay", "--topic", b.topic, "--kafka", strings.Join(b.brokers, ","), "--postgres", b.dsn,
				"--rate", "100", "--note", "index rebuilt", "--yes",
			},
		})
	}
	arrived := func() []harness.Record { return harness.ReadTopic(t, b.brokers, b.topic) }

	p := replay()
	require.Eventually(t, func() bool { return len(arrived()) >= 100 }, 2*time.Minute, 20*time.Millisecond)
	p.Kill()
	require.Less(t, len(arrived()), n, "it was killed in the middle")

	b.await(func() bool { // until the lease of the killed one has ended
		got := b.try("replay", "--rate", "-1", "--yes")
		require.True(t, got.code == 0 || strings.Contains(got.stderr, "another operation is working on these dead letters"), got.stderr)
		return got.code == 0
	})
	order, seen := map[string][]string{}, map[string]bool{}
	all := arrived()
	for _, r := range all {
		if !seen[string(r.Value)] {
			seen[string(r.Value)] = true
			order[string(r.Key)] = append(order[string(r.Key)], string(r.Value))
		}
	}
	require.Len(t, seen, n, "none is lost")
	require.LessOrEqual(t, len(all), n+4*10, "a kill repeats at most what was in progress: four batches of a tenth of a second")
	for key, values := range order {
		require.True(t, slices.IsSorted(values), key)
	}
	require.Empty(t, b.list())
	got := run(t, nil, "dlt", "audit", "--postgres", b.dsn)
	require.Equal(t, 1, strings.Count(got.out, "abandoned"), got.out)
}
