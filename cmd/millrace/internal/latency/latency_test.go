package latency_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/cmd/millrace/internal/latency"
)

func TestRecorder_QuantilesAreWithinTwoPercentOfSorting(t *testing.T) {
	t.Parallel()
	for _, span := range []time.Duration{50, 5000, time.Millisecond, time.Second, time.Hour} {
		var r latency.Recorder
		rng := rand.New(rand.NewPCG(7, uint64(span)))
		all := make([]time.Duration, 20_000)
		for i := range all {
			all[i] = time.Duration(rng.Int64N(int64(span)))
			r.Observe(all[i])
		}
		slices.Sort(all)
		for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 1} {
			exact := all[int(q*float64(len(all)))-1]
			got := r.Quantile(q)
			require.GreaterOrEqual(t, got, exact, "span %s q %v", span, q)
			require.LessOrEqual(t, float64(got), float64(exact)*1.02+1, "span %s q %v", span, q)
		}
		require.Equal(t, all[len(all)-1], r.Max())
		require.EqualValues(t, len(all), r.Count())
	}
}

func TestRecorder_TakesExtremes(t *testing.T) {
	t.Parallel()
	var r latency.Recorder
	require.Zero(t, r.Quantile(0.5))
	r.Observe(-time.Second)
	require.Zero(t, r.Quantile(1))
	r.Observe(1 << 62)
	require.Equal(t, time.Duration(1<<62), r.Max())
	require.Positive(t, r.Quantile(1))
}
