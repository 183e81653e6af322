package kafka_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/harness"
)

func newAdmin(t testing.TB, brokers []string, change ...func(*kafka.Config)) *kafka.Admin {
	t.Helper()
	cfg := kafka.Config{Brokers: brokers}
	for _, f := range change {
		f(&cfg)
	}
	a, err := kafka.NewAdmin(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a
}

func TestAdmin_CreatesATopicWithItsDeadLetters(t *testing.T) {
	t.Parallel()
	brokers := harness.Brokers(t)
	name := harness.Topic(t, 1) + ".made" // deleted with the topic it is named after
	a := newAdmin(t, brokers)
	want := kafka.Topic{Name: name, Partitions: 5, MaxMessageBytes: 50_000, Retention: time.Hour}
	for range 2 { // the second time it is there
		require.NoError(t, a.EnsureTopics(t.Context(), want))
	}
	got, err := a.Describe(t.Context(), name, name+".dlt", name+".nowhere")
	require.NoError(t, err)
	require.Len(t, got, 2)
	n, err := a.Partitions(t.Context(), name)
	require.NoError(t, err)
	require.Equal(t, 5, n)
	_, err = a.Partitions(t.Context(), name+".nowhere")
	require.ErrorIs(t, err, kafka.ErrNoTopic)
	source, dlt := got[name], got[name+".dlt"]
	require.EqualValues(t, 5, source.Partitions)
	require.EqualValues(t, 1, source.Replicas)
	require.Equal(t, 50_000, source.MaxMessageBytes)
	require.Equal(t, time.Hour, source.Retention)
	require.EqualValues(t, 5, dlt.Partitions)
	require.Equal(t, 50_000+64<<10, dlt.MaxMessageBytes)
	require.Equal(t, 14*24*time.Hour, dlt.Retention)
	require.Equal(t, "delete", dlt.CleanupPolicy)

	want.Partitions = 6
	require.ErrorIs(t, a.EnsureTopics(t.Context(), want), kafka.ErrTopicDiffers)
}

func TestEnsureTopics_CreatesNothingIfOneDiffers(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, "order.v1", "paid.v1"), kfake.SeedTopics(2, "paid.v1.dlt"))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	a := newAdmin(t, cluster.ListenAddrs())
	topics := func() map[string]int32 {
		found, err := a.Describe(t.Context(), "order.v1", "order.v1.dlt", "new.v1", "new.v1.dlt", "paid.v1.dlt")
		require.NoError(t, err)
		partitions := map[string]int32{}
		for name, info := range found {
			partitions[name] = info.Partitions
		}
		return partitions
	}
	before := map[string]int32{"order.v1": 4, "paid.v1.dlt": 2}

	err = a.EnsureTopics(t.Context(), kafka.Topic{Name: "new.v1", Replicas: 1}, kafka.Topic{Name: "order.v1", Partitions: 6, Replicas: 1})
	require.ErrorIs(t, err, kafka.ErrTopicDiffers)
	require.ErrorContains(t, err, "or ask for 4")
	require.Equal(t, before, topics(), "neither the dead-letter topic nor the topic before it")

	err = a.EnsureTopics(t.Context(), kafka.Topic{Name: "new.v1", Replicas: 1}, kafka.Topic{Name: "paid.v1", Replicas: 1})
	require.ErrorIs(t, err, kafka.ErrTopicDiffers)
	require.ErrorContains(t, err, "paid.v1.dlt: topic exists with another number of partitions: 2, fewer than the 4 of paid.v1")
	require.Equal(t, before, topics())

	require.NoError(t, a.EnsureTopics(t.Context(), kafka.Topic{Name: "order.v1", Replicas: 1}), "no number is asked for")
	require.NoError(t, a.EnsureTopics(t.Context(), kafka.Topic{Name: "order.v1", Partitions: 4, Replicas: 1}), "what the error advised")
	require.NoError(t, a.EnsureTopics(t.Context(), kafka.Topic{Name: "new.v1", Replicas: 1}))
	require.Equal(t, map[string]int32{"order.v1": 4, "order.v1.dlt": 4, "new.v1": 6, "new.v1.dlt": 6, "paid.v1.dlt": 2}, topics())
}

func TestEnsureTopics_NamesEverythingThatIsWrong(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 246)
	err := newAdmin(t, []string{"127.0.0.1:1"}).EnsureTopics(t.Context(),
		kafka.Topic{Name: "order v1", Partitions: 1}, kafka.Topic{Name: "dup.v1"}, kafka.Topic{Name: "dup.v1", Partitions: -1}, kafka.Topic{},
		kafka.Topic{Name: long, Replicas: -1, MaxMessageBytes: -1, Retention: -2}, kafka.Topic{Name: long + "y", NoDeadLetters: true})
	require.EqualError(t, err, `ensure topics: Topics[0].Name: must be 1 to 249 characters of [A-Za-z0-9._-], is "order v1"
Topics[2].Name: must be unique, is "dup.v1"
Topics[2].Partitions: must be at least 1, is -1
Topics[3].Name: must be 1 to 249 characters of [A-Za-z0-9._-], is ""
Topics[4].Name: must be at most 245 characters, as its dead-letter topic adds ".dlt", is 246
Topics[4].Replicas: must be at least 0, is -1
Topics[4].MaxMessageBytes: must be at least 0, is -1
Topics[4].Retention: must be positive or -1, is -2ns`)
}

