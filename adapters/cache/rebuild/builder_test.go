package rebuild_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache/rebuild"
	"github.com/millrace-go/millrace/outbox"
)

func TestNewBuilder_NamesEverythingThatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := rebuild.NewBuilder(nil, rebuild.View{}, nil, rebuild.Config{From: -1, To: -2, Floor: -1, Batch: -1, Lease: 1})
	for _, field := range []string{
		"From: must be at least 0, is -1", "To: must be at least 0, is -2", "Floor: must", "Batch: must", "Lease: must be at least 1s, is 1ns",
		"tracker: must not be nil", "log: must not be nil", "view.Name: must not be empty", "view.Fold: must not be nil",
	} {
		require.ErrorContains(t, err, field)
	}
	var none outbox.History = (*silent)(nil)
	_, err = rebuild.NewBuilder(nil, rebuild.View{}, none, rebuild.Config{From: 9, To: 3})
	require.ErrorContains(t, err, "To: must be at least From 9, is 3")
}

func TestNewTracker_NamesEverythingThatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := rebuild.NewTracker(nil, "view:")
	require.ErrorContains(t, err, "rdb: is nil")
	require.ErrorContains(t, err, "views: must name at least one view")
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	t.Cleanup(func() { _ = rdb.Close() })
	_, err = rebuild.NewTracker(rdb, "view:", "a", "a")
	require.ErrorContains(t, err, `must be different names`)
	tracker, err := rebuild.NewTracker(rdb, "view:", "a")
	require.NoError(t, err)
	_, err = tracker.Of(t.Context(), "b")
	require.ErrorContains(t, err, `there is no view "b"`)
}

// silent is a log that is never asked.
type silent struct{ outbox.History }
