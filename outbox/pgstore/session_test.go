package pgstore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
)

// TestSession_ServesAllItsCallersAtOnce calls everything that a leader calls
// beside reading from goroutines of its own, as a leader does: they share a
// connection, on which answers must not be mixed up.
func TestSession_ServesAllItsCallersAtOnce(t *testing.T) {
	t.Parallel()
	s := newSubject(t, true)
	smallPartitions(t, s.db)
	store := newStore(t, s.db, pgstore.Config{Retention: time.Minute})
	fillLog(t, s.db, 3*leafSize, time.Hour)
	session, err := store.Acquire(t.Context(), "a", "me", time.Hour)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, session.Release(context.Background())) })

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var work errgroup.Group
	often := func(what string, call func() error) {
		work.Go(func() error {
			for ctx.Err() == nil {
				if err := call(); err != nil {
					return fmt.Errorf("%s: %w", what, err)
				}
			}
			return nil
		})
	}
	cursor := outbox.Cursor{Position: 2 * leafSize}
	often("save", func() error { return session.Save(t.Context(), outbox.Checkpoint{Cursor: cursor}) })
	often("park", func() error {
		return session.Save(t.Context(), outbox.Checkpoint{Cursor: cursor, Parked: []outbox.Parked{
			{Position: 2*leafSize - 1, ParkedKey: outbox.ParkedKey{Topic: "t", Key: "k"}, Reason: "r"},
		}})
	})
	often("renew", func() error { return session.Renew(t.Context(), time.Hour) })
	often("maintain", func() error { return session.(outbox.Maintainer).Maintain(t.Context()) })
	often("due", func() error { _, err := session.(outbox.Reconsiderer).Due(t.Context()); return err })
	often("reconsidered", func() error { return session.(outbox.Reconsiderer).Reconsidered(t.Context(), nil, nil) })
	require.NoError(t, work.Wait())
}
