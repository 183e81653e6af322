package notification_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

const id notification.ID = "01890a5d-ac96-774b-bcce-b302099a8057"

var (
	start   = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	content = notification.Content{Recipient: "ada", Channel: notification.Email, Subject: "Hello", Body: "World"}
)

func requested(t *testing.T) *notification.Notification {
	t.Helper()
	n, err := notification.Request(id, content, start)
	require.NoError(t, err)
	return n
}

func TestRequest_StartsAtVersionOneWithOneEvent(t *testing.T) {
	t.Parallel()
	n := requested(t)

	require.Equal(t, notification.StatusRequested, n.Status())
	require.EqualValues(t, 1, n.Version())
	require.EqualValues(t, 0, n.Stored())
	require.Len(t, n.Pending(), 1)
	require.Equal(t, "Requested", n.Pending()[0].EventName())
	require.Equal(t, start.Truncate(time.Microsecond), n.State().RequestedAt)
}

func TestRequest_NamesEveryWrongField(t *testing.T) {
	t.Parallel()
	_, err := notification.Request("x", notification.Content{
		Recipient: strings.Repeat("r", notification.MaxRecipient+1),
		Channel:   "pigeon",
		Subject:   " \n",
		Body:      "nul\x00",
	}, start)

	require.ErrorIs(t, err, domain.ErrInvalid)
	var invalid *domain.ValidationError
	require.ErrorAs(t, err, &invalid)
	var names []string
	for _, f := range invalid.Fields {
		names = append(names, f.Field)
	}
	require.Equal(t, []string{"id", "recipient", "channel", "subject", "body"}, names)
}

func TestParseID_TakesUUIDsOnly(t *testing.T) {
	t.Parallel()
	got, err := notification.ParseID(strings.ToUpper(string(id)))
	require.NoError(t, err)
	require.Equal(t, id, got)

	for _, bad := range []string{"", "1", strings.Repeat("-", 36), string(id) + "0", strings.Replace(string(id), "a", "g", 1)} {
		_, err := notification.ParseID(bad)
		require.ErrorIs(t, err, domain.ErrInvalid, "%q", bad)
	}
}

func TestActs_AreAllowedOnlyWhileNotFinal(t *testing.T) {
	t.Parallel()
	acts := map[string]func(*notification.Notification) error{
		"mark sent":   func(n *notification.Notification) error { return n.MarkSent(start) },
		"mark failed": func(n *notification.Notification) error { return n.MarkFailed("no route", start) },
		"abandon":     func(n *notification.Notification) error { return n.Abandon("asked to", start) },
	}
	after := map[string][]string{
		"requested": nil,
		"failed":    {"mark failed"},
		"sent":      {"mark sent"},
		"abandoned": {"mark failed", "abandon"},
	}
	for state, path := range after {
		for name, act := range acts {
			n := requested(t)
			for _, step := range path {
				require.NoError(t, acts[step](n))
			}
			before, version := n.State(), n.Version()
			err := act(n)
			if state == "requested" || state == "failed" {
				require.NoError(t, err, "%s when %s", name, state)
				require.Equal(t, version+1, n.Version())
				continue
			}
			var illegal *domain.IllegalActError
			require.ErrorAs(t, err, &illegal, "%s when %s", name, state)
			require.ErrorIs(t, err, domain.ErrIllegalAct)
			require.Equal(t, domain.IllegalActError{Aggregate: "notification", ID: string(id), Act: name, State: state}, *illegal)
			require.Equal(t, before, n.State(), "a refused act changes nothing")
		}
	}
}

func TestActs_RefuseABlankReason(t *testing.T) {
	t.Parallel()
	n := requested(t)
	for _, err := range []error{n.MarkFailed(" ", start), n.Abandon("", start)} {
		var invalid *domain.ValidationError
		require.ErrorAs(t, err, &invalid)
		require.Equal(t, "reason", invalid.Fields[0].Field)
	}
	require.EqualValues(t, 1, n.Version())
}

func TestActs_TimeNeverRunsBackwards(t *testing.T) {
	t.Parallel()
	n := requested(t)
	require.NoError(t, n.MarkFailed("slow clock", start.Add(-time.Hour)))
	require.Equal(t, n.State().RequestedAt, n.State().ChangedAt)
}

// The fold of the events must be the state, whatever was done: both go through
// the same apply, and this keeps it so.
func TestFold_EqualsStateForRandomHistories(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for run := range 500 {
		n := requested(t)
		history := n.Pending()
		for range rng.IntN(12) {
			before := n.Version()
			step(rng, n, start.Add(time.Duration(rng.Int64N(int64(time.Hour)))))
			if n.Version() > before {
				pending := n.Pending()
				history = append(history, pending[len(pending)-1])
			}
			if rng.IntN(3) == 0 { // stored and read back in between
				n.Settle(time.Time{}, time.Time{})
				n = notification.FromState(n.State())
			}
		}
		folded, err := notification.FromHistory(id, history)
		require.NoError(t, err)
		require.Equal(t, n.State(), folded.State(), "run %d", run)
		require.Len(t, history, int(n.Version()))
	}
}

func step(rng *rand.Rand, n *notification.Notification, at time.Time) {
	switch rng.IntN(7) {
	case 0:
		_ = n.MarkSent(at) // may be illegal: then nothing happens
	case 1:
		_ = n.Abandon(fmt.Sprintf("reason %d", rng.IntN(9)), at)
	case 2:
		_ = n.MarkRead(at)
	default:
		_ = n.MarkFailed(fmt.Sprintf("reason %d", rng.IntN(9)), at)
	}
}

func TestFromHistory_RefusesWhatIsNoHistory(t *testing.T) {
	t.Parallel()
	first := requested(t).Pending()[0]
	for name, events := range map[string][]domain.Event{
		"empty":              nil,
		"starts too late":    {notification.Sent{}},
		"requested twice":    {first, first},
		"a foreign event":    {first, foreign{}},
		"foreign from start": {foreign{}},
	} {
		_, err := notification.FromHistory(id, events)
		require.Error(t, err, name)
	}
}

type foreign struct{}

func (foreign) EventName() string     { return "Foreign" }
func (foreign) OccurredAt() time.Time { return start }
