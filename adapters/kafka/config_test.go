package kafka_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/kafka"
)

var someBroker = []string{"127.0.0.1:9092"}

func TestConfig_IsSafeByDefault(t *testing.T) {
	t.Parallel()
	sc, err := kafka.SaramaConfig(kafka.Config{Brokers: someBroker})
	require.NoError(t, err)
	require.Equal(t, "millrace", sc.ClientID)
	require.Equal(t, sarama.MaxVersion, sc.Version)
	require.Equal(t, 1, sc.Net.MaxOpenRequests)
	require.Equal(t, 5*time.Second, sc.Net.DialTimeout)
	require.Equal(t, 10*time.Second, sc.Net.ReadTimeout)
	require.Equal(t, 10*time.Second, sc.Net.WriteTimeout)
	require.Equal(t, sarama.WaitForAll, sc.Producer.RequiredAcks)
	require.True(t, sc.Producer.Idempotent)
	require.Equal(t, sarama.CompressionLZ4, sc.Producer.Compression)
	require.Equal(t, 1_000_000, sc.Producer.MaxMessageBytes)
	require.Equal(t, 300*time.Microsecond, sc.Producer.Flush.Frequency)
	require.Equal(t, 64<<10, sc.Producer.Flush.Bytes)
	require.Greater(t, sc.Producer.Retry.Max, 1000)
	require.Equal(t, 100*time.Millisecond, sc.Producer.Retry.BackoffFunc(1, 0))
	require.Equal(t, 2*time.Second, sc.Producer.Retry.BackoffFunc(50, 0))
	require.Equal(t, 100*time.Millisecond, sc.Metadata.Retry.BackoffFunc(10, 10))
	require.False(t, sc.Metadata.AllowAutoTopicCreation)
	require.Equal(t, sarama.OffsetOldest, sc.Consumer.Offsets.Initial)
	require.Equal(t, sarama.ReadCommitted, sc.Consumer.IsolationLevel)
	require.False(t, sc.Consumer.Group.ResetInvalidOffsets)
	require.False(t, sc.Net.TLS.Enable)
	require.False(t, sc.Net.SASL.Enable)
}

func TestConfig_RefusesWeakSettingsOneByOne(t *testing.T) {
	t.Parallel()
	for field, tune := range map[string]func(*sarama.Config){
		"Producer.RequiredAcks":              func(c *sarama.Config) { c.Producer.RequiredAcks = sarama.WaitForLocal },
		"Producer.Idempotent":                func(c *sarama.Config) { c.Producer.Idempotent = false },
		"Net.MaxOpenRequests":                func(c *sarama.Config) { c.Net.MaxOpenRequests = 5 },
		"Producer.Retry.Max":                 func(c *sarama.Config) { c.Producer.Retry.Max = 0 },
		"Producer.Partitioner":               func(c *sarama.Config) { c.Producer.Partitioner = sarama.NewHashPartitioner },
		"Producer.Return":                    func(c *sarama.Config) { c.Producer.Return.Successes = false },
		"Producer.Transaction.ID":            func(c *sarama.Config) { c.Producer.Transaction.ID = "x" },
		"Metadata.AllowAutoTopicCreation":    func(c *sarama.Config) { c.Metadata.AllowAutoTopicCreation = true },
		"Consumer.Offsets.Initial":           func(c *sarama.Config) { c.Consumer.Offsets.Initial = sarama.OffsetNewest },
		"Consumer.Group.ResetInvalidOffsets": func(c *sarama.Config) { c.Consumer.Group.ResetInvalidOffsets = true },
		"Consumer.IsolationLevel":            func(c *sarama.Config) { c.Consumer.IsolationLevel = sarama.ReadUncommitted },
	} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			err := kafka.Config{Brokers: someBroker, Tune: tune}.Validate()
			require.ErrorContains(t, err, field+": ")
			require.NotContains(t, err.Error(), "\n", "more than one reason")
		})
	}
}

func TestConfig_NamesEverythingThatIsWrongAtOnce(t *testing.T) {
	t.Parallel()
	err := kafka.Config{
		Brokers: []string{"no-port"}, DialTimeout: -1, Compression: "zip",
		SASL: kafka.SASL{Mechanism: kafka.Plain, User: "u"},
		Tune: func(c *sarama.Config) { c.Producer.RequiredAcks = sarama.NoResponse; c.Net.MaxOpenRequests = 2 },
	}.Validate()
	for _, want := range []string{`Brokers[0]`, "DialTimeout", "Compression", "SASL.Password", "PLAIN without TLS", "RequiredAcks", "MaxOpenRequests"} {
		require.ErrorContains(t, err, want)
	}
	_, err = kafka.NewPublisher(kafka.Config{})
	require.ErrorContains(t, err, "Brokers: must have at least one host:port")
}

func TestConfig_TakesJavasOwnPartitionerToo(t *testing.T) {
	t.Parallel()
	require.NoError(t, kafka.Config{Brokers: someBroker, Tune: func(c *sarama.Config) {
		c.Producer.Partitioner = sarama.NewMurmur2Partitioner
	}}.Validate())
}

func TestConfig_PlainIsForTLSOnly(t *testing.T) {
	t.Parallel()
	sasl := kafka.SASL{Mechanism: kafka.Plain, User: "u", Password: "p"}
	require.NoError(t, kafka.Config{Brokers: someBroker, SASL: sasl, TLS: &tls.Config{MinVersion: tls.VersionTLS12}}.Validate())
	require.Error(t, kafka.Config{Brokers: someBroker, SASL: sasl}.Validate())
	require.Error(t, kafka.Config{Brokers: someBroker, SASL: sasl, TLS: &tls.Config{InsecureSkipVerify: true}}.Validate())
	sasl.Mechanism = kafka.ScramSHA512
	require.NoError(t, kafka.Config{Brokers: someBroker, SASL: sasl}.Validate())
}

func TestSecret_ShowsNowhere(t *testing.T) {
	t.Parallel()
	const password = "hunter2"
	cfg := kafka.Config{SASL: kafka.SASL{User: "u", Password: password}}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb, cfg.SASL)
		fmt.Fprintf(&out, verb, cfg.SASL.Password)
	}
	b, err := json.Marshal(cfg.SASL)
	require.NoError(t, err)
	out.Write(b)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "sasl", cfg.SASL, "password", cfg.SASL.Password)
	require.NotContains(t, out.String(), password)
	require.NotContains(t, out.String(), fmt.Sprintf("%x", password))
	require.Contains(t, out.String(), "[redacted]")
	require.Equal(t, password, string(cfg.SASL.Password))
}
