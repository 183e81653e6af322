package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/outbox/record"
)

// book is a consumer.Book in memory.
type book struct {
	mu        sync.Mutex
	decisions map[string]consumer.Decision // by place
	acts      []consumer.Act
	results   []consumer.ReplayResult
	causes    []error
	busy      bool
	refuse    error // of Write
	looks     int
}

func (b *book) Open(_ context.Context, act consumer.Act) (consumer.Page, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy {
		return nil, consumer.ErrTopicBusy
	}
	b.busy, b.acts = true, append(b.acts, act)
	return page{b, act}, nil
}

func (b *book) Decisions(_ context.Context, _ string, partition int32, from, to int64) (map[int64]consumer.Decision, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.looks++
	found := map[int64]consumer.Decision{}
	for _, d := range b.decisions {
		if d.Partition == partition && d.Offset >= from && d.Offset < to {
			found[d.Offset] = d
		}
	}
	return found, nil
}

type page struct {
	*book
	act consumer.Act
}

func (p page) Forget(context.Context, map[int32]int64) error { return nil }

func (p page) Write(ctx context.Context, decisions []consumer.Decision, _ consumer.ReplayResult) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := errors.Join(p.refuse, ctx.Err()); err != nil {
		return err
	}
	if p.decisions == nil {
		p.decisions = map[string]consumer.Decision{}
	}
	for _, d := range decisions {
		d.Actor, d.Note, d.Act = p.act.Actor, p.act.Note, p.act.ID
		p.decisions[fmt.Sprint(d.Partition, "/", d.Offset)] = d
	}
	return nil
}

func (p page) Close(ctx context.Context, counts consumer.ReplayResult, cause error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = false
	p.results, p.causes = append(p.results, counts), append(p.causes, cause)
	return ctx.Err()
}

// holding is a quarantine that remembers what it was told.
type holding struct{ settled []string }

func (h *holding) Settle(_ context.Context, letters []consumer.Letter) error {
	for _, l := range letters {
		h.settled = append(h.settled, fmt.Sprintf("%s %s/%d/%d", l.Group, l.OriginalTopic, l.OriginalPartition, l.OriginalOffset))
	}
	return nil
}

func states(t *testing.T, cfg consumer.ReplayConfig) (all []consumer.State) {
	t.Helper()
	cfg.Filter = consumer.Filter{}
	require.NoError(t, consumer.List(t.Context(), cfg, func(l consumer.Letter) error {
		all = append(all, l.State)
		return nil
	}))
	return all
}

func TestSkipDiscardAndPark_SettleForGood(t *testing.T) {
	t.Parallel()
	s, b, k, q := newShelf(t, 6, exhausted), &broker{}, &book{}, &holding{}
	delete(s.letters, 1)
	cfg := consumer.ReplayConfig{Topic: dlt, Reader: s, Publisher: b, Execute: true, Rate: -1, Book: k, Actor: "anna", Note: "why", ID: "act-1", Quarantine: q}
	at := func(offset int64) consumer.Filter { return consumer.Filter{FromOffset: offset, ToOffset: offset + 1} }

	cfg.Filter = at(11)
	got, err := consumer.Skip(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, consumer.ReplayResult{ID: "act-1", Action: consumer.ActionSkip, Total: 1, Scanned: 1, Letters: 1, Skipped: 1}, got)
	cfg.Filter = at(13)
	_, err = consumer.Discard(t.Context(), cfg)
	require.NoError(t, err)
	cfg.Filter = at(14)
	_, err = consumer.Park(t.Context(), cfg)
	require.NoError(t, err)
	require.Len(t, b.all(), 1, "skip and discard send nothing")
	require.Equal(t, topic+".parking", b.all()[0].Topic)
	require.Equal(t, "why", b.all()[0].header("dlt-parked-note"))
	require.Equal(t, []string{group + " " + topic + "/0/1001", group + " " + topic + "/0/1003", group + " " + topic + "/0/1004"}, q.settled)

	cfg.Filter = consumer.Filter{}
	got, err = consumer.Replay(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, 3, got.Replayed)
	require.Equal(t, 3, got.Letters)
	require.Len(t, q.settled, 3, "of a replay the quarantine learns from the handler")
	require.Equal(t, []consumer.State{"replayed", "skipped", "replayed", "discarded", "parked", "replayed"}, states(t, cfg))
	require.Equal(t, []consumer.Action{"skip", "discard", "park", "replay"},
		[]consumer.Action{k.acts[0].Action, k.acts[1].Action, k.acts[2].Action, k.acts[3].Action})
	require.Equal(t, 3, k.results[3].Replayed)
	require.Equal(t, map[int32]int64{0: 16}, s.low)

	cfg.Book = nil
	require.Equal(t, slices.Repeat([]consumer.State{consumer.StateSettled}, 6), states(t, cfg), "without the book the offsets tell it")
}

