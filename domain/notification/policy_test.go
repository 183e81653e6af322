package notification_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

func TestPolicy_WaitsAMinuteAndDoubles(t *testing.T) {
	t.Parallel()
	var p notification.Policy
	for i, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute} {
		require.Equal(t, want, p.Wait(i+1))
	}
	require.Equal(t, 24*time.Hour, p.Wait(1000), "bounded, without overflow")
	require.Equal(t, 40*time.Millisecond, notification.Policy{First: 10 * time.Millisecond}.Wait(3))
}

func TestFail_AbandonsAfterTheLastAttempt(t *testing.T) {
	t.Parallel()
	n := requested(t)
	for i := range notification.DefaultMaxAttempts - 1 {
		require.NoError(t, n.Fail(notification.Failure{Reason: "busy"}, notification.Policy{}, start))
		require.Equal(t, notification.StatusFailed, n.Status(), "attempt %d", i+1)
	}
	require.NoError(t, n.Fail(notification.Failure{Reason: "busy"}, notification.Policy{}, start))
	require.Equal(t, notification.StatusAbandoned, n.Status())
	require.Equal(t, "gave up after 5 attempts: busy", n.State().Reason)
	require.Equal(t, 5, n.State().Attempts)
	require.EqualValues(t, 7, n.Version(), "requested, five times failed, abandoned")
	require.ErrorIs(t, n.Fail(notification.Failure{Reason: "busy"}, notification.Policy{}, start), domain.ErrIllegalAct)
}

func TestFail_AbandonsAtOnceWhatCannotSucceed(t *testing.T) {
	t.Parallel()
	n := requested(t)
	require.NoError(t, n.Fail(notification.Failure{Reason: "no such number", Final: true}, notification.Policy{}, start))
	require.Equal(t, notification.StatusAbandoned, n.Status())
	require.Equal(t, "no such number", n.State().Reason)
	require.Equal(t, 1, n.State().Attempts)
}

func TestFail_RefusesABlankReasonAndChangesNothing(t *testing.T) {
	t.Parallel()
	n := requested(t)
	require.ErrorIs(t, n.Fail(notification.Failure{Reason: " ", Final: true}, notification.Policy{}, start), domain.ErrInvalid)
	require.EqualValues(t, 1, n.Version())
}

func TestReasonText_IsAlwaysFitToBeAReason(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", " \n", "busy", "nul\x00inside", "bad \xff byte", strings.Repeat("é", notification.MaxReason), strings.Repeat("x", 5000)} {
		got := notification.ReasonText(text)
		require.LessOrEqual(t, len(got), notification.MaxReason)
		require.True(t, utf8.ValidString(got))
		require.NoError(t, requested(t).MarkFailed(got, start), "%q", text)
	}
	require.Equal(t, "busy", notification.ReasonText("busy"))
}

func TestMarkRead_IsForWhatWasSentAndOnce(t *testing.T) {
	t.Parallel()
	n := requested(t)
	require.ErrorIs(t, n.MarkRead(start), domain.ErrIllegalAct)
	require.NoError(t, n.MarkSent(start))
	require.NoError(t, n.MarkRead(start.Add(time.Second)))
	require.Equal(t, domain.Time(start.Add(time.Second)), n.State().ReadAt)
	require.Equal(t, notification.StatusSent, n.Status())
	require.EqualValues(t, 3, n.Version())

	require.NoError(t, n.MarkRead(start.Add(time.Hour)))
	require.EqualValues(t, 3, n.Version(), "reading again is no news")
	require.ErrorIs(t, n.MarkFailed("late", start), domain.ErrIllegalAct)
}
