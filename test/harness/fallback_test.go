package harness_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
)

// These two tests change the environment, so they are not parallel.

func TestFallback_IsATwinWhereNothingIsInstalled(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("JAVA_HOME", "")
	t.Setenv(harness.EnvRequireReal, "")
	r := harness.PrivateRedis(t, harness.RedisConfig{})
	require.Equal(t, harness.Twin, r.Info().Kind)
	k := harness.PrivateKafka(t, harness.KafkaConfig{})
	require.Equal(t, harness.Twin, k.Info().Kind)
}

func TestFallback_IsAnErrorWhereRealIsRequired(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("JAVA_HOME", "")
	t.Setenv(harness.EnvRequireReal, "1")
	_, err := harness.StartRedis(t.Context(), harness.RedisConfig{})
	require.ErrorIs(t, err, harness.ErrNotInstalled)
	require.ErrorContains(t, err, "apt-get install redis-server")
	_, err = harness.StartKafka(t.Context(), harness.KafkaConfig{})
	require.ErrorIs(t, err, harness.ErrNotInstalled)
	require.ErrorContains(t, err, "apt-get install openjdk-17-jre-headless")
}
