package service_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/domain/notification"
	"github.com/millrace-go/millrace/test/harness"
)

// An operator has each job run now, and finds how it ended and under which trace.
func TestJobs_RunOnRequestAndAreInTheHistoryWithTheirTraces(t *testing.T) {
	t.Parallel()
	o := newOffice(t, notification.Policy{})
	s := start(t, o.cfg)
	s.awaitReady(t)
	operator, err := schedule.NewOperator(o.db.DB)
	require.NoError(t, err)
	var jobs []string
	harness.Await(t, within, "the service tells its jobs", func(ctx context.Context) error {
		all, err := operator.Jobs(ctx)
		if err != nil || len(all) < 3 {
			return errNotYet
		}
		jobs = jobs[:0]
		for _, j := range all {
			require.NotNil(t, j.Definition)
			require.False(t, j.Next.IsZero())
			jobs = append(jobs, j.Job)
		}
		return nil
	})
	require.Equal(t, []string{"dropDeliveredPartitions", "resendFailedNotifications", "sweepSessions"}, jobs)
	for _, job := range jobs {
		_, err := operator.Request(t.Context(), job, "ada@host", "")
		require.NoError(t, err)
	}
	harness.Await(t, within, "they have run", func(ctx context.Context) error {
		runs, err := operator.Runs(ctx, schedule.RunFilter{Outcome: lock.OutcomeOK})
		traces := map[string]bool{}
		for _, r := range runs {
			if r.RequestedBy != "" {
				require.Regexp(t, `^[0-9a-f]{32}$`, r.TraceID)
				traces[r.TraceID] = true
			}
		}
		if err != nil || len(traces) < len(jobs) {
			return errNotYet
		}
		return nil
	})
	s.end(t)
}
