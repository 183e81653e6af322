package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer/inbox"
	"github.com/millrace-go/millrace/test/lab"
)

func TestInbox_LostAnswersToCommitDoNotDoubleAnEffect(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]lab.CommitFault{"reply lost": lab.LoseReply, "commit lost": lab.LoseCommit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, told := newStore(t), new(commits)
			p, db := behindProxy(t, s)
			woken := 0
			i := newInbox(t, db, inbox.Config{Hooks: told.hooks(), Committed: func() { woken++ }})
			one, many := i.Handler(effect), i.Batch(effect)
			require.NoError(t, one(newEvent("k0", 0, "warm").deliver(t.Context())))

			p.BreakNext(mode)
			require.NoError(t, one(newEvent("k1", 1, "a").deliver(t.Context())))
			require.Equal(t, 1, p.Broken())
			require.Equal(t, 2, told.last(t).Attempts)
			p.BreakNext(mode)
			require.NoError(t, many(batchOf(t.Context(), newEvent("k1", 2, "b"), newEvent("k2", 3, "c"))))
			require.Equal(t, 2, p.Broken())
			last := told.last(t)
			require.Equal(t, []int{2, 0, 2}, []int{last.Applied, last.Duplicates, last.Attempts}, "its own work is no duplicate")
			require.Equal(t, 3, woken)
			require.Equal(t, []string{"warm", "a", "b", "c"}, s.effects())
		})
	}
}

func TestInbox_AnswersWithAnErrorWhenItCannotLookUpTheCommit(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p, db := behindProxy(t, s)
	handle := newInbox(t, db, inbox.Config{Retries: -1}).Handler(effect)
	require.NoError(t, handle(newEvent("k0", 0, "warm").deliver(t.Context())))
	p.BreakNext(lab.LoseReply)
	e := newEvent("k1", 1, "a")
	require.ErrorContains(t, handle(e.deliver(t.Context())), "not answered")
	require.NoError(t, handle(e.deliver(t.Context())), "the next delivery finds out")
	require.Equal(t, []string{"warm", "a"}, s.effects())
}

// gate lets a test look at an effect while it is at work.
type gate struct{ entered, release chan struct{} }

func newGate() gate { return gate{make(chan struct{}), make(chan struct{})} }

func (g gate) effect(fail error) inbox.Effect {
	return func(ctx context.Context, tx *sql.Tx, msg *message.Message) error {
		close(g.entered)
		<-g.release
		return errors.Join(effect(ctx, tx, msg), fail)
	}
}

// within reports whether wait returned before ctx ended.
func within(ctx context.Context, wait func()) bool {
	done := make(chan struct{})
	go func() {
		wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// waiters counts the sessions of the test's database that wait for a lock.
func (s *store) waiters() int {
	return s.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)
}

func TestInbox_ASecondOwnerWaitsForTheFirst(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fail error
		want []string
	}{"which commits": {nil, []string{"a"}}, "which fails": {errPoison, []string{"a by the second"}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			e, g := newEvent("k1", 1, "a"), newGate()
			zombie, owner := newInbox(t, s.db, inbox.Config{}), newInbox(t, s.db, inbox.Config{})
			var both sync.WaitGroup
			both.Go(func() { _ = zombie.Batch(g.effect(c.fail))(batchOf(t.Context(), e)) })
			<-g.entered
			var second error
			both.Go(func() {
				e.payload = "a by the second"
				second = owner.Batch(effect)(batchOf(t.Context(), newEvent("k0", 0, "other"), e))
			})
			require.Eventually(t, func() bool { return s.waiters() == 1 }, liveness, time.Millisecond)
			require.Empty(t, s.effects())
			close(g.release)
			both.Wait()
			require.NoError(t, second)
			require.ElementsMatch(t, append(c.want, "other"), s.effects())
		})
	}
}

func TestInbox_AFrozenConsumerIsCutOffByTheServer(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	e, g := newEvent("k1", 1, "a"), newGate()
	frozen := newInbox(t, s.db, inbox.Config{IdleTimeout: 50 * time.Millisecond, Retries: -1})
	var late error
	var both sync.WaitGroup
	both.Go(func() { late = frozen.Handler(g.effect(nil))(e.deliver(t.Context())) })
	<-g.entered // it holds the row of e, and says nothing more
	ctx, cancel := context.WithTimeout(t.Context(), liveness/2)
	defer cancel()
	second := newInbox(t, s.db, inbox.Config{}).Handler(effect)(e.deliver(ctx))
	close(g.release)
	both.Wait()
	require.NoError(t, second)
	require.Error(t, late)
	require.Equal(t, []string{"a"}, s.effects())
}

func TestInbox_DeadlocksAreTriedAgain(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.exec(`CREATE TABLE purse (id text PRIMARY KEY, n int NOT NULL); INSERT INTO purse VALUES ('x', 0), ('y', 0)`)
	var met sync.WaitGroup
	met.Add(2)
	transfer := func(order ...string) inbox.Effect {
		first := true
		return func(ctx context.Context, tx *sql.Tx, _ *message.Message) error {
			for n, id := range order {
				if _, err := tx.ExecContext(ctx, `UPDATE purse SET n = n + 1 WHERE id = $1`, id); err != nil {
					return err
				}
				if n == 0 && first { // both have one row now, and want the other's
					first = false
					if met.Done(); !within(ctx, met.Wait) {
						return ctx.Err()
					}
				}
			}
			return nil
		}
	}
	told := new(commits)
	var both sync.WaitGroup
	for n, order := range [][]string{{"x", "y"}, {"y", "x"}} {
		both.Go(func() {
			i := newInbox(t, s.db, inbox.Config{Hooks: told.hooks()})
			require.NoError(t, i.Handler(transfer(order...))(newEvent("k", int64(n), "t").deliver(t.Context())))
		})
	}
	both.Wait()
	require.Equal(t, 2, s.count(`SELECT count(*) FROM purse WHERE n = 2`))
	require.Equal(t, 3, told.all[0].Attempts+told.all[1].Attempts, "one of the two was run again")
}

func TestInbox_OverlappingBatchesInAnyOrderDoNotLockEachOtherOut(t *testing.T) {
	t.Parallel()
	s, told := newStore(t), new(commits)
	var events []event
	for n := range 200 {
		events = append(events, newEvent("k", int64(n), "e"))
	}
	backward := make([]event, 0, len(events))
	for n := range events {
		backward = append(backward, events[len(events)-1-n])
	}
	var all sync.WaitGroup
	for n := range 6 {
		all.Go(func() {
			handle := newInbox(t, s.db, inbox.Config{Hooks: told.hooks(), Retries: -1}).Batch(effect)
			batch := events
			if n%2 == 1 {
				batch = backward
			}
			if err := handle(batchOf(t.Context(), batch...)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.Len(t, s.effects(), len(events))
}
