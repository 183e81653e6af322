package deadletter_test

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
	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/outbox/record"
)

// memoryLog is a deadletter.AuditLog in memory.
type memoryLog struct {
	mu         sync.Mutex
	decisions  map[string]deadletter.Decision // by place
	operations []deadletter.Operation
	results    []deadletter.Result
	causes     []error
	busy       bool
	refuse     error // of Write
	looks      int
}

func (b *memoryLog) Open(_ context.Context, op deadletter.Operation) (deadletter.Entry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy {
		return nil, deadletter.ErrTopicBusy
	}
	b.busy, b.operations = true, append(b.operations, op)
	return memoryEntry{b, op}, nil
}

func (b *memoryLog) Decisions(_ context.Context, _ string, partition int32, from, to int64) (map[int64]deadletter.Decision, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.looks++
	found := map[int64]deadletter.Decision{}
	for _, d := range b.decisions {
		if d.Partition == partition && d.Offset >= from && d.Offset < to {
			found[d.Offset] = d
		}
	}
	return found, nil
}

type memoryEntry struct {
	*memoryLog
	op deadletter.Operation
}

func (p memoryEntry) Forget(context.Context, map[int32]int64) error { return nil }

func (p memoryEntry) Write(ctx context.Context, decisions []deadletter.Decision, _ deadletter.Result) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := errors.Join(p.refuse, ctx.Err()); err != nil {
		return err
	}
	if p.decisions == nil {
		p.decisions = map[string]deadletter.Decision{}
	}
	for _, d := range decisions {
		d.Actor, d.Note, d.Operation = p.op.Actor, p.op.Note, p.op.ID
		p.decisions[fmt.Sprint(d.Partition, "/", d.Offset)] = d
	}
	return nil
}

func (p memoryEntry) Close(ctx context.Context, counts deadletter.Result, cause error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = false
	p.results, p.causes = append(p.results, counts), append(p.causes, cause)
	return ctx.Err()
}

// memoryQuarantine is a quarantine that remembers the dead letters it released.
type memoryQuarantine struct{ resolved []string }

func (h *memoryQuarantine) Resolve(_ context.Context, messages []deadletter.Message) error {
	for _, l := range messages {
		h.resolved = append(h.resolved, fmt.Sprintf("%s %s/%d/%d", l.Group, l.OriginalTopic, l.OriginalPartition, l.OriginalOffset))
	}
	return nil
}

func states(t *testing.T, s *memoryTopic, cfg deadletter.Config) (all []deadletter.State) {
	t.Helper()
	cfg.Filter = deadletter.Filter{}
	require.NoError(t, deadletter.List(t.Context(), dlt, s, cfg, func(m deadletter.Message) error {
		all = append(all, m.State)
		return nil
	}))
	return all
}

func TestSkipDiscardAndPark_ResolveForGood(t *testing.T) {
	t.Parallel()
	s, b, k, q := newMemoryTopic(t, 6, exhausted), &broker{}, &memoryLog{}, &memoryQuarantine{}
	delete(s.messages, 1)
	cfg := deadletter.Config{Rate: -1, AuditLog: k, Actor: "anna", Note: "why", ID: "op-1", Quarantine: q}
	at := func(offset int64) deadletter.Filter {
		return deadletter.Filter{FromOffset: offset, ToOffset: offset + 1}
	}

	cfg.Filter = at(11)
	got, err := deadletter.Skip(t.Context(), dlt, s, cfg)
	require.NoError(t, err)
	require.Equal(t, deadletter.Result{ID: "op-1", Action: deadletter.ActionSkip, Total: 1, Scanned: 1, Open: 1, Skipped: 1}, got)
	cfg.Filter = at(13)
	_, err = deadletter.Discard(t.Context(), dlt, s, cfg)
	require.NoError(t, err)
	cfg.Filter = at(14)
	_, err = deadletter.Park(t.Context(), dlt, s, b, cfg)
	require.NoError(t, err)
	require.Len(t, b.All(), 1, "skip and discard send nothing")
	require.Equal(t, topic+".parking", b.All()[0].Topic)
	require.Equal(t, "why", b.All()[0].Header("dlt-parked-note"))
	require.Equal(t, []string{group + " " + topic + "/0/1001", group + " " + topic + "/0/1003", group + " " + topic + "/0/1004"}, q.resolved)

	cfg.Filter = deadletter.Filter{}
	got, err = deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.NoError(t, err)
	require.Equal(t, 3, got.Replayed)
	require.Equal(t, 3, got.Open)
	require.Len(t, q.resolved, 3, "of a replay the quarantine learns from the handler")
	require.Equal(t, []deadletter.State{"replayed", "skipped", "replayed", "discarded", "parked", "replayed"}, states(t, s, cfg))
	require.Equal(t, []deadletter.Action{"skip", "discard", "park", "replay"},
		[]deadletter.Action{k.operations[0].Action, k.operations[1].Action, k.operations[2].Action, k.operations[3].Action})
	require.Equal(t, 3, k.results[3].Replayed)
	require.Equal(t, map[int32]int64{0: 16}, s.low)

	cfg.AuditLog = nil
	require.Equal(t, slices.Repeat([]deadletter.State{deadletter.StateResolved}, 6), states(t, s, cfg), "without the audit log only the offsets say")
}