func TestReplay_IsRefusedWhileAnotherActRuns(t *testing.T) {
	t.Parallel()
	k := &book{busy: true}
	cfg := consumer.ReplayConfig{Topic: dlt, Reader: newShelf(t, 1, exhausted), Publisher: &broker{}, Execute: true, Book: k, Actor: "a"}
	_, err := consumer.Replay(t.Context(), cfg)
	require.ErrorIs(t, err, consumer.ErrTopicBusy)
	cfg.Execute = false
	_, err = consumer.Replay(t.Context(), cfg)
	require.NoError(t, err, "a dry run disturbs nobody")
	require.Empty(t, k.acts)
}

func TestReplay_OfScatteredLettersNeedsABook(t *testing.T) {
	t.Parallel()
	const n = 9000
	s := newShelf(t, n, exhausted)
	delete(s.letters, 1)
	for i := range n {
		if i%2 == 1 {
			s.with(i, "dlt-target-group", "other")
		}
	}
	b := &broker{}
	cfg := consumer.ReplayConfig{Topic: dlt, Reader: s, Publisher: b, Execute: true, Rate: -1, Actor: "anna", Filter: consumer.Filter{Group: group}}
	got, err := consumer.Replay(t.Context(), cfg)
	require.ErrorIs(t, err, consumer.ErrScattered)
	require.Len(t, b.all(), got.Replayed, "what cannot be remembered is not sent")
	require.Positive(t, got.Replayed)

	cfg.Book = &book{}
	_, err = consumer.Replay(t.Context(), cfg)
	require.NoError(t, err)
	require.Len(t, b.all(), n/2)
	require.Len(t, b.ids(), n/2)
	cfg.Filter = consumer.Filter{}
	got, err = consumer.Replay(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, n/2, got.Replayed)
	require.Len(t, b.ids(), n)
	require.Len(t, b.all(), n)
	require.Equal(t, map[int32]int64{0: 10 + n}, s.low)
}

func TestReplay_TellsALetterFromAnEarlierOneAtItsPlace(t *testing.T) {
	t.Parallel()
	s, b, k := newShelf(t, 2, exhausted), &broker{}, &book{}
	delete(s.letters, 1)
	k.decisions = map[string]consumer.Decision{
		"0": {Offset: 10, State: consumer.StateSkipped, WrittenAt: time.UnixMilli(77)}, // of a topic that was dropped
		"1": {Offset: 11, State: consumer.StateSkipped, WrittenAt: s.letters[0][1].rec.Timestamp},
	}
	cfg := consumer.ReplayConfig{Topic: dlt, Reader: s, Publisher: b, Execute: true, Rate: -1, Book: k, Actor: "a"}
	got, err := consumer.Replay(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, 1, got.Letters)
	require.Equal(t, []string{"0-0"}, b.ids())
}

func TestReplay_SendsASecondCopyOfALetterOnce(t *testing.T) {
	t.Parallel()
	s, b, k := newShelf(t, 4, exhausted), &broker{}, &book{}
	delete(s.letters, 1)
	// A crash between the broker's word and the commit of the source.
	s.letters[0][2].rec.Headers = s.letters[0][1].rec.Headers
	// A replay of the first that failed again: the same origin, another record.
	s.letters[0][3].rec.Headers = slices.Clone(s.letters[0][0].rec.Headers)
	s.with(3, "dlt-failed-record", topic+"/0/2000")
	cfg := consumer.ReplayConfig{Topic: dlt, Reader: s, Publisher: b, Execute: true, Rate: -1, Book: k, Actor: "a"}
	got, err := consumer.Replay(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, 3, got.Replayed)
	require.Equal(t, 1, got.Duplicates)
	require.Len(t, b.all(), 3)
	require.Equal(t, slices.Repeat([]consumer.State{"replayed"}, 4), states(t, cfg))
}

func TestReplay_FetchesAValueThatWasLeftOutFromItsOrigin(t *testing.T) {
	t.Parallel()
	s, b := newShelf(t, 3, exhausted), &broker{}
	delete(s.letters, 1)
	s.letters[0][1].value = nil
	s.with(1, "dlt-value-omitted", "9")
	s.with(1, "dlt-failed-record", topic+"/0/10")
	s.with(2, "dlt-value-omitted", "8") // not the size of what lies there
	s.with(2, "dlt-failed-record", topic+"/0/12")
	s.letters[0][1].rec.Key = s.letters[0][0].rec.Key
	s.with(1, "event-id", "e-0-0") // the shelf answers for the source, too: offset 10 is its first
	cfg := consumer.ReplayConfig{Topic: dlt, Reader: s, Publisher: b, Execute: true, Rate: -1}
	got, err := consumer.Replay(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, 2, got.Replayed)
	require.Equal(t, 1, got.Refused)
	require.Equal(t, "value 0 0", string(b.all()[1].Value))
	require.Zero(t, b.all()[1].count("dlt-value-omitted"))
	require.Zero(t, b.all()[1].count("dlt-failed-record"))
}

