package service

import (
	"context"
	"errors"
	"time"

	"github.com/millrace-go/millrace/adapters/notifier/postgres"
	"github.com/millrace-go/millrace/adapters/schedule"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/outbox/pgstore"
)

// buildJobs wires the jobs, each under a lock in Postgres of its own.
func (s *service) buildJobs() error {
	locks, err := lock.NewPostgres(s.db)
	if err != nil {
		return err
	}
	locker, err := lock.NewLocker(locks, lock.Config{Hooks: s.lockHooks()})
	if err != nil {
		return err
	}
	history, err := schedule.NewPostgresHistory(s.db)
	if err != nil {
		return err
	}
	jobs := []schedule.Job{{
		Name: "sweepSessions", Schedule: "0 17 * * * *", LockAtMostFor: "PT10M", LockAtLeastFor: "PT10S", Run: s.sweepSessions,
	}, {
		Name: "dropDeliveredPartitions", Schedule: "0 */10 * * * *", LockAtMostFor: "PT1M", LockAtLeastFor: "PT10S", Run: s.dropDelivered,
	}}
	if s.sender != nil {
		jobs = append(jobs, schedule.Job{
			Name: "resendFailedNotifications", Schedule: s.cfg.Sending.Resend, LockAtMostFor: "PT4M", LockAtLeastFor: s.cfg.Sending.ResendAtLeast,
			Run: s.resendFailed,
		})
	}
	s.scheduler, err = schedule.NewScheduler(locker, history, jobs, schedule.SchedulerConfig{
		StopTimeout: s.cfg.DrainTimeout, Trace: newTrace, Hooks: schedule.LogHooks(s.log),
	})
	return err
}

// newTrace begins a trace for a run.
func newTrace(ctx context.Context, _ string) (context.Context, string) {
	ctx = telemetry.Tracer{}.Continue(ctx, "")
	t, _ := telemetry.TraceFrom(ctx)
	return ctx, t.ID()
}

// resendFailed is the job that sends failed notifications again. The lock spares
// work; that nothing is sent twice is up to the claims. A holder that was frozen
// and comes back late writes nothing: each transaction checks the fence.
func (s *service) resendFailed(ctx context.Context) error {
	fence, _ := lock.Fence(ctx)
	done, err := s.sender.ResendFailedNotifications(ctx, app.ResendFailed{Fence: fence, Guard: guard, Recorded: s.logResent})
	if done.Claimed > 0 || err != nil {
		s.log.InfoContext(ctx, "failed notifications sent again", "claimed", done.Claimed, "sent", done.Sent, "failed", done.Failed,
			"abandoned", done.Abandoned, "lost", done.Lost, "released", done.Released, "fence", fence)
	}
	return err
}

// logResent ties the trace of a run to those of the notifications that it took up.
func (s *service) logResent(ctx context.Context, a app.ResentAttempt) {
	line := []any{telemetry.Link(a.Trace.Parent), "notification", a.NotificationID, "attempt", a.Number, "status", a.Status}
	if a.Err != nil {
		line = append(line, "error", a.Err)
	}
	s.log.InfoContext(ctx, "notification sent again", line...)
}

// guard checks the job's fence in the transaction of the effect.
func guard(ctx context.Context, tx app.Tx) error {
	inside, ok := postgres.SQL(tx)
	if !ok {
		return errors.New("the job writes to another storage than its lock")
	}
	return lock.Guard(ctx, inside)
}

func (s *service) sweepSessions(ctx context.Context) error {
	n, err := s.access.SweepSessions(ctx)
	if n > 0 {
		s.log.InfoContext(ctx, "expired sessions removed", "sessions", n)
	}
	return err
}

// keepDelivered is for how long the outbox keeps what every relay has delivered.
const keepDelivered = 7 * 24 * time.Hour

// dropDelivered is the outbox's retention. A partition in use is left for the next
// run.
func (s *service) dropDelivered(ctx context.Context) error {
	names, err := s.store.DropPartitions(ctx, keepDelivered)
	if len(names) > 0 {
		s.log.InfoContext(ctx, "partitions of the outbox dropped", "partitions", names)
	}
	if errors.Is(err, pgstore.ErrInUse) {
		return nil
	}
	return err
}
