package deadletter_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// memoryTopic is a dead-letter topic in memory.
type memoryTopic struct {
	messages  map[int32][]storedMessage
	low       map[int32]int64
	metadata  map[int32]string
	commits   int
	failAfter int // commits; 0 is never
}

type storedMessage struct {
	rec   *record.Record
	value []byte
}

func (s *memoryTopic) Bounds(context.Context, string) (first, end map[int32]int64, err error) {
	first, end = map[int32]int64{}, map[int32]int64{}
	for p, ls := range s.messages {
		first[p], end[p] = ls[0].rec.Offset, ls[len(ls)-1].rec.Offset+1
	}
	return first, end, nil
}

func (s *memoryTopic) Read(_ context.Context, _ string, p int32, from, to int64, fn func(*record.Record, []byte) error) error {
	for _, l := range s.messages[p] {
		if l.rec.Offset >= from && l.rec.Offset < to {
			if err := fn(l.rec, l.value); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *memoryTopic) Progress(context.Context, string, string) (map[int32]int64, map[int32]string, error) {
	return maps.Clone(s.low), maps.Clone(s.metadata), nil
}

func (s *memoryTopic) Commit(ctx context.Context, _, _ string, p int32, offset int64, metadata string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.commits++; s.failAfter > 0 && s.commits > s.failAfter {
		return errDown
	}
	if s.low == nil {
		s.low, s.metadata = map[int32]int64{}, map[int32]string{}
	}
	s.low[p], s.metadata[p] = offset, metadata
	return nil
}

// newMemoryTopic holds n real dead letters in each of 2 partitions; key k-<i%3>.
func newMemoryTopic(t *testing.T, n int, disposition func(i int) error) *memoryTopic {
	t.Helper()
	s := &memoryTopic{messages: map[int32][]storedMessage{}}
	for p := range int32(2) {
		for i := range n {
			rec := newRecord(header("event-id", fmt.Sprintf("e-%d-%d", p, i)), header("own", "\x00\xff"), header("own", "2"))
			rec.Partition, rec.Offset, rec.Key = p, int64(1000+i), fmt.Appendf(nil, "k-%d", i%3)
			dead := deadLetterOf(t, rec, disposition(i))
			s.messages[p] = append(s.messages[p], storedMessage{
				rec:   &record.Record{Topic: dlt, Partition: p, Offset: int64(10 + i), Key: dead.Key, Headers: dead.Headers},
				value: fmt.Appendf(nil, "value %d %d", p, i),
			})
		}
	}
	return s
}

func exhausted(int) error { return errDown }

func TestPreview_CountsAndChangesNothing(t *testing.T) {
	t.Parallel()
	want := map[deadletter.Action]deadletter.Result{
		deadletter.ActionReplay: {Replayed: 20}, deadletter.ActionSkip: {Skipped: 20},
		deadletter.ActionDiscard: {Discarded: 20}, deadletter.ActionPark: {Parked: 20},
	}
	for action, want := range want {
		t.Run(string(action), func(t *testing.T) {
			t.Parallel()
			s, k := newMemoryTopic(t, 10, exhausted), &memoryLog{}
			got, err := deadletter.Preview(t.Context(), action, dlt, s, deadletter.Config{AuditLog: k})
			require.NoError(t, err)
			require.NotEmpty(t, got.ID)
			want.ID, want.Action, want.Preview, want.Total, want.Scanned, want.Open = got.ID, action, true, 20, 20, 20
			require.Equal(t, want, got)
			require.Zero(t, s.commits)
			require.Empty(t, k.operations)
		})
	}
	_, err := deadletter.Preview(t.Context(), "burn", dlt, newMemoryTopic(t, 1, exhausted), deadletter.Config{})
	require.ErrorContains(t, err, `action: must be replay, skip, discard or park, is "burn"`)
}

func TestReplay_SendsTheOriginalBytesToTheFailedGroup(t *testing.T) {
	t.Parallel()
	s, b := newMemoryTopic(t, 10, exhausted), &broker{}
	cfg := deadletter.Config{Rate: -1, ID: "replay-1"}
	got, err := deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.NoError(t, err)
	require.Equal(t, deadletter.Result{ID: "replay-1", Action: deadletter.ActionReplay, Total: 20, Scanned: 20, Open: 20, Replayed: 20}, got)

	records := b.All()
	require.Len(t, records, 20)
	for n, r := range records {
		p, i := int32(n/10), n%10
		require.Equal(t, topic, r.Topic)
		require.Equal(t, p, r.Partition)
		require.Equal(t, fmt.Sprintf("k-%d", i%3), string(r.Key))
		require.Equal(t, fmt.Sprintf("value %d %d", p, i), string(r.Value))
		require.Equal(t, []record.Header{header("event-id", fmt.Sprintf("e-%d-%d", p, i)), header("own", "\x00\xff"), header("own", "2")}, r.Headers[:3])
		require.Equal(t, []record.Header{header("dlt-replay-count", "1"), header("dlt-replay-id", "replay-1"), header("dlt-target-group", group)},
			r.Headers[len(r.Headers)-3:])
		require.Equal(t, 1, r.Count("kafka_dlt-original-offset"))
		for _, h := range r.Headers {
			require.False(t, strings.Contains(h.Key, "exception") || h.Key == "dlt-failed-at" || h.Key == "dlt-disposition", h.Key)
		}
	}
}

func TestReplay_SendsNothingTwice(t *testing.T) {
	t.Parallel()
	s, b := newMemoryTopic(t, 30, exhausted), &broker{}
	cfg := deadletter.Config{Rate: -1, Filter: deadletter.Filter{Key: []byte("k-1")}}
	first, err := deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.NoError(t, err)
	require.Equal(t, 20, first.Replayed)
	require.Equal(t, 40, first.Filtered)

	cfg.Filter, cfg.Max = deadletter.Filter{}, 15
	second, err := deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.NoError(t, err)
	require.Equal(t, 15, second.Replayed)
	require.Equal(t, 25, second.Filtered)

	cfg.Max = 0
	third, err := deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.NoError(t, err)
	require.Equal(t, 25, third.Replayed)

	require.Equal(t, map[int32]int64{0: 40, 1: 40}, s.low, "what is all done needs no pieces")
	require.Equal(t, map[int32]string{0: "", 1: ""}, s.metadata)

	last, err := deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.NoError(t, err)
	require.Zero(t, last.Open)
	ids := map[string]int{}
	for _, r := range b.All() {
		ids[r.Header("event-id")]++
	}
	require.Len(t, ids, 60)
	require.Len(t, b.All(), 60)

	replayed := 0
	require.NoError(t, deadletter.List(t.Context(), dlt, s, cfg, func(m deadletter.Message) error {
		if m.State == deadletter.StateResolved {
			replayed++
		}
		return nil
	}))
	require.Equal(t, 60, replayed)
}

func TestReplay_ResumesAfterACrash(t *testing.T) {
	t.Parallel()
	s, b := newMemoryTopic(t, 30, exhausted), &broker{}
	s.failAfter = 3
	cfg := deadletter.Config{Rate: 100} // ten to a batch
	_, err := deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.ErrorIs(t, err, errDown)
	s.failAfter = 0
	cfg.Rate = -1
	_, err = deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.NoError(t, err)
	ids := map[string]int{}
	for _, r := range b.All() {
		ids[r.Header("event-id")]++
	}
	require.Len(t, ids, 60)
	require.LessOrEqual(t, len(b.All()), 70, "at most the batch whose commit failed is sent twice")
}

// with replaces a header of dead letter i of partition 0.
func (s *memoryTopic) with(i int, name, value string) {
	rec := s.messages[0][i].rec
	rec.Headers = append(slices.DeleteFunc(rec.Headers, func(h record.Header) bool { return h.Key == name }), header(name, value))
}

// refuser is a broker that does not take the records of one event.
func refuser(id, reason string) *broker {
	return &broker{Judge: func(s sent) error {
		if s.Header("event-id") == id {
			return outbox.Unpublishable(reason, nil)
		}
		return nil
	}}
}

// eventIDs are the events that came, by their first coming.
func eventIDs(b *broker) (ids []string) {
	for _, r := range b.All() {
		if id := strings.TrimPrefix(r.Header("event-id"), "e-"); !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

func TestReplay_LeavesWhatItMustNotSend(t *testing.T) {
	t.Parallel()
	s, b := newMemoryTopic(t, 5, exhausted), &broker{}
	delete(s.messages, 1)
	s.with(1, "kafka_dlt-original-topic", "payments.v1")
	s.with(4, "dlt-value-omitted", "2000000")
	cfg := deadletter.Config{Rate: -1, ID: "x"}
	want := deadletter.Result{ID: "x", Action: deadletter.ActionReplay, Total: 5, Scanned: 5, Open: 5, Replayed: 3, Refused: 2}
	got, err := deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, []string{"0-0", "0-2", "0-3"}, eventIDs(b))

	cfg.Targets = []string{topic, "payments.v1"}
	got, err = deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.NoError(t, err)
	require.Equal(t, 2, got.Open, "what was left can be replayed later")
	require.Equal(t, 1, got.Replayed)
	require.Equal(t, "payments.v1", b.All()[3].Topic)
}

func TestReplay_StopsThePartitionAtADeadLetterTheBrokerRefuses(t *testing.T) {
	t.Parallel()
	s, b := newMemoryTopic(t, 600, exhausted), refuser("e-0-2", "message too large")
	s.messages[1] = s.messages[1][:3]
	cfg := deadletter.Config{Rate: -1}
	got, err := deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.NoError(t, err)
	require.Equal(t, []string{"0-0", "0-1", "1-0", "1-1", "1-2"}, eventIDs(b))
	require.Equal(t, 5, got.Replayed)
	require.Equal(t, 1, got.Refused)
	require.Positive(t, got.Held)
	require.Len(t, got.Stopped, 1)
	require.Equal(t, int64(12), got.Stopped[0].Offset)
	require.Contains(t, got.Stopped[0].Reason, "message too large")

	b.Judge = nil
	got, err = deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.NoError(t, err)
	require.Equal(t, []string{"0-2", "0-3", "0-4", "0-5"}, eventIDs(b)[5:9], "in the order of the topic")
	require.Equal(t, 598, got.Replayed)
}

func TestReplay_ByKeyHoldsBackTheKeyAlone(t *testing.T) {
	t.Parallel()
	s, b := newMemoryTopic(t, 9, exhausted), refuser("e-0-2", "message too large") // keys k-0, k-1, k-2 by turns
	delete(s.messages, 1)
	s.with(4, "kafka_dlt-original-topic", "payments.v1") // of k-1
	cfg := deadletter.Config{Rate: -1, ByKey: true}
	got, err := deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.NoError(t, err)
	require.Equal(t, []string{"0-0", "0-1", "0-3", "0-6"}, eventIDs(b))
	require.Equal(t, 2, got.Refused)
	require.Equal(t, 3, got.Held)
	require.Empty(t, got.Stopped)
}

func TestReplay_ParksWhatWasReplayedTooOften(t *testing.T) {
	t.Parallel()
	s, b := newMemoryTopic(t, 4, exhausted), &broker{}
	delete(s.messages, 1)
	s.with(1, "dlt-replay-count", "3")
	cfg := deadletter.Config{Rate: -1, Actor: "me"}
	got, err := deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.NoError(t, err)
	require.Equal(t, 3, got.Replayed)
	require.Equal(t, 1, got.Parked)
	parked := b.All()[3]
	require.Equal(t, topic+".parking", parked.Topic)
	require.Equal(t, "me", parked.Header("dlt-parked-by"))
	require.Equal(t, "replayed too often", parked.Header("dlt-parked-note"))
	require.Equal(t, dlt+"/0/11", parked.Header("dlt-parked-from"))
	require.Equal(t, errDown.Error(), parked.Header("kafka_dlt-exception-message"))

	s = newMemoryTopic(t, 4, exhausted)
	s.with(1, "dlt-replay-count", "3")
	b = &broker{Judge: func(s sent) error {
		if s.Topic != topic {
			return outbox.Unpublishable("unknown topic", nil)
		}
		return nil
	}}
	got, err = deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.NoError(t, err)
	require.Equal(t, 7, got.Replayed)
	require.Equal(t, 1, got.Capped, "without a parking topic it stays")
	require.Equal(t, map[int32]int64{0: 11, 1: 14}, s.low)
}

func TestReplay_CanTargetAllGroups(t *testing.T) {
	t.Parallel()
	s, b := newMemoryTopic(t, 1, exhausted), &broker{}
	_, err := deadletter.Replay(t.Context(), dlt, s, b, deadletter.Config{Rate: -1, AllGroups: true})
	require.NoError(t, err)
	require.Zero(t, b.All()[0].Count("dlt-target-group"))
}

func TestReplay_ReadsWhatSpringKafkaWrote(t *testing.T) {
	t.Parallel()
	spring := []record.Header{
		header("kafka_dlt-exception-fqcn", "org.springframework.kafka.listener.ListenerExecutionFailedException"),
		header("kafka_dlt-exception-message", "Listener failed"),
		header("kafka_dlt-original-topic", topic),
		header("kafka_dlt-original-partition", "\x00\x00\x00\x02"),
		header("kafka_dlt-original-offset", "\x00\x00\x00\x00\x00\x00\x00\x07"),
		header("kafka_dlt-original-consumer-group", "java"),
	}
	rec := &record.Record{Topic: dlt, Partition: 0, Offset: 0, Headers: spring, Timestamp: time.UnixMilli(5)}
	s, b := &memoryTopic{messages: map[int32][]storedMessage{0: {{rec: rec}}}}, &broker{}
	l, bad := deadletter.Parse(rec, nil)
	require.Empty(t, bad)
	require.Equal(t, int64(7), l.OriginalOffset)
	require.Equal(t, "java", l.Group)
	require.Equal(t, time.UnixMilli(5), l.FailedAt)
	_, err := deadletter.Replay(t.Context(), dlt, s, b, deadletter.Config{})
	require.NoError(t, err)
	got := b.All()[0]
	require.Equal(t, int32(2), got.Partition)
	require.Equal(t, "java", got.Header("dlt-target-group"))
	require.Nil(t, got.Value, "a tombstone stays one")
}

func TestReplay_KeepsToItsRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, b := newMemoryTopic(t, 100, exhausted), &broker{}
		begin := time.Now()
		var steps []deadletter.Result
		_, err := deadletter.Replay(t.Context(), dlt, s, b, deadletter.Config{
			OnProgress: func(r deadletter.Result) { steps = append(steps, r) },
		})
		require.NoError(t, err)
		require.InDelta(t, 200.0/50, time.Since(begin).Seconds(), 0.2)
		require.Equal(t, 200, steps[len(steps)-1].Replayed)
		require.Equal(t, int64(5), steps[0].Scanned)
	})
}

