package replay_test

import (
	"context"
	"errors"
	"iter"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/replay"
)

// shelf is a History in memory: entry i has position i+1.
type shelf struct {
	entries []outbox.Entry
	stable  int64
}

func (s *shelf) Range(_ context.Context, r outbox.Range) iter.Seq2[outbox.Entry, error] {
	return s.pick(func(e *outbox.Entry) bool { return r.Lo <= e.Position && e.Position <= r.Hi })
}

func (s *shelf) ByKey(_ context.Context, topic, key string, r outbox.Range) iter.Seq2[outbox.Entry, error] {
	return s.pick(func(e *outbox.Entry) bool {
		return e.Topic == topic && e.Key == key && r.Lo <= e.Position && e.Position <= r.Hi
	})
}

func (s *shelf) ByAggregate(_ context.Context, typ, id string, version int64) iter.Seq2[outbox.Entry, error] {
	return s.pick(func(e *outbox.Entry) bool {
		return e.AggregateType == typ && e.AggregateID == id && e.AggregateVersion >= version
	})
}

func (s *shelf) pick(wanted func(*outbox.Entry) bool) iter.Seq2[outbox.Entry, error] {
	return func(yield func(outbox.Entry, error) bool) {
		for i := range s.entries {
			if wanted(&s.entries[i]) && !yield(s.entries[i], nil) {
				return
			}
		}
	}
}

// Between is as wide as can be: the Replayer has to look at the times itself.
func (s *shelf) Between(context.Context, time.Time, time.Time) (outbox.Range, error) {
	return outbox.Range{Lo: 1, Hi: int64(len(s.entries))}, nil
}

func (s *shelf) Stable(context.Context) (int64, error) { return s.stable, nil }

// sink is a publisher that keeps what it is given and fails when told to.
type sink struct {
	got   []*message.Message
	topic []string
	fail  func(calls int) error
	calls int
}

func (s *sink) Publish(topic string, msgs ...*message.Message) error {
	s.calls++
	if s.fail != nil {
		if err := s.fail(s.calls); err != nil {
			return err
		}
	}
	for _, m := range msgs {
		s.got, s.topic = append(s.got, m), append(s.topic, topic)
	}
	return nil
}

func (s *sink) Close() error { return nil }

func (s *sink) payloads() (all []string) {
	for _, m := range s.got {
		all = append(all, string(m.Payload))
	}
	return all
}

var dawn = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// newShelf has the payloads a to j, topics t0 and t1 by turns, keys k0 to k2, one
// entry a minute.
func newShelf() *shelf {
	s := &shelf{stable: 10}
	for i := range 10 {
		s.entries = append(s.entries, outbox.Entry{
			Position: int64(i + 1), CreatedAt: dawn.Add(time.Duration(i) * time.Minute),
			Message: outbox.Message{
				Topic: "t" + string(rune('0'+i%2)), Key: "k" + string(rune('0'+i%3)), Payload: []byte{byte('a' + i)},
				AggregateType: "order", AggregateID: "o" + string(rune('0'+i%5)), AggregateVersion: int64(i/5 + 1),
			},
		})
	}
	return s
}

func TestReplayer_SendsWhatIsSelected(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		sel  replay.Selection
		want []string
	}{
		"everything":         {replay.Selection{}, []string{"a", "b", "c", "d", "e", "f", "g", "h"}},
		"positions":          {replay.Selection{From: 3, To: 5}, []string{"c", "d", "e"}},
		"beyond the stop":    {replay.Selection{From: 7, To: 100}, []string{"g", "h"}},
		"behind the stop":    {replay.Selection{From: 9}, nil},
		"times":              {replay.Selection{Since: dawn.Add(2 * time.Minute), Until: dawn.Add(4 * time.Minute)}, []string{"c", "d"}},
		"topic":              {replay.Selection{Topic: "t1"}, []string{"b", "d", "f", "h"}},
		"key":                {replay.Selection{Topic: "t0", Key: "k0"}, []string{"a", "g"}},
		"aggregate":          {replay.Selection{AggregateType: "order", AggregateID: "o1"}, []string{"b", "g"}},
		"aggregate to stop":  {replay.Selection{AggregateType: "order", AggregateID: "o4"}, []string{"e"}},
		"aggregate, resumed": {replay.Selection{AggregateType: "order", AggregateID: "o1", From: 3}, []string{"g"}},
		"aggregate by topic": {replay.Selection{AggregateType: "order", AggregateID: "o1", Topic: "t0"}, []string{"g"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, out := newShelf(), &sink{}
			s.stable = 8
			r, err := replay.New(s, out, replay.Config{Select: tc.sel, ID: "r-1", Rate: -1, Batch: 3})
			require.NoError(t, err)
			res, err := r.Run(t.Context())
			require.NoError(t, err)
			require.Equal(t, tc.want, out.payloads())
			require.EqualValues(t, len(tc.want), res.Messages)
			require.True(t, res.Done)
			for i, m := range out.got {
				require.Equal(t, "r-1", m.Metadata.Get(replay.Header))
				require.NotEmpty(t, m.Metadata.Get(outbox.MetadataKey))
				require.Equal(t, "t"+string(rune('0'+(m.Payload[0]-'a')%2)), out.topic[i])
			}
		})
	}
}

