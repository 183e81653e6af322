package consumer_test

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

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// shelf is a dead-letter topic in memory.
type shelf struct {
	letters   map[int32][]letter
	low       map[int32]int64
	metadata  map[int32]string
	commits   int
	failAfter int // commits; 0 is never
}

type letter struct {
	rec   *record.Record
	value []byte
}

func (s *shelf) Bounds(context.Context, string) (first, end map[int32]int64, err error) {
	first, end = map[int32]int64{}, map[int32]int64{}
	for p, ls := range s.letters {
		first[p], end[p] = ls[0].rec.Offset, ls[len(ls)-1].rec.Offset+1
	}
	return first, end, nil
}

func (s *shelf) Read(_ context.Context, _ string, p int32, from, to int64, fn func(*record.Record, []byte) error) error {
	for _, l := range s.letters[p] {
		if l.rec.Offset >= from && l.rec.Offset < to {
			if err := fn(l.rec, l.value); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *shelf) Progress(context.Context, string, string) (map[int32]int64, map[int32]string, error) {
	return maps.Clone(s.low), maps.Clone(s.metadata), nil
}

func (s *shelf) Commit(ctx context.Context, _, _ string, p int32, offset int64, metadata string) error {
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

// newShelf holds n real dead letters in each of 2 partitions; key k-<i%3>.
func newShelf(t *testing.T, n int, disposition func(i int) error) *shelf {
	t.Helper()
	s := &shelf{letters: map[int32][]letter{}}
	for p := range int32(2) {
		for i := range n {
			rec := newRecord(header("event-id", fmt.Sprintf("e-%d-%d", p, i)), header("own", "\x00\xff"), header("own", "2"))
			rec.Partition, rec.Offset, rec.Key = p, int64(1000+i), fmt.Appendf(nil, "k-%d", i%3)
			dead := bury(t, &broker{}, rec, disposition(i))
			s.letters[p] = append(s.letters[p], letter{
				rec:   &record.Record{Topic: dlt, Partition: p, Offset: int64(10 + i), Key: dead.Key, Headers: dead.Headers},
				value: fmt.Appendf(nil, "value %d %d", p, i),
			})
		}
	}
	return s
}

func exhausted(int) error { return errDown }

func TestReplay_IsADryRunUnlessTold(t *testing.T) {
	t.Parallel()
	s := newShelf(t, 10, exhausted)
	got, err := consumer.Replay(t.Context(), consumer.ReplayConfig{Topic: dlt, Reader: s})
	require.NoError(t, err)
	require.NotEmpty(t, got.ID)
	got.ID = ""
	require.Equal(t, consumer.ReplayResult{Action: consumer.ActionReplay, DryRun: true, Total: 20, Scanned: 20, Letters: 20, Replayed: 20}, got)
	require.Zero(t, s.commits)
}

func TestReplay_SendsTheOriginalBytesToTheFailedGroup(t *testing.T) {
	t.Parallel()
	s, b := newShelf(t, 10, exhausted), &broker{}
	cfg := consumer.ReplayConfig{Topic: dlt, Reader: s, Publisher: b, Execute: true, Rate: -1, ID: "replay-1"}
	got, err := consumer.Replay(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, consumer.ReplayResult{ID: "replay-1", Action: consumer.ActionReplay, Total: 20, Scanned: 20, Letters: 20, Replayed: 20}, got)

	records := b.all()
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
		require.Equal(t, 1, r.count("kafka_dlt-original-offset"))
		for _, h := range r.Headers {
			require.False(t, strings.Contains(h.Key, "exception") || h.Key == "dlt-failed-at" || h.Key == "dlt-disposition", h.Key)
		}
	}
}

func TestReplay_SendsNothingTwice(t *testing.T) {
	t.Parallel()
	s, b := newShelf(t, 30, exhausted), &broker{}
	cfg := consumer.ReplayConfig{Topic: dlt, Reader: s, Publisher: b, Execute: true, Rate: -1, Filter: consumer.Filter{Key: []byte("k-1")}}
	first, err := consumer.Replay(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, 20, first.Replayed)
	require.Equal(t, 40, first.Filtered)

	cfg.Filter, cfg.Max = consumer.Filter{}, 15
	second, err := consumer.Replay(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, 15, second.Replayed)
	require.Equal(t, 25, second.Filtered)

	cfg.Max = 0
	third, err := consumer.Replay(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, 25, third.Replayed)

	require.Equal(t, map[int32]int64{0: 40, 1: 40}, s.low, "what is all done needs no pieces")
	require.Equal(t, map[int32]string{0: "", 1: ""}, s.metadata)

	last, err := consumer.Replay(t.Context(), cfg)
	require.NoError(t, err)
	require.Zero(t, last.Letters)
	ids := map[string]int{}
	for _, r := range b.all() {
		ids[r.header("event-id")]++
	}
	require.Len(t, ids, 60)
	require.Len(t, b.all(), 60)

	replayed := 0
	require.NoError(t, consumer.List(t.Context(), cfg, func(l consumer.Letter) error {
		if l.State == consumer.StateSettled {
			replayed++
		}
		return nil
	}))
	require.Equal(t, 60, replayed)
}

func TestReplay_ResumesAfterACrash(t *testing.T) {
	t.Parallel()
	s, b := newShelf(t, 30, exhausted), &broker{}
	s.failAfter = 3
	cfg := consumer.ReplayConfig{Topic: dlt, Reader: s, Publisher: b, Execute: true, Rate: 100} // ten to a batch
	_, err := consumer.Replay(t.Context(), cfg)
	require.ErrorIs(t, err, errDown)
	s.failAfter = 0
	cfg.Rate = -1
	_, err = consumer.Replay(t.Context(), cfg)
	require.NoError(t, err)
	ids := map[string]int{}
	for _, r := range b.all() {
		ids[r.header("event-id")]++
	}
	require.Len(t, ids, 60)
	require.LessOrEqual(t, len(b.all()), 70, "at most the batch whose commit failed is sent twice")
}

// with replaces a header of letter i of partition 0.
func (s *shelf) with(i int, name, value string) {
	rec := s.letters[0][i].rec
	rec.Headers = append(slices.DeleteFunc(rec.Headers, func(h record.Header) bool { return h.Key == name }), header(name, value))
}

// refuser is a broker that does not take the records of one event.
func refuser(id, reason string) *broker {
	return &broker{judge: func(s sent) error {
		if s.header("event-id") == id {
			return outbox.Unpublishable(reason, nil)
		}
		return nil
	}}
}

// ids are the events that came, by their first coming.
func (b *broker) ids() (ids []string) {
	for _, r := range b.all() {
		if id := strings.TrimPrefix(r.header("event-id"), "e-"); !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

func TestReplay_LeavesWhatItMustNotSend(t *testing.T) {
	t.Parallel()
	s, b := newShelf(t, 5, exhausted), &broker{}
	delete(s.letters, 1)
	s.with(1, "kafka_dlt-original-topic", "payments.v1")
	s.with(4, "dlt-value-omitted", "2000000")
	cfg := consumer.ReplayConfig{Topic: dlt, Reader: s, Publisher: b, Execute: true, Rate: -1, ID: "x"}
	want := consumer.ReplayResult{ID: "x", Action: consumer.ActionReplay, Total: 5, Scanned: 5, Letters: 5, Replayed: 3, Refused: 2}
	got, err := consumer.Replay(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, []string{"0-0", "0-2", "0-3"}, b.ids())

	cfg.Targets = []string{topic, "payments.v1"}
	got, err = consumer.Replay(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, 2, got.Letters, "what was left can be replayed later")
	require.Equal(t, 1, got.Replayed)
	require.Equal(t, "payments.v1", b.all()[3].Topic)
}

func TestReplay_StopsThePartitionAtALetterTheBrokerRefuses(t *testing.T) {
	t.Parallel()
	s, b := newShelf(t, 600, exhausted), refuser("e-0-2", "message too large")
	s.letters[1] = s.letters[1][:3]
	cfg := consumer.ReplayConfig{Topic: dlt, Reader: s, Publisher: b, Execute: true, Rate: -1}
	got, err := consumer.Replay(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, []string{"0-0", "0-1", "1-0", "1-1", "1-2"}, b.ids())
	require.Equal(t, 5, got.Replayed)
	require.Equal(t, 1, got.Refused)
	require.Positive(t, got.Held)
	require.Len(t, got.Stopped, 1)
	require.Equal(t, int64(12), got.Stopped[0].Offset)
	require.Contains(t, got.Stopped[0].Reason, "message too large")

	b.judge = nil
	got, err = consumer.Replay(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, []string{"0-2", "0-3", "0-4", "0-5"}, b.ids()[5:9], "in the order of the topic")
	require.Equal(t, 598, got.Replayed)
}

func TestReplay_ByKeyHoldsBackTheKeyAlone(t *testing.T) {
	t.Parallel()
	s, b := newShelf(t, 9, exhausted), refuser("e-0-2", "message too large") // keys k-0, k-1, k-2 by turns
	delete(s.letters, 1)
	s.with(4, "kafka_dlt-original-topic", "payments.v1") // of k-1
	cfg := consumer.ReplayConfig{Topic: dlt, Reader: s, Publisher: b, Execute: true, Rate: -1, ByKey: true}
	got, err := consumer.Replay(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, []string{"0-0", "0-1", "0-3", "0-6"}, b.ids())
	require.Equal(t, 2, got.Refused)
	require.Equal(t, 3, got.Held)
	require.Empty(t, got.Stopped)
}

func TestReplay_ParksWhatWasReplayedTooOften(t *testing.T) {
	t.Parallel()
	s, b := newShelf(t, 4, exhausted), &broker{}
	delete(s.letters, 1)
	s.with(1, "dlt-replay-count", "3")
	cfg := consumer.ReplayConfig{Topic: dlt, Reader: s, Publisher: b, Execute: true, Rate: -1, Actor: "me"}
	got, err := consumer.Replay(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, 3, got.Replayed)
	require.Equal(t, 1, got.Parked)
	parked := b.all()[3]
	require.Equal(t, topic+".parking", parked.Topic)
	require.Equal(t, "me", parked.header("dlt-parked-by"))
	require.Equal(t, "replayed too often", parked.header("dlt-parked-note"))
	require.Equal(t, dlt+"/0/11", parked.header("dlt-parked-from"))
	require.Equal(t, errDown.Error(), parked.header("kafka_dlt-exception-message"))

	s = newShelf(t, 4, exhausted)
	s.with(1, "dlt-replay-count", "3")
	b = &broker{judge: func(s sent) error {
		if s.Topic != topic {
			return outbox.Unpublishable("unknown topic", nil)
		}
		return nil
	}}
	cfg.Reader, cfg.Publisher = s, b
	got, err = consumer.Replay(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, 7, got.Replayed)
	require.Equal(t, 1, got.Capped, "without a parking topic it stays")
	require.Equal(t, map[int32]int64{0: 11, 1: 14}, s.low)
}

func TestReplay_CanTargetAllGroups(t *testing.T) {
	t.Parallel()
	s, b := newShelf(t, 1, exhausted), &broker{}
	_, err := consumer.Replay(t.Context(), consumer.ReplayConfig{Topic: dlt, Reader: s, Publisher: b, Execute: true, Rate: -1, AllGroups: true})
	require.NoError(t, err)
	require.Zero(t, b.all()[0].count("dlt-target-group"))
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
	s, b := &shelf{letters: map[int32][]letter{0: {{rec: rec}}}}, &broker{}
	l, bad := consumer.ReadLetter(rec, nil)
	require.Empty(t, bad)
	require.Equal(t, int64(7), l.OriginalOffset)
	require.Equal(t, "java", l.Group)
	require.Equal(t, time.UnixMilli(5), l.FailedAt)
	_, err := consumer.Replay(t.Context(), consumer.ReplayConfig{Topic: dlt, Reader: s, Publisher: b, Execute: true})
	require.NoError(t, err)
	got := b.all()[0]
	require.Equal(t, int32(2), got.Partition)
	require.Equal(t, "java", got.header("dlt-target-group"))
	require.Nil(t, got.Value, "a tombstone stays one")
}

func TestReplay_KeepsToItsRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, b := newShelf(t, 100, exhausted), &broker{}
		begin := time.Now()
		var steps []consumer.ReplayResult
		_, err := consumer.Replay(t.Context(), consumer.ReplayConfig{
			Topic: dlt, Reader: s, Publisher: b, Execute: true, OnProgress: func(r consumer.ReplayResult) { steps = append(steps, r) },
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
		s, b := newShelf(t, 100, exhausted), &broker{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		got, err := consumer.Replay(ctx, consumer.ReplayConfig{Topic: dlt, Reader: s, Publisher: b, Execute: true})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.InDelta(t, 50, got.Replayed, 10)
		require.Len(t, b.all(), got.Replayed)
	})
}

func TestReplay_HoldsItsLock(t *testing.T) {
	t.Parallel()
	held, errBusy := 0, errors.New("another replay runs")
	cfg := consumer.ReplayConfig{Topic: dlt, Reader: newShelf(t, 1, exhausted), Lock: func(context.Context) (func(), error) {
		if held > 0 {
			return nil, errBusy
		}
		held++
		return func() {}, nil
	}}
	_, err := consumer.Replay(t.Context(), cfg)
	require.NoError(t, err)
	_, err = consumer.Replay(t.Context(), cfg)
	require.ErrorIs(t, err, errBusy)
}

func TestReplay_ReportsAllBadFieldsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := consumer.Replay(t.Context(), consumer.ReplayConfig{Topic: "a b", Execute: true, Rate: -2, Max: -1, MaxReplays: -1})
	for _, want := range []string{"not a topic name", "source is missing", "reader is missing", "publisher is missing", "rate must be", "max must not", "max replays must"} {
		require.ErrorContains(t, err, want)
	}
	_, err = consumer.Replay(t.Context(), consumer.ReplayConfig{Topic: "letters", Source: "letters", Reader: &shelf{}})
	require.ErrorContains(t, err, "source is the dead-letter topic itself")
}

func TestFilter_ChoosesByEachField(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	l := consumer.Letter{
		Record: &record.Record{Partition: 2, Offset: 50, Key: []byte("k")},
		Group:  "views", Disposition: consumer.DispositionFatal, FailedAt: at, ErrorType: "*pq.Error", Error: "no such row 17",
	}
	for name, c := range map[string]struct {
		match, miss consumer.Filter
	}{
		"partition":   {consumer.Filter{Partitions: []int32{1, 2}}, consumer.Filter{Partitions: []int32{1}}},
		"from":        {consumer.Filter{FromOffset: 50}, consumer.Filter{FromOffset: 51}},
		"to":          {consumer.Filter{ToOffset: 51}, consumer.Filter{ToOffset: 50}},
		"key":         {consumer.Filter{Key: []byte("k")}, consumer.Filter{Key: []byte{}}},
		"group":       {consumer.Filter{Group: "views"}, consumer.Filter{Group: "sender"}},
		"disposition": {consumer.Filter{Dispositions: []consumer.Disposition{"panic", "fatal"}}, consumer.Filter{Dispositions: []consumer.Disposition{"panic"}}},
		"error":       {consumer.Filter{Error: "such row"}, consumer.Filter{Error: "timeout"}},
		"error type":  {consumer.Filter{Error: "pq."}, consumer.Filter{Error: "pgx."}},
		"pattern":     {consumer.Filter{ErrorPattern: regexp.MustCompile(`row \d+$`)}, consumer.Filter{ErrorPattern: regexp.MustCompile(`^row`)}},
		"since":       {consumer.Filter{Since: at}, consumer.Filter{Since: at.Add(1)}},
		"until":       {consumer.Filter{Until: at.Add(1)}, consumer.Filter{Until: at}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.True(t, c.match.Match(&l))
			require.False(t, c.miss.Match(&l))
		})
	}
}
