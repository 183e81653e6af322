package consumermetrics_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/consumer/inbox"
	"github.com/millrace-go/millrace/adapters/telemetry/consumermetrics"
)

func TestMetrics_CountDeliveriesAndTransactions(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m, err := consumermetrics.New(reg)
	require.NoError(t, err)
	_, err = consumermetrics.New(reg)
	require.Error(t, err, "registered already")
	_, err = consumermetrics.New(nil)
	require.ErrorContains(t, err, "registerer")

	done := consumer.Delivery{Topic: "order.v1", Group: "ship", Outcome: consumer.OutcomeDone, Duration: time.Millisecond}
	dead := consumer.Delivery{
		Topic: "order.v1", Group: "ship", Outcome: consumer.OutcomeDeadLettered, Disposition: deadletter.DispositionDecode, Duration: time.Second,
	}
	hooks, two, three := m.Hooks(), consumer.BreakerStatus{Topic: "order.v1", Group: "ship", Partition: 2}, consumer.BreakerStatus{Topic: "order.v1", Group: "ship", Partition: 3}
	hooks.Delivered(done)
	hooks.Delivered(done)
	hooks.Delivered(dead)
	hooks.Retrying(consumer.RetryInfo{Delivery: done})
	hooks.DeadLetterFailed(consumer.RetryInfo{Delivery: dead})
	hooks.Paused(two)
	hooks.Paused(three)
	hooks.Resumed(three)
	committed := m.InboxHooks().Committed
	committed(inbox.Commit{Topic: "order.v1", Group: "ship", Applied: 480, Duplicates: 15, Failed: 5, CommitTook: 3 * time.Millisecond})
	committed(inbox.Commit{Topic: "order.v1", Group: "ship", Duplicates: 500})

	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP consumer_paused 1 while the breaker of a partition is open.
# TYPE consumer_paused gauge
consumer_paused{group="ship",partition="2",topic="order.v1"} 1
consumer_paused{group="ship",partition="3",topic="order.v1"} 0
# HELP consumer_records_total Deliveries that ended, by outcome: done, dead_lettered, skipped, unfinished.
# TYPE consumer_records_total counter
consumer_records_total{group="ship",outcome="dead_lettered",topic="order.v1"} 1
consumer_records_total{group="ship",outcome="done",topic="order.v1"} 2
# HELP consumer_retry_total Attempts that failed and were followed by another.
# TYPE consumer_retry_total counter
consumer_retry_total{group="ship",topic="order.v1"} 1
# HELP dlt_publish_failures_total Dead letters that could not be written at once.
# TYPE dlt_publish_failures_total counter
dlt_publish_failures_total{group="ship",topic="order.v1"} 1
# HELP dlt_records_total Dead letters written, by why: decode, fatal, exhausted, panic, timeout, quarantined.
# TYPE dlt_records_total counter
dlt_records_total{disposition="decode",group="ship",topic="order.v1"} 1
# HELP inbox_events_total Events of committed transactions: applied, duplicate (done before), left_out (for an error).
# TYPE inbox_events_total counter
inbox_events_total{group="ship",result="applied",topic="order.v1"} 480
inbox_events_total{group="ship",result="duplicate",topic="order.v1"} 515
inbox_events_total{group="ship",result="left_out",topic="order.v1"} 5
`), "consumer_paused", "consumer_records_total", "consumer_retry_total", "dlt_publish_failures_total", "dlt_records_total", "inbox_events_total"))
	for _, histogram := range []string{"consumer_handling_seconds", "inbox_commit_seconds", "inbox_batch_size"} {
		n, err := testutil.GatherAndCount(reg, histogram)
		require.NoError(t, err)
		require.Equal(t, 1, n, histogram)
	}
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
}
