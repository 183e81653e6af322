package consumer_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millrace-go/millrace/adapters/consumer"
)

func TestPolicy_ZeroValueIsFourDeliveries(t *testing.T) {
	t.Parallel()
	for retry := 1; retry <= 3; retry++ {
		wait, more := consumer.Policy{}.Delay(retry, 0.99)
		require.True(t, more)
		require.Equal(t, 500*time.Millisecond, wait)
	}
	_, more := consumer.Policy{}.Delay(4, 0)
	require.False(t, more)
}

func TestPolicy_ExponentialGrowsToItsCeiling(t *testing.T) {
	t.Parallel()
	p := consumer.Exponential(100*time.Millisecond, 3, time.Second, 4, 0)
	require.NoError(t, p.Validate())
	for i, want := range []time.Duration{100 * time.Millisecond, 300 * time.Millisecond, 900 * time.Millisecond, time.Second} {
		wait, more := p.Delay(i+1, 0.5)
		require.True(t, more)
		require.InDelta(t, want, wait, 1)
	}
	_, more := p.Delay(5, 0)
	require.False(t, more)
	_, more = consumer.FixedBackOff(time.Second, 0).Delay(1, 0)
	require.False(t, more)
}

func TestPolicy_JitterStaysWithinItsBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		initial := time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "initial"))
		maxWait := initial + time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "maxWait"))
		jitter := rapid.Float64Range(0, consumer.MaxJitter).Draw(t, "jitter")
		multiplier := rapid.Float64Range(1, 1e6).Draw(t, "multiplier")
		p := consumer.Exponential(initial, multiplier, maxWait, 1000, jitter)
		require.NoError(t, p.Validate())
		retry := rapid.IntRange(1, 1000).Draw(t, "retry")
		wait, more := p.Delay(retry, rapid.Float64Range(0, 0.999999).Draw(t, "random"))
		require.True(t, more)
		require.LessOrEqual(t, wait, maxWait)
		require.GreaterOrEqual(t, float64(wait), float64(initial)*(1-jitter)-1)
	})
}

func TestPolicy_RefusesWhatIsOutOfRange(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy consumer.Policy
		want   string
	}{
		"retries":    {consumer.FixedBackOff(time.Second, -1), "retries: must be at least 0"},
		"interval":   {consumer.FixedBackOff(-time.Second, 1), "interval: must be at least 0"},
		"multiplier": {consumer.Exponential(1, 0.5, 2, 1, 0), "multiplier: must be at least 1"},
		"ceiling":    {consumer.Exponential(2, 2, 1, 1, 0), "longest wait: must be at least the first"},
		"jitter":     {consumer.Exponential(1, 2, 2, 1, 0.6), "jitter: must be within 0 and 0.5"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.ErrorContains(t, c.policy.Validate(), c.want)
		})
	}
}