func TestPlan_CountsWhatRunSends(t *testing.T) {
	t.Parallel()
	calls := 0
	cfg := replay.Config{Select: replay.Selection{From: 4}, OnProgress: func(replay.Result) { calls++ }}
	planner, err := replay.New(newShelf(), nil, cfg)
	require.NoError(t, err)
	plan, err := planner.Plan(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, plan.ID)
	require.Equal(t, replay.Result{ID: plan.ID, DryRun: true, From: 4, Stop: 10, Next: 11, Done: true, Messages: 7, First: 4, Last: 10}, plan)
	require.Positive(t, calls)
	_, err = planner.Run(t.Context())
	require.ErrorContains(t, err, "publisher: must not be nil")

	out := &sink{}
	cfg.ID = plan.ID
	r, err := replay.New(newShelf(), out, cfg)
	require.NoError(t, err)
	res, err := r.Run(t.Context())
	require.NoError(t, err)
	plan.DryRun = false
	require.Equal(t, plan, res)
	require.Len(t, out.got, 7)
}

func TestReplayer_GoesOnWhereItFailed(t *testing.T) {
	t.Parallel()
	broken := errors.New("broker is gone")
	out := &sink{fail: func(calls int) error {
		if calls == 3 {
			return broken
		}
		return nil
	}}
	cfg := replay.Config{Rate: -1, Batch: 2, ToTopic: "rebuild"}
	s := newShelf()
	r, err := replay.New(s, out, cfg)
	require.NoError(t, err)
	res, err := r.Run(t.Context())
	require.ErrorIs(t, err, broken)
	require.False(t, res.Done)
	require.EqualValues(t, 4, res.Messages)
	require.EqualValues(t, 5, res.Next)

	s.stable = 100 // what came since does not belong to it
	cfg.ID, cfg.Select.From, cfg.Select.To = res.ID, res.Next, res.Stop
	r, err = replay.New(s, out, cfg)
	require.NoError(t, err)
	res, err = r.Run(t.Context())
	require.NoError(t, err)
	require.True(t, res.Done)
	require.Equal(t, []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}, out.payloads())
	for i, m := range out.got {
		require.Equal(t, res.ID, m.Metadata.Get(replay.Header))
		require.Equal(t, "rebuild", out.topic[i])
	}
}

func TestReplayer_StopsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	out := &sink{}
	r, err := replay.New(newShelf(), out, replay.Config{
		Rate: 10, Batch: 1, OnProgress: func(res replay.Result) {
			if res.Messages == 2 {
				cancel()
			}
		},
	})
	require.NoError(t, err)
	res, err := r.Run(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.EqualValues(t, 3, res.Next)
	require.Equal(t, []string{"a", "b"}, out.payloads())
}

func TestReplayer_KeepsItsRate(t *testing.T) {
	t.Parallel()
	r, err := replay.New(newShelf(), &sink{}, replay.Config{Rate: 50})
	require.NoError(t, err)
	began := time.Now()
	_, err = r.Run(t.Context())
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(began), 190*time.Millisecond, "10 messages at 50 a second")
}

func TestNew_ReportsAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	cfg := replay.Config{
		Select: replay.Selection{From: 5, To: 3, AggregateType: "order", Key: "k", Since: dawn, Until: dawn},
		ID:     "a\x00", ToTopic: "no topic", Rate: -2, Batch: -1,
	}
	_, err := replay.New(nil, nil, cfg)
	for _, field := range []string{"Select.To:", "Select.Until:", "Select.AggregateType:", "Select.Key:", "ID:", "ToTopic:", "Rate:", "Batch:", "history:"} {
		require.ErrorContains(t, err, field)
	}
}
