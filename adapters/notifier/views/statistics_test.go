package views_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/notifier/views"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/test/harness"
)

// report is a source of pages that counts what it is asked.
type report struct {
	asked atomic.Int64
	err   error
}

func (r *report) DeliveryStatistics(_ context.Context, q app.StatisticsQuery) (app.DeliveryStatistics, error) {
	n := r.asked.Add(1)
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
	return app.DeliveryStatistics{
		Recipients: []app.RecipientStatistics{{Recipient: q.After + "+", Total: n, Sent: 1, Abandoned: 2, Open: 3, Attempts: 4, LastAt: at}},
		Next:       q.After, AsOf: at,
	}, r.err
}

func TestStatistics_AsksForEachPageOnce(t *testing.T) {
	t.Parallel()
	opt := harness.Redis(t).Options()
	source := &report{}
	open := func() *views.Statistics {
		store, err := cache.NewStore(hardened(t, opt), cache.StoreConfig{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, store.Close()) })
		s, err := views.NewStatistics(store, source, time.Hour)
		require.NoError(t, err)
		return s
	}
	queries := []app.StatisticsQuery{{Limit: 1}, {Limit: 2}, {After: "a", Limit: 1}, {After: "a:1", Limit: 1}, {After: "ä\n", Limit: 1}}
	var want []app.DeliveryStatistics
	for i, s := range []*views.Statistics{open(), open()} { // two processes
		for k, q := range queries {
			got, err := s.DeliveryStatistics(t.Context(), q)
			require.NoError(t, err)
			if i == 0 {
				want = append(want, got)
			}
			require.Equal(t, want[k], got)
			require.Equal(t, q.After+"+", got.Recipients[0].Recipient)
		}
	}
	require.EqualValues(t, len(queries), source.asked.Load())
}

func TestStatistics_PassAnErrorOnAndRememberNone(t *testing.T) {
	t.Parallel()
	store, err := cache.NewStore(hardened(t, harness.Redis(t).Options()), cache.StoreConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	source := &report{err: errors.New("no database")}
	s, err := views.NewStatistics(store, source, 0)
	require.NoError(t, err)
	_, err = s.DeliveryStatistics(t.Context(), app.StatisticsQuery{Limit: 1})
	require.ErrorIs(t, err, source.err)
	source.err = nil
	_, err = s.DeliveryStatistics(t.Context(), app.StatisticsQuery{Limit: 1})
	require.NoError(t, err)
	_, err = views.NewStatistics(store, nil, 0)
	require.ErrorContains(t, err, "source")
}
