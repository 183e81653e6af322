package kafka_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/harness"
)

func newPublisher(t testing.TB, brokers []string, change ...func(*kafka.Config)) *kafka.Publisher {
	t.Helper()
	cfg := kafka.Config{Brokers: brokers, RetryBackoff: 20 * time.Millisecond, MaxRetryBackoff: 200 * time.Millisecond}
	for _, f := range change {
		f(&cfg)
	}
	pub, err := kafka.NewPublisher(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pub.Close()) })
	return pub
}

// fake starts a broker in this process, whose answers a test can change.
func fake(t testing.TB, topic string, partitions int32) (*kfake.Cluster, []string) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, topic))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c, c.ListenAddrs()
}

// numbered makes n entries whose keys go round; the version counts per key from 1.
func numbered(topic string, n, keys, payload int) []outbox.Entry {
	body := make([]byte, payload)
	entries := make([]outbox.Entry, n)
	for i := range entries {
		key := fmt.Sprintf("key-%d", i%keys)
		entries[i] = outbox.Entry{Position: int64(i + 1), CreatedAt: time.Now(), Message: outbox.Message{
			ID: uuid.New(), Topic: topic, Key: key, Type: "counted", AggregateType: "counter", AggregateID: key,
			AggregateVersion: int64(i/keys + 1), Payload: append([]byte(strconv.Itoa(i)+" "), body...),
		}}
	}
	return entries
}

func ids(entries []outbox.Entry) []string {
	all := make([]string, len(entries))
	for i := range entries {
		all[i] = entries[i].ID.String()
	}
	return all
}

func eventID(r harness.Record) string { return r.Header(outbox.HeaderEventID) }

func version(r harness.Record) int64 {
	v, _ := strconv.ParseInt(r.Header(outbox.HeaderAggregateVersion), 10, 64)
	return v
}

// verdicts collects the verdicts on entries, and how often each was given.
type verdicts struct {
	errs  []error
	times []atomic.Int32
	wg    sync.WaitGroup
	wrong atomic.Bool // something was given up
}

func newVerdicts(n int) *verdicts {
	v := &verdicts{errs: make([]error, n), times: make([]atomic.Int32, n)}
	v.wg.Add(n)
	return v
}

func (v *verdicts) ack(offset int) func(i int, err error) {
	return func(i int, err error) {
		if v.times[offset+i].Add(1) > 1 {
			return // require would not be allowed on this goroutine; check reports it
		}
		v.errs[offset+i] = err
		if err != nil {
			v.wrong.Store(true)
		}
		v.wg.Done()
	}
}

// check waits for all verdicts and holds them against the contract: one for each
// entry, and per key no failure before a success.
func (v *verdicts) check(t testing.TB, entries []outbox.Entry) {
	t.Helper()
	done := make(chan struct{})
	go func() { v.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(liveness):
		require.FailNow(t, "not every entry was acknowledged")
	}
	failed := map[string]int{}
	for i := range entries {
		require.EqualValues(t, 1, v.times[i].Load(), "acks of entry %d", i)
		key := entries[i].Topic + "/" + entries[i].Key
		if v.errs[i] != nil {
			failed[key] = i
		} else if at, ok := failed[key]; ok {
			require.Failf(t, "acknowledged behind a failed message", "entry %d, after %d: %v", i, at, v.errs[at])
		}
	}
}

// pump publishes entries as a relay does: batch upon batch without waiting, and
// again from the first that was given up, until all are acknowledged.
func pump(ctx context.Context, t testing.TB, pub outbox.BatchPublisher, entries []outbox.Entry, batch int) (rounds int) {
	t.Helper()
	for len(entries) > 0 {
		rounds++
		v := newVerdicts(len(entries))
		sent := 0
		for sent < len(entries) && !v.wrong.Load() {
			next := min(sent+batch, len(entries))
			pub.PublishBatch(ctx, entries[sent:next], v.ack(sent))
			sent = next
		}
		v.wg.Add(sent - len(entries)) // the rest was not handed over
		v.check(t, entries[:sent])
		var rest []outbox.Entry
		for i := range entries {
			if i >= sent || v.errs[i] != nil {
				require.NotErrorIs(t, v.errs[i], outbox.ErrUnpublishable)
				rest = append(rest, entries[i])
			}
		}
		entries = rest
	}
	return rounds
}

func requireAll(t testing.TB, brokers []string, topic string, entries []outbox.Entry) (duplicates int) {
	t.Helper()
	records := harness.ReadTopic(t, brokers, topic)
	duplicates = harness.AssertComplete(t, records, eventID, ids(entries))
	harness.AssertOrder(t, records, version)
	return duplicates
}

// holds reports whether a produce request contains the text.
func holds(r kmsg.Request, text string) bool {
	p, ok := r.(*kmsg.ProduceRequest)
	if !ok {
		return false
	}
	for _, topic := range p.Topics {
		for _, partition := range topic.Partitions {
			if bytes.Contains(partition.Records, []byte(text)) {
				return true
			}
		}
	}
	return false
}

// stall makes the broker ask to try again for every produce request until release.
func stall(cluster *kfake.Cluster) (release func()) {
	h := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: -1})
	return func() { h.Remove() }
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// alterTopic sets a setting of a topic of the shared cluster, and returns once the
// broker has learned of it from its controller.
func alterTopic(t testing.TB, topic, name, value string) {
	t.Helper()
	adm := kadm.NewClient(independent(t))
	got, err := adm.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: name, Value: &value}}, topic)
	require.NoError(t, err)
	for _, r := range got {
		require.NoError(t, r.Err)
	}
	harness.Await(t, liveness, name+" is "+value, func(ctx context.Context) error {
		configs, err := adm.DescribeTopicConfigs(ctx, topic)
		if err != nil {
			return err
		}
		at, err := configs.On(topic, nil)
		if err != nil {
			return err
		}
		for _, c := range at.Configs {
			if c.Key == name && c.MaybeValue() == value {
				return nil
			}
		}
		return errors.New("the broker still has another value")
	})
}