func TestReplay_StopsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, b := newMemoryTopic(t, 100, exhausted), &broker{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		got, err := deadletter.Replay(ctx, dlt, s, b, deadletter.Config{})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.InDelta(t, 50, got.Replayed, 10)
		require.Len(t, b.All(), got.Replayed)
	})
}

func TestReplay_HoldsItsLock(t *testing.T) {
	t.Parallel()
	s, b := newMemoryTopic(t, 1, exhausted), &broker{}
	locked, errBusy := 0, errors.New("another replay runs")
	cfg := deadletter.Config{Lock: func(context.Context) (func(), error) {
		if locked > 0 {
			return nil, errBusy
		}
		locked++
		return func() {}, nil
	}}
	_, err := deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.NoError(t, err)
	_, err = deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.ErrorIs(t, err, errBusy)
	_, err = deadletter.Preview(t.Context(), deadletter.ActionReplay, dlt, s, cfg)
	require.NoError(t, err, "a preview needs no lock")
}

func TestReplay_ReportsAllBadFieldsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := deadletter.Replay(t.Context(), "a b", nil, nil, deadletter.Config{
		Rate: -2, Max: -1, MaxReplays: -1, Targets: []string{"c d"}, Filter: deadletter.Filter{States: []deadletter.State{"parked"}},
		AuditLog: &memoryLog{},
	})
	for _, want := range []string{
		`topic: must be the name of a topic, is "a b"`, "Source: must be set", "reader: must be set", "publisher: must be set",
		"Rate: must be positive or -1, is -2", "Max: must not be negative, is -1", "MaxReplays: must not be negative, is -1",
		`Targets: must be names of topics, is "c d"`, "Filter.States: must be", "Actor: must be set",
	} {
		require.ErrorContains(t, err, want)
	}
	_, err = deadletter.Replay(t.Context(), "dead", &memoryTopic{}, &broker{}, deadletter.Config{Source: "dead"})
	require.ErrorContains(t, err, `must not be the dead-letter topic itself, is "dead"`)
}