func TestReplay_IsRefusedWhileAnotherOperationRuns(t *testing.T) {
	t.Parallel()
	s, b, k := newMemoryTopic(t, 1, exhausted), &broker{}, &memoryLog{busy: true}
	cfg := deadletter.Config{AuditLog: k, Actor: "a"}
	_, err := deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.ErrorIs(t, err, deadletter.ErrTopicBusy)
	_, err = deadletter.Preview(t.Context(), deadletter.ActionReplay, dlt, s, cfg)
	require.NoError(t, err, "a preview disturbs nobody")
	require.Empty(t, k.operations)
}

func TestReplay_OfScatteredDeadLettersNeedsAnAuditLog(t *testing.T) {
	t.Parallel()
	const n = 9000
	s := newMemoryTopic(t, n, exhausted)
	delete(s.messages, 1)
	for i := range n {
		if i%2 == 1 {
			s.with(i, "dlt-target-group", "other")
		}
	}
	b := &broker{}
	cfg := deadletter.Config{Rate: -1, Actor: "anna", Filter: deadletter.Filter{Group: group}}
	got, err := deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.ErrorIs(t, err, deadletter.ErrScattered)
	require.Len(t, b.All(), got.Replayed, "what cannot be recorded is not sent")
	require.Positive(t, got.Replayed)

	cfg.AuditLog = &memoryLog{}
	_, err = deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.NoError(t, err)
	require.Len(t, b.All(), n/2)
	require.Len(t, eventIDs(b), n/2)
	cfg.Filter = deadletter.Filter{}
	got, err = deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.NoError(t, err)
	require.Equal(t, n/2, got.Replayed)
	require.Len(t, eventIDs(b), n)
	require.Len(t, b.All(), n)
	require.Equal(t, map[int32]int64{0: 10 + n}, s.low)
}

func TestReplay_TellsADeadLetterFromAnEarlierOneAtItsPlace(t *testing.T) {
	t.Parallel()
	s, b, k := newMemoryTopic(t, 2, exhausted), &broker{}, &memoryLog{}
	delete(s.messages, 1)
	k.decisions = map[string]deadletter.Decision{
		"0": {Offset: 10, State: deadletter.StateSkipped, WrittenAt: time.UnixMilli(77)}, // of a topic that was dropped
		"1": {Offset: 11, State: deadletter.StateSkipped, WrittenAt: s.messages[0][1].rec.Timestamp},
	}
	cfg := deadletter.Config{Rate: -1, AuditLog: k, Actor: "a"}
	got, err := deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.NoError(t, err)
	require.Equal(t, 1, got.Open)
	require.Equal(t, []string{"0-0"}, eventIDs(b))
}

func TestReplay_SendsASecondCopyOfADeadLetterOnce(t *testing.T) {
	t.Parallel()
	s, b, k := newMemoryTopic(t, 4, exhausted), &broker{}, &memoryLog{}
	delete(s.messages, 1)
	// A crash between the broker's acknowledgement and the commit of the source.
	s.messages[0][2].rec.Headers = s.messages[0][1].rec.Headers
	// A replay of the first that failed again: the same origin, another record.
	s.messages[0][3].rec.Headers = slices.Clone(s.messages[0][0].rec.Headers)
	s.with(3, "dlt-failed-record", topic+"/0/2000")
	cfg := deadletter.Config{Rate: -1, AuditLog: k, Actor: "a"}
	got, err := deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.NoError(t, err)
	require.Equal(t, 3, got.Replayed)
	require.Equal(t, 1, got.Duplicates)
	require.Len(t, b.All(), 3)
	require.Equal(t, slices.Repeat([]deadletter.State{"replayed"}, 4), states(t, s, cfg))
}

