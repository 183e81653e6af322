package apptest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// claimCases is the contract of app.Claims.
var claimCases = map[string]func(*testing.T, suite){
	"Claims_AreDueWhenTheirWaitIsOver":             claimsWait,
	"Claims_CarryWhatTheNextAttemptNeeds":          claimsCarry,
	"Claims_AreNeverGivenTwice":                    claimsOnce,
	"Claims_PassOverAnOpenUnitOfWork":              claimsPassOver,
	"Claims_OldestFirstUpToTheLimit":               claimsOldest,
	"Claims_ExpiredCanBeClaimedAnew":               claimsExpire,
	"Claims_ExpiredAreGoodWhileNobodyTookThem":     claimsLate,
	"Claims_AreOverOnceSettled":                    claimsSettled,
	"Claims_ReleaseGivesBackOnlyWhatIsStillHeld":   claimsRelease,
	"Claims_GroupNeverGoesBackAndTraceStays":       claimsGroup,
	"Claims_DropOfNothingIsNoError":                claimsDropNothing,
	"Claims_OfAnUnknownNotificationHaveNoStatus":   claimsUnknown,
	"Claims_ChangeNothingWhenTheUnitOfWorkFails":   claimsRollBack,
	"Claims_LeaveTheVersionOfTheNotificationAlone": claimsVersion,
}

// failed stores a notification that has failed once, scheduled with r.
func (s suite) failed(t *testing.T, r app.Retry) *notification.Notification {
	t.Helper()
	n := s.add(t)
	require.NoError(t, s.change(t.Context(), n.ID(), func(n *notification.Notification) error {
		return n.MarkFailed("busy", began)
	}))
	s.schedule(t, n.ID(), r)
	return n
}

// claims runs fn with the claims of a unit of work of its own.
func (s suite) claims(t *testing.T, fn func(ctx context.Context, c app.Claims) error) error {
	t.Helper()
	return s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error { return fn(ctx, tx.Claims()) })
}

func (s suite) schedule(t *testing.T, id notification.ID, r app.Retry) {
	t.Helper()
	require.NoError(t, s.claims(t, func(ctx context.Context, c app.Claims) error { return c.Schedule(ctx, id, r) }))
}

func (s suite) claim(t *testing.T, q app.ClaimQuery) (got []app.Claim) {
	t.Helper()
	require.NoError(t, s.claims(t, func(ctx context.Context, c app.Claims) (err error) {
		got, err = c.Claim(ctx, q)
		return err
	}))
	return got
}

func (s suite) confirm(t *testing.T, claim app.Claim) error {
	t.Helper()
	return s.claims(t, func(ctx context.Context, c app.Claims) error { return c.Confirm(ctx, claim) })
}

// until claims again and again until something is due.
func (s suite) until(t *testing.T, q app.ClaimQuery) (got []app.Claim) {
	t.Helper()
	require.Eventually(t, func() bool { got = s.claim(t, q); return len(got) > 0 }, 30*time.Second, 5*time.Millisecond)
	return got
}

var some = app.ClaimQuery{Limit: 10, Lease: time.Hour}

func claimsWait(t *testing.T, s suite) {
	s.failed(t, app.Retry{Wait: time.Hour})
	soon := s.failed(t, app.Retry{Wait: time.Hour})
	require.Empty(t, s.claim(t, some))
	s.schedule(t, soon.ID(), app.Retry{Wait: 20 * time.Millisecond})
	got := s.until(t, some)
	require.Len(t, got, 1)
	require.Equal(t, soon.ID(), got[0].ID)
}