func TestAdmin_FindsWhatIsWrongWithTopics(t *testing.T) {
	t.Parallel()
	brokers := harness.Brokers(t)
	name := harness.Topic(t, 3)
	a := newAdmin(t, brokers)
	fatal := func(names ...string) (problems []string) {
		findings, err := a.CheckTopics(t.Context(), names...)
		require.NoError(t, err)
		for _, f := range findings {
			if f.Fatal {
				problems = append(problems, f.Topic+" "+f.Problem)
			}
		}
		return problems
	}
	require.Equal(t, []string{name + ".nowhere does not exist"}, fatal(name+".nowhere"))
	require.Equal(t, []string{name + ".dlt does not exist"}, fatal(name))
	require.NoError(t, harness.CreateTopic(t.Context(), brokers, name+".dlt", 2))
	require.Equal(t, []string{name + ".dlt has 2 partitions, fewer than the 3 of " + name}, fatal(name))
	alterTopic(t, name, "min.insync.replicas", "2")
	alterTopic(t, name+".dlt", "cleanup.policy", "compact")
	require.Equal(t, []string{
		name + " min.insync.replicas 2 is more than its 1 replicas",
		name + ".dlt has 2 partitions, fewer than the 3 of " + name,
		name + ".dlt cleanup.policy is compact",
	}, fatal(name))
}

func TestAdmin_MeasuresTheLagOfAGroup(t *testing.T) {
	t.Parallel()
	brokers, topic, group := harness.Brokers(t), harness.Topic(t, 3), harness.Group(t)
	client := independent(t)
	for p, n := range []int{10, 0, 4} {
		for range n {
			rec := &kgo.Record{Topic: topic, Partition: int32(p), Value: []byte("x")}
			require.NoError(t, manual(t).ProduceSync(t.Context(), rec).FirstErr())
		}
	}
	adm := kadm.NewClient(client)
	var offsets kadm.Offsets
	offsets.AddOffset(topic, 0, 2, -1)
	_, err := adm.CommitOffsets(t.Context(), group, offsets)
	require.NoError(t, err)
	var gone kadm.Offsets
	gone.AddOffset(topic, 0, 5, -1)
	_, err = adm.DeleteRecords(t.Context(), gone)
	require.NoError(t, err)

	lags, err := newAdmin(t, brokers).Lag(t.Context(), group, topic)
	require.NoError(t, err)
	require.Equal(t, []kafka.Lag{
		{Group: group, Topic: topic, Partition: 0, Committed: 2, Oldest: 5, End: 10, Messages: 5, Lost: 3},
		{Group: group, Topic: topic, Partition: 1, Committed: -1},
		{Group: group, Topic: topic, Partition: 2, Committed: -1, End: 4, Messages: 4},
	}, lags)

	lags, err = newAdmin(t, brokers).Lag(t.Context(), group+".new", topic)
	require.NoError(t, err, "a group that has never committed")
	require.Equal(t, kafka.Lag{Group: group + ".new", Topic: topic, Committed: -1, Oldest: 5, End: 10, Messages: 5}, lags[0])

	_, err = newAdmin(t, brokers).Lag(t.Context(), group, topic+".nowhere")
	require.Error(t, err)
}

func TestAdmin_EndsAtOnceWithItsContextAndConnectsAnew(t *testing.T) {
	t.Parallel()
	k := harness.PrivateKafka(t, harness.KafkaConfig{Real: true})
	topic := harness.TopicOn(t, k.Brokers(), 2)
	a := newAdmin(t, k.Brokers())
	require.Eventually(t, func() bool {
		_, err := a.Describe(t.Context(), topic)
		return err == nil
	}, liveness, 50*time.Millisecond)

	require.NoError(t, k.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := a.Describe(ctx, topic)
	require.ErrorIs(t, err, context.DeadlineExceeded, "though the broker answers nothing for as long as it is paused")

	require.NoError(t, k.Resume())
	require.Eventually(t, func() bool {
		got, err := a.Describe(t.Context(), topic)
		return err == nil && got[topic].Partitions == 2
	}, liveness, 50*time.Millisecond)
}

func TestConfig_SpeaksEverySASLMechanism(t *testing.T) {
	t.Parallel()
	for _, mechanism := range []string{kafka.ScramSHA256, kafka.ScramSHA512} {
		t.Run(mechanism, func(t *testing.T) {
			t.Parallel()
			cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, topic), kfake.EnableSASL(), kfake.Superuser(mechanism, "u", "right"))
			require.NoError(t, err)
			t.Cleanup(cluster.Close)
			as := func(password kafka.Secret) func(*kafka.Config) {
				return func(c *kafka.Config) { c.SASL = kafka.SASL{Mechanism: mechanism, User: "u", Password: password} }
			}
			got, err := newAdmin(t, cluster.ListenAddrs(), as("right")).Describe(t.Context(), topic)
			require.NoError(t, err)
			require.EqualValues(t, 2, got[topic].Partitions)
			_, err = newAdmin(t, cluster.ListenAddrs(), as("wrong")).Describe(t.Context(), topic)
			require.Error(t, err)
			require.NotContains(t, err.Error(), "wrong")

			pub := newPublisher(t, cluster.ListenAddrs(), as("right"))
			pump(t.Context(), t, pub, []outbox.Entry{sampleEntry(topic)}, 1)
		})
	}
}

// manual is a client that leaves the partition to its records.
func manual(t testing.TB) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(harness.Brokers(t)...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}
