package pgstore_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
)

// TestDropPartitions_NeverHoldsWritersUp drops, again and again, while one write
// transaction stays open: each try must give up, and other writers must not wait
// much longer than its 50 ms. The slack is for a busy machine.
func TestDropPartitions_NeverHoldsWritersUp(t *testing.T) {
	t.Parallel()
	s := newSubject(t, true)
	smallPartitions(t, s.db)
	fillLog(t, s.db, leafSize, time.Hour)
	setCursor(t, s.db, "a", outbox.Cursor{Position: leafSize})
	tx, err := s.db.Begin()
	require.NoError(t, err)
	require.NoError(t, s.writer.Append(t.Context(), tx, outbox.Message{Topic: "t", Key: "long"}))

	const tries = 10
	stop := make(chan struct{})
	var slowest time.Duration
	var writers errgroup.Group
	writers.Go(func() error {
		for {
			select {
			case <-stop:
				return nil
			default:
			}
			began := time.Now()
			if err := appendOne(t.Context(), s, uuid.New()); err != nil {
				return err
			}
			slowest = max(slowest, time.Since(began))
		}
	})
	for range tries {
		names, err := s.DropPartitions(t.Context(), time.Minute)
		require.ErrorIs(t, err, pgstore.ErrInUse)
		require.Empty(t, names)
	}
	close(stop)
	require.NoError(t, writers.Wait())
	t.Logf("slowest write beside %d tries: %s", tries, slowest)
	require.Less(t, slowest, 30*time.Second, "a write waits for no transaction that stays open; 50 ms is the promise on a quiet machine")

	require.NoError(t, tx.Commit())
	names, err := s.DropPartitions(t.Context(), time.Minute)
	require.NoError(t, err)
	require.Equal(t, []string{"outbox_p0"}, names)
}

func appendOne(ctx context.Context, s subject, id uuid.UUID) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := s.writer.Append(ctx, tx, outbox.Message{ID: id, Topic: "t", Key: "k"}); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// TestDropPartitions_ReaderGoesOnWithoutLoss lets a session read, with its
// prepared generic plans, while partitions are made and dropped around it.
func TestDropPartitions_ReaderGoesOnWithoutLoss(t *testing.T) {
	t.Parallel()
	s := newSubject(t, true)
	s.db.SetMaxOpenConns(12)
	smallPartitions(t, s.db)
	session, err := s.Acquire(t.Context(), "a", "me", time.Hour)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, session.Release(context.Background())) })

	const writers, each = 4, 3000
	var written errgroup.Group
	var writing atomic.Int32
	for range writers {
		writing.Add(1)
		written.Go(func() error {
			defer writing.Add(-1)
			for range each / 10 {
				tx, err := s.db.BeginTx(t.Context(), nil)
				if err != nil {
					return err
				}
				msgs := make([]outbox.Message, 10)
				for i := range msgs {
					msgs[i] = outbox.Message{Topic: "t", Key: "k"}
				}
				if err := s.writer.Append(t.Context(), tx, msgs...); err != nil {
					return errors.Join(err, tx.Rollback())
				}
				if err := tx.Commit(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	dropped, stop := 0, make(chan struct{})
	var upkeep errgroup.Group
	upkeep.Go(func() error {
		for {
			names, err := s.DropPartitions(t.Context(), 0)
			dropped += len(names)
			if err != nil && !errors.Is(err, pgstore.ErrInUse) {
				return err
			}
			_, err = s.db.ExecContext(t.Context(), `SELECT outbox_make_partitions(4, $1)`, leafSize)
			if err != nil && !locked(err) {
				return err
			}
			select {
			case <-stop:
				return nil
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	seen := map[uuid.UUID]bool{}
	for last := false; ; {
		batch, err := session.Read(t.Context(), 500, 1<<20)
		require.NoError(t, err)
		for _, e := range batch.Entries {
			require.False(t, seen[e.ID], "delivered twice")
			seen[e.ID] = true
		}
		if batch.Moved {
			require.NoError(t, session.Save(t.Context(), outbox.Checkpoint{Cursor: batch.Cursor}))
		}
		if last && len(batch.Entries) == 0 {
			break
		}
		last = writing.Load() == 0
	}
	close(stop)
	require.NoError(t, written.Wait())
	require.NoError(t, upkeep.Wait())
	require.Len(t, seen, writers*each)
	t.Logf("%d partitions dropped meanwhile", dropped)
	require.Greater(t, dropped, 3)
}

func locked(err error) bool { return pq.As(err, pqerror.LockNotAvailable) != nil }