func TestReplay_RemembersWhatItSentWhenItIsCutOff(t *testing.T) {
	t.Parallel()
	for name, newBook := range map[string]func() consumer.Book{"offsets alone": func() consumer.Book { return nil }, "book": func() consumer.Book { return &book{} }} {
		for at, twice := range map[int]int{499: 0, 600: 101} { // the end of the first batch, and within the second
			t.Run(fmt.Sprintf("%s, at %d", name, at), func(t *testing.T) {
				t.Parallel()
				s, b := newShelf(t, 900, exhausted), &broker{}
				ctx, cancel := context.WithCancel(t.Context())
				b.judge = func(r sent) error {
					if r.header("event-id") == fmt.Sprintf("e-0-%d", at) {
						cancel()
					}
					return nil
				}
				cfg := consumer.ReplayConfig{Topic: dlt, Reader: s, Publisher: b, Execute: true, Rate: -1, Book: newBook(), Actor: "a"}
				_, err := consumer.Replay(ctx, cfg)
				require.ErrorIs(t, err, context.Canceled)
				b.judge = nil
				_, err = consumer.Replay(t.Context(), cfg)
				require.NoError(t, err)
				require.Len(t, b.ids(), 1800)
				require.Len(t, b.all(), 1800+twice, "only the batch that was not acknowledged goes twice")
			})
		}
	}
}

func TestReplay_DoesNotGoOnWhenTheBookRefuses(t *testing.T) {
	t.Parallel()
	s, b, k := newShelf(t, 3000, exhausted), &broker{}, &book{refuse: errDown}
	cfg := consumer.ReplayConfig{Topic: dlt, Reader: s, Publisher: b, Execute: true, Rate: -1, Book: k, Actor: "a"}
	_, err := consumer.Replay(t.Context(), cfg)
	require.ErrorIs(t, err, errDown)
	require.LessOrEqual(t, len(b.all()), 2000)
	require.Zero(t, s.commits)
	require.ErrorIs(t, k.causes[0], errDown)
	k.refuse = nil
	_, err = consumer.Replay(t.Context(), cfg)
	require.NoError(t, err)
	require.Len(t, b.ids(), 6000)
}

func TestSummarize_CountsByStateAndReason(t *testing.T) {
	t.Parallel()
	s := newShelf(t, 3, func(i int) error {
		if i == 0 {
			return &consumer.FailureError{Attempts: 1, Disposition: consumer.DispositionPanic, Err: &consumer.PanicError{Value: "x"}}
		}
		return &consumer.FailureError{Attempts: 4, Disposition: consumer.DispositionExhausted, Err: errDown}
	})
	cfg := consumer.ReplayConfig{Topic: dlt, Reader: s, Execute: true, Filter: consumer.Filter{Partitions: []int32{1}, FromOffset: 12}}
	_, err := consumer.Skip(t.Context(), cfg)
	require.NoError(t, err)
	cfg.Filter = consumer.Filter{}
	st, err := consumer.Summarize(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, 6, st.Letters)
	require.Equal(t, map[consumer.State]int{"open": 5, "settled": 1}, st.States)
	require.Equal(t, map[int32]int{0: 3, 1: 2}, st.Partitions)
	require.Equal(t, map[consumer.Disposition]int{"panic": 2, "exhausted": 3}, st.Dispositions)
	require.Equal(t, map[string]int{"*errors.errorString": 3, "*github.com/millrace-go/millrace/adapters/consumer.PanicError": 2}, st.Errors)
	require.Equal(t, map[string]int{group: 5}, st.Groups)
	require.Equal(t, 3, st.Keys)
	require.False(t, st.Oldest.After(st.Newest))
}

func TestReplay_TakesOffWhatWouldMakeSpringKafkaGiveUpAtOnce(t *testing.T) {
	t.Parallel()
	rec := &record.Record{Topic: "orders-dlt", Headers: []record.Header{
		header("kafka_dlt-original-topic", "orders"), header("kafka_dlt-original-consumer-group", "java"),
		header("retry_topic-attempts", "\x00\x00\x00\x03"), header("retry_topic-original-timestamp", "x"),
		header("springDeserializerExceptionValue", "x"), header("kafka_dlt-key-exception-message", "x"), header("own", "1"),
	}}
	s, b := &shelf{letters: map[int32][]letter{0: {{rec: rec, value: []byte("v")}}}}, &broker{}
	_, err := consumer.Replay(t.Context(), consumer.ReplayConfig{Topic: "orders-dlt", Reader: s, Publisher: b, Execute: true})
	require.NoError(t, err)
	var names []string
	for _, h := range b.all()[0].Headers {
		names = append(names, h.Key)
	}
	require.Equal(t, "orders", b.all()[0].Topic)
	require.Equal(t, []string{"kafka_dlt-original-topic", "kafka_dlt-original-consumer-group", "own", "dlt-replay-count", "dlt-replay-id", "dlt-target-group"}, names)
}