func TestReplay_FetchesAValueThatWasLeftOutFromItsOrigin(t *testing.T) {
	t.Parallel()
	s, b := newMemoryTopic(t, 3, exhausted), &broker{}
	delete(s.messages, 1)
	s.messages[0][1].value = nil
	s.with(1, "dlt-value-omitted", "9")
	s.with(1, "dlt-failed-record", topic+"/0/10")
	s.with(2, "dlt-value-omitted", "8") // not the size of what is there
	s.with(2, "dlt-failed-record", topic+"/0/12")
	s.messages[0][1].rec.Key = s.messages[0][0].rec.Key
	s.with(1, "event-id", "e-0-0") // the memoryTopic answers for the source, too: offset 10 is its first
	cfg := deadletter.Config{Rate: -1}
	got, err := deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.NoError(t, err)
	require.Equal(t, 2, got.Replayed)
	require.Equal(t, 1, got.Refused)
	require.Equal(t, "value 0 0", string(b.All()[1].Value))
	require.Zero(t, b.All()[1].Count("dlt-value-omitted"))
	require.Zero(t, b.All()[1].Count("dlt-failed-record"))
}

func TestReplay_RecordsWhatItSentWhenItIsCutOff(t *testing.T) {
	t.Parallel()
	for name, newLog := range map[string]func() deadletter.AuditLog{"offsets only": func() deadletter.AuditLog { return nil }, "audit log": func() deadletter.AuditLog { return &memoryLog{} }} {
		for at, twice := range map[int]int{499: 0, 600: 101} { // the end of the first batch, and within the second
			t.Run(fmt.Sprintf("%s, at %d", name, at), func(t *testing.T) {
				t.Parallel()
				s, b := newMemoryTopic(t, 900, exhausted), &broker{}
				ctx, cancel := context.WithCancel(t.Context())
				b.Judge = func(r sent) error {
					if r.Header("event-id") == fmt.Sprintf("e-0-%d", at) {
						cancel()
					}
					return nil
				}
				cfg := deadletter.Config{Rate: -1, AuditLog: newLog(), Actor: "a"}
				_, err := deadletter.Replay(ctx, dlt, s, b, cfg)
				require.ErrorIs(t, err, context.Canceled)
				b.Judge = nil
				_, err = deadletter.Replay(t.Context(), dlt, s, b, cfg)
				require.NoError(t, err)
				require.Len(t, eventIDs(b), 1800)
				require.Len(t, b.All(), 1800+twice, "only the batch that was not acknowledged goes twice")
			})
		}
	}
}

func TestReplay_StopsWhenTheAuditLogRefuses(t *testing.T) {
	t.Parallel()
	s, b, k := newMemoryTopic(t, 3000, exhausted), &broker{}, &memoryLog{refuse: errDown}
	cfg := deadletter.Config{Rate: -1, AuditLog: k, Actor: "a"}
	_, err := deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.ErrorIs(t, err, errDown)
	require.LessOrEqual(t, len(b.All()), 2000)
	require.Zero(t, s.commits)
	require.ErrorIs(t, k.causes[0], errDown)
	k.refuse = nil
	_, err = deadletter.Replay(t.Context(), dlt, s, b, cfg)
	require.NoError(t, err)
	require.Len(t, eventIDs(b), 6000)
}

func TestSummarize_CountsByStateAndReason(t *testing.T) {
	t.Parallel()
	s := newMemoryTopic(t, 3, func(i int) error {
		if i == 0 {
			return &consumer.PanicError{Value: "x"}
		}
		return errDown
	})
	cfg := deadletter.Config{Filter: deadletter.Filter{Partitions: []int32{1}, FromOffset: 12}}
	_, err := deadletter.Skip(t.Context(), dlt, s, cfg)
	require.NoError(t, err)
	cfg.Filter = deadletter.Filter{}
	st, err := deadletter.Summarize(t.Context(), dlt, s, cfg)
	require.NoError(t, err)
	require.Equal(t, 6, st.Total)
	require.Equal(t, map[deadletter.State]int{"open": 5, "resolved": 1}, st.States)
	require.Equal(t, map[int32]int{0: 3, 1: 2}, st.Partitions)
	require.Equal(t, map[deadletter.Disposition]int{"panic": 2, "exhausted": 3}, st.Dispositions)
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
	s, b := &memoryTopic{messages: map[int32][]storedMessage{0: {{rec: rec, value: []byte("v")}}}}, &broker{}
	_, err := deadletter.Replay(t.Context(), "orders-dlt", s, b, deadletter.Config{})
	require.NoError(t, err)
	var names []string
	for _, h := range b.All()[0].Headers {
		names = append(names, h.Key)
	}
	require.Equal(t, "orders", b.All()[0].Topic)
	require.Equal(t, []string{"kafka_dlt-original-topic", "kafka_dlt-original-consumer-group", "own", "dlt-replay-count", "dlt-replay-id", "dlt-target-group"}, names)
}
