package harness_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
)

func TestStart_EmbeddedDefaultsAreRealPostgresAndTwins(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s, err := harness.Start(t.Context(), harness.Options{}, &log)
	require.NoError(t, err)
	require.Equal(t, harness.Real, s.Postgres.Info().Kind)
	require.Equal(t, harness.Twin, s.Kafka.Info().Kind)
	require.Equal(t, harness.Twin, s.Redis.Info().Kind)
	require.Regexp(t, `^postgres \d.*\nkafka kfake .*\nredis miniredis .*\n$`, log.String())

	again, err := harness.Start(t.Context(), harness.Options{
		Postgres: harness.PostgresConfig{URL: s.Postgres.DSN()}, Kafka: harness.KafkaConfig{Brokers: s.Kafka.Brokers()},
		Redis: harness.RedisConfig{URL: s.Redis.URL()},
	}, &log)
	require.NoError(t, err)
	require.Equal(t, harness.External, again.Kafka.Info().Kind)
	require.ErrorIs(t, again.Postgres.Kill(), harness.ErrUnsupported)
	require.NoError(t, again.Stop(t.Context()))
	require.True(t, answers(s.Postgres.Addr()), "servers of others are left alone")
	require.NoError(t, s.Stop(t.Context()))
	require.False(t, answers(s.Postgres.Addr()))
}
