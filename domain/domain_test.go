package domain_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/domain"
)

type happened struct{ at time.Time }

func (happened) EventName() string       { return "Happened" }
func (h happened) OccurredAt() time.Time { return h.at }

func TestAggregateRoot_CountsPendingUntilSettled(t *testing.T) {
	t.Parallel()
	root := domain.RootAt(3)
	applied := 0
	root.Raise(happened{}, func(domain.Event) { applied++ })
	root.Raise(happened{}, func(domain.Event) { applied++ })

	require.Equal(t, 2, applied)
	require.EqualValues(t, 5, root.Version())
	require.EqualValues(t, 3, root.Stored())
	root.Settle()
	require.Empty(t, root.Pending())
	require.EqualValues(t, 5, root.Stored())

	root.Replay(happened{}, func(domain.Event) { applied++ })
	require.Empty(t, root.Pending())
	require.EqualValues(t, 6, root.Version())
}

func TestEnvelopes_NumberEventsUpToTheVersion(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ids := 0
	got := domain.Envelopes("thing", "7", 5, []domain.Event{happened{at}, happened{at.Add(1)}}, domain.Trace{CorrelationID: "c"},
		func() string { ids++; return fmt.Sprint("e", ids) })

	require.Len(t, got, 2)
	require.EqualValues(t, 4, got[0].AggregateVersion)
	require.EqualValues(t, 5, got[1].AggregateVersion)
	require.Equal(t, "e2", got[1].ID)
	require.Equal(t, at.Add(1), got[1].OccurredAt)
	require.Equal(t, "c", got[1].Trace.CorrelationID)
}

func TestTime_SurvivesStorage(t *testing.T) {
	t.Parallel()
	got := domain.Time(time.Now())
	require.Equal(t, got, time.UnixMicro(got.UnixMicro()).UTC())
}
