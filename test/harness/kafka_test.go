package harness_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

func saramaConfig() *sarama.Config {
	cfg := sarama.NewConfig()
	cfg.Version = sarama.MaxVersion
	cfg.Producer.RequiredAcks = sarama.WaitForAll
	cfg.Producer.Idempotent = true
	cfg.Producer.Return.Successes = true
	cfg.Net.MaxOpenRequests = 1
	cfg.Net.DialTimeout = time.Second
	cfg.Consumer.Offsets.Initial = sarama.OffsetOldest
	return cfg
}

// produce sends n records that are numbered from first.
func produce(t *testing.T, brokers []string, topic string, first, n int) {
	t.Helper()
	p, err := sarama.NewSyncProducer(brokers, saramaConfig())
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	for i := first; i < first+n; i++ {
		_, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder("k"),
			Value: sarama.StringEncoder(fmt.Sprint(i)), Headers: []sarama.RecordHeader{{Key: []byte("n"), Value: fmt.Append(nil, i)}}})
		require.NoError(t, err)
	}
}

func values(records []harness.Record) []string {
	var all []string
	for _, r := range records {
		all = append(all, string(r.Value))
	}
	return all
}

// collector is a consumer group handler that passes values on.
type collector chan string

func (collector) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (collector) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (c collector) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for m := range claim.Messages() {
		select {
		case c <- string(m.Value):
			s.MarkMessage(m, "")
		case <-s.Context().Done():
		}
	}
	return nil
}

func TestKafka_ServesSaramaAtItsNewestVersion(t *testing.T) {
	t.Parallel()
	brokers, topic := harness.Brokers(t), harness.Topic(t, 3)
	produce(t, brokers, topic, 0, 5)

	group, err := sarama.NewConsumerGroup(brokers, harness.Group(t), saramaConfig())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	got, done := make(collector), make(chan error, 1)
	go func() { done <- group.Consume(ctx, []string{topic}, got) }()
	for i := range 5 {
		select {
		case v := <-got:
			require.Equal(t, fmt.Sprint(i), v)
		case <-time.After(2 * time.Minute):
			t.Fatal("the group got nothing")
		}
	}
	cancel()
	require.NoError(t, <-done)
	require.NoError(t, group.Close())
}

func TestKafka_RecordsSurviveRestartAndKill(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]harness.KafkaConfig{"real": {Real: true}, "twin": {Twin: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := harness.PrivateKafka(t, cfg)
			topic := harness.TopicOn(t, k.Brokers(), 1)
			produce(t, k.Brokers(), topic, 0, 2)
			require.NoError(t, k.Restart(t.Context()))
			produce(t, k.Brokers(), topic, 2, 1)
			require.NoError(t, k.Kill())
			require.False(t, answers(k.Addr()))
			require.NoError(t, k.Start(t.Context()))
			produce(t, k.Brokers(), topic, 3, 1)
			require.Equal(t, []string{"0", "1", "2", "3"}, values(harness.ReadTopic(t, k.Brokers(), topic)))
		})
	}
}

func TestKafka_PausedIsSilentAndRecovers(t *testing.T) {
	t.Parallel()
	k := harness.PrivateKafka(t, harness.KafkaConfig{Real: true, Settings: map[string]string{"broker.session.timeout.ms": "60000"}})
	topic := harness.TopicOn(t, k.Brokers(), 1)

	require.NoError(t, k.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, harness.ScanTopic(ctx, k.Brokers(), topic, nil), context.DeadlineExceeded)
	require.NoError(t, k.Resume())
	produce(t, k.Brokers(), topic, 0, 1)
	require.Len(t, harness.ReadTopic(t, k.Brokers(), topic), 1)
}

func TestKafka_AdvertisesAProxy(t *testing.T) {
	t.Parallel()
	port, err := lab.FreePort()
	require.NoError(t, err)
	proxy := harness.NewProxy(t, fmt.Sprintf("127.0.0.1:%d", port))
	k := harness.PrivateKafka(t, harness.KafkaConfig{Real: true, Port: port, Advertised: proxy.Addr()})
	require.Equal(t, []string{proxy.Addr()}, k.Brokers())
	topic := harness.TopicOn(t, k.Brokers(), 1)
	produce(t, k.Brokers(), topic, 0, 1)

	proxy.Cut()
	_, err = sarama.NewClient(k.Brokers(), saramaConfig())
	require.ErrorIs(t, err, sarama.ErrOutOfBrokers)
	require.NoError(t, proxy.Heal())
	produce(t, k.Brokers(), topic, 1, 1)
	require.Equal(t, []string{"0", "1"}, values(harness.ReadTopic(t, k.Brokers(), topic)))
}

func TestTwin_CannotBePaused(t *testing.T) {
	t.Parallel()
	k := harness.PrivateKafka(t, harness.KafkaConfig{Twin: true})
	require.ErrorIs(t, k.Pause(), harness.ErrUnsupported)
	require.ErrorIs(t, harness.PrivateRedis(t, harness.RedisConfig{Twin: true}).Pause(), harness.ErrUnsupported)
}