func TestFilter_ChoosesByEachField(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	l := deadletter.Message{
		Record: &record.Record{Partition: 2, Offset: 50, Key: []byte("k")},
		Group:  "views", Disposition: deadletter.DispositionFatal, FailedAt: at, ErrorType: "*pq.Error", Error: "no such row 17",
	}
	for name, c := range map[string]struct {
		match, miss deadletter.Filter
	}{
		"partition":   {deadletter.Filter{Partitions: []int32{1, 2}}, deadletter.Filter{Partitions: []int32{1}}},
		"from":        {deadletter.Filter{FromOffset: 50}, deadletter.Filter{FromOffset: 51}},
		"to":          {deadletter.Filter{ToOffset: 51}, deadletter.Filter{ToOffset: 50}},
		"key":         {deadletter.Filter{Key: []byte("k")}, deadletter.Filter{Key: []byte{}}},
		"group":       {deadletter.Filter{Group: "views"}, deadletter.Filter{Group: "sender"}},
		"disposition": {deadletter.Filter{Dispositions: []deadletter.Disposition{"panic", "fatal"}}, deadletter.Filter{Dispositions: []deadletter.Disposition{"panic"}}},
		"error":       {deadletter.Filter{Error: "such row"}, deadletter.Filter{Error: "timeout"}},
		"error type":  {deadletter.Filter{Error: "pq."}, deadletter.Filter{Error: "pgx."}},
		"pattern":     {deadletter.Filter{ErrorPattern: regexp.MustCompile(`row \d+$`)}, deadletter.Filter{ErrorPattern: regexp.MustCompile(`^row`)}},
		"since":       {deadletter.Filter{Since: at}, deadletter.Filter{Since: at.Add(1)}},
		"until":       {deadletter.Filter{Until: at.Add(1)}, deadletter.Filter{Until: at}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.True(t, c.match.Matches(&l))
			require.False(t, c.miss.Matches(&l))
		})
	}
}