func claimsCarry(t *testing.T, s suite) {
	trace := domain.Trace{Parent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", CorrelationID: "order-7", CausationID: "why"}
	n := s.failed(t, app.Retry{Trace: trace})
	require.Equal(t, []app.Claim{{
		ID: n.ID(), Attempt: 2, Group: 1, Trace: trace, Status: notification.StatusFailed, Content: n.State().Content,
	}}, s.claim(t, some))
}

func claimsOnce(t *testing.T, s suite) {
	const all, claimers = 30, 4
	for range all {
		s.failed(t, app.Retry{})
	}
	var mu sync.Mutex
	seen := map[notification.ID]int{}
	var ready, done sync.WaitGroup
	ready.Add(claimers)
	for range claimers {
		done.Go(func() {
			ready.Done()
			ready.Wait()
			for range all {
				var got []app.Claim
				err := s.claims(t, func(ctx context.Context, c app.Claims) (err error) {
					got, err = c.Claim(ctx, app.ClaimQuery{Limit: 3, Lease: time.Hour})
					return err
				})
				mu.Lock()
				for _, c := range got {
					seen[c.ID]++
				}
				mu.Unlock()
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done.Wait()
	for _, c := range s.claim(t, app.ClaimQuery{Limit: all, Lease: time.Hour}) {
		seen[c.ID]++ // what the last ones passed over
	}
	require.Len(t, seen, all)
	for id, times := range seen {
		require.Equal(t, 1, times, "%s", id)
	}
}

func claimsPassOver(t *testing.T, s suite) {
	s.failed(t, app.Retry{})
	s.failed(t, app.Retry{})
	first := app.ClaimQuery{Limit: 1, Lease: time.Hour}
	var mine, others []app.Claim
	require.NoError(t, s.claims(t, func(ctx context.Context, c app.Claims) (err error) {
		if mine, err = c.Claim(ctx, first); err != nil {
			return err
		}
		apart, cancel := context.WithTimeout(t.Context(), 20*time.Second) // it must not wait for this one
		defer cancel()
		return s.UnitOfWork.Do(apart, func(ctx context.Context, tx app.Tx) (err error) {
			others, err = tx.Claims().Claim(ctx, some)
			return err
		})
	}))
	require.Len(t, mine, 1)
	require.Len(t, others, 1)
	require.NotEqual(t, mine[0].ID, others[0].ID)
	require.Empty(t, s.claim(t, some))
}

func claimsOldest(t *testing.T, s suite) {
	older, newer := s.failed(t, app.Retry{Wait: -time.Minute}), s.failed(t, app.Retry{Wait: -time.Second})
	oldest := s.failed(t, app.Retry{Wait: -time.Hour})
	var got []notification.ID
	for range 3 {
		for _, c := range s.claim(t, app.ClaimQuery{Limit: 1, Lease: time.Hour}) {
			got = append(got, c.ID)
		}
	}
	require.Equal(t, []notification.ID{oldest.ID(), older.ID(), newer.ID()}, got)
}

func claimsExpire(t *testing.T, s suite) {
	s.failed(t, app.Retry{})
	short := app.ClaimQuery{Limit: 10, Lease: time.Millisecond}
	first := s.claim(t, short)
	require.Len(t, first, 1)
	second := s.until(t, some)
	require.Equal(t, first[0].Attempt+1, second[0].Attempt)
	require.Equal(t, first[0].Group, second[0].Group, "nobody knows how the first ended: the key stays")

	require.ErrorIs(t, s.confirm(t, first[0]), app.ErrClaimLost)
	require.NoError(t, s.confirm(t, second[0]))
}

func claimsLate(t *testing.T, s suite) {
	s.failed(t, app.Retry{})
	got := s.claim(t, app.ClaimQuery{Limit: 1, Lease: -time.Second})
	require.Len(t, got, 1)
	require.NoError(t, s.confirm(t, got[0]))
}

func claimsSettled(t *testing.T, s suite) {
	for name, settle := range map[string]func(context.Context, app.Claims, app.Claim) error{
		"scheduled": func(ctx context.Context, c app.Claims, held app.Claim) error {
			return c.Schedule(ctx, held.ID, app.Retry{Wait: time.Hour})
		},
		"dropped":  func(ctx context.Context, c app.Claims, held app.Claim) error { return c.Drop(ctx, held.ID) },
		"released": func(ctx context.Context, c app.Claims, held app.Claim) error { return c.Release(ctx, time.Hour, held) },
	} {
		s.failed(t, app.Retry{})
		held := s.claim(t, some)
		require.Len(t, held, 1, name)
		require.NoError(t, s.claims(t, func(ctx context.Context, c app.Claims) error {
			return errors.Join(c.Confirm(ctx, held[0]), settle(ctx, c, held[0]))
		}), name)
		require.ErrorIs(t, s.confirm(t, held[0]), app.ErrClaimLost, name)
		require.Empty(t, s.claim(t, some), name)
	}
}

func claimsRelease(t *testing.T, s suite) {
	s.failed(t, app.Retry{})
	stale := s.claim(t, app.ClaimQuery{Limit: 1, Lease: time.Millisecond})
	held := s.until(t, some)
	release := func(claims ...app.Claim) {
		require.NoError(t, s.claims(t, func(ctx context.Context, c app.Claims) error { return c.Release(ctx, 0, claims...) }))
	}
	release()
	release(stale...)
	require.NoError(t, s.confirm(t, held[0]), "a stale claim gives back nothing")
	release(append(held, stale...)...)
	again := s.until(t, some)
	require.Equal(t, held[0].Attempt+1, again[0].Attempt, "no two claims look alike")
}

func claimsGroup(t *testing.T, s suite) {
	trace := domain.Trace{CorrelationID: "order-7"}
	n := s.failed(t, app.Retry{Group: 1, Trace: trace})
	for _, step := range []struct{ give, want int }{{0, 1}, {2, 2}, {0, 2}, {1, 2}, {3, 3}} {
		s.schedule(t, n.ID(), app.Retry{Group: step.give})
		got := s.claim(t, some)
		require.Len(t, got, 1)
		require.Equal(t, step.want, got[0].Group)
		require.Equal(t, trace, got[0].Trace)
	}
	other := domain.Trace{CorrelationID: "order-8"}
	s.schedule(t, n.ID(), app.Retry{Trace: other})
	require.Equal(t, other, s.claim(t, some)[0].Trace)
}

func claimsDropNothing(t *testing.T, s suite) {
	require.NoError(t, s.claims(t, func(ctx context.Context, c app.Claims) error {
		return c.Drop(ctx, notification.ID(app.NewID()))
	}))
}

func claimsUnknown(t *testing.T, s suite) {
	id := notification.ID(app.NewID())
	s.schedule(t, id, app.Retry{})
	got := s.claim(t, some)
	require.Len(t, got, 1)
	require.Equal(t, app.Claim{ID: id, Attempt: 2, Group: 1}, got[0])
}

func claimsRollBack(t *testing.T, s suite) {
	n := s.failed(t, app.Retry{})
	err := s.claims(t, func(ctx context.Context, c app.Claims) error {
		got, err := c.Claim(ctx, some)
		if err != nil || len(got) != 1 {
			return errors.Join(err, errors.New("nothing claimed"))
		}
		return errors.Join(c.Drop(ctx, n.ID()), errRefused)
	})
	require.ErrorIs(t, err, errRefused)
	got := s.claim(t, some)
	require.Len(t, got, 1)
	require.Equal(t, 2, got[0].Attempt)
}

func claimsVersion(t *testing.T, s suite) {
	n := s.failed(t, app.Retry{})
	before, err := s.get(t, n.ID())
	require.NoError(t, err)
	held := s.claim(t, some)
	require.NoError(t, s.claims(t, func(ctx context.Context, c app.Claims) error { return c.Release(ctx, 0, held...) }))
	after, err := s.get(t, n.ID())
	require.NoError(t, err)
	require.Equal(t, before.State(), after.State(), "versions count events, and a claim is none")
}
