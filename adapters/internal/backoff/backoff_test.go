package backoff_test

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/internal/backoff"
)

func TestDoubling_DoublesUpToItsMax(t *testing.T) {
	t.Parallel()
	b := backoff.Doubling{First: 100 * time.Millisecond, Max: time.Second}
	for failures, want := range []time.Duration{0: 100e6, 1: 100e6, 2: 200e6, 3: 400e6, 4: 800e6, 5: 1e9, 6: 1e9, 1000: 1e9} {
		if want > 0 {
			require.Equal(t, want, b.After(failures), "after %d", failures)
		}
	}
	require.Equal(t, time.Second, backoff.Doubling{First: time.Second, Max: time.Millisecond}.After(5))
	require.Equal(t, time.Duration(math.MaxInt64), backoff.Doubling{First: 1, Max: math.MaxInt64}.After(1_000))
	require.Zero(t, backoff.Doubling{}.After(3))
}

func TestJitter_IsNeverZeroAndNeverLonger(t *testing.T) {
	t.Parallel()
	for range 1000 {
		d := backoff.Jitter(3)
		require.Positive(t, d)
		require.LessOrEqual(t, d, time.Duration(3))
	}
}

func TestSleep_WaitsOrEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		require.NoError(t, backoff.Sleep(t.Context(), time.Minute))
		require.Equal(t, time.Minute, time.Since(began))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, backoff.Sleep(ctx, time.Minute), context.DeadlineExceeded)
		require.Equal(t, time.Minute+time.Second, time.Since(began))
	})
}
