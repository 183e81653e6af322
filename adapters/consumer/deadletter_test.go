package consumer_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// deadLetterOf runs one message with rec through the dead-letter step and a handler
// that fails.
func deadLetterOf(t *testing.T, b *broker, rec *record.Record, err error) sent {
	t.Helper()
	dead := consumer.DeadLetter(b, tracer{}, consumer.Hooks{})
	msg := newMessage(t.Context(), rec, "\xff\x00payload")
	_, got := dead(func(*message.Message) ([]*message.Message, error) { return nil, err })(msg)
	require.NoError(t, got)
	records := b.All()
	require.NotEmpty(t, records)
	return records[len(records)-1]
}

type tracer struct{}

const newTrace = "00-11111111111111111111111111111111-2222222222222222-01"

func (tracer) Continue(ctx context.Context, _ string) context.Context { return ctx }
func (tracer) Traceparent(context.Context) string                     { return newTrace }

func TestDeadLetter_KeepsEveryByteAndSpeaksSpringsEncodings(t *testing.T) {
	t.Parallel()
	own := []record.Header{
		header("event-id", "e-1"),
		header("twice", "first"),
		header("binary", "\x00\xff\xfe"),
		header("twice", "second"),
		{Key: "null", Value: nil},
		header("traceparent", "not even valid"),
	}
	before := time.Now()
	got := deadLetterOf(t, &broker{}, newRecord(own...), &consumer.FailureError{
		Attempts: 4, Disposition: deadletter.DispositionExhausted, Err: fmt.Errorf("send: %w", &net.AddrError{Err: "no route", Addr: "x"}),
	})
	require.Equal(t, dlt, got.Topic)
	require.Equal(t, int32(3), got.Partition)
	require.Equal(t, []byte("recipient-1"), got.Key)
	require.Equal(t, []byte("\xff\x00payload"), got.Value)
	require.Equal(t, own, got.Headers[:len(own)])

	failedAt, err := time.Parse(time.RFC3339, got.Header("dlt-failed-at"))
	require.NoError(t, err)
	require.WithinRange(t, failedAt, before.Add(-time.Second), time.Now())
	require.Equal(t, []record.Header{
		header("kafka_dlt-original-topic", topic),
		header("kafka_dlt-original-partition", "\x00\x00\x00\x03"),
		header("kafka_dlt-original-offset", "\x00\x00\x00\x00\x00\x00\x00\x2a"),
		header("kafka_dlt-original-timestamp", "\x00\x00\x01\x8b\xcf\xe5\x68\x7b"),
		header("kafka_dlt-original-timestamp-type", "CreateTime"),
		header("kafka_dlt-original-consumer-group", group),
		header("dlt-failed-record", topic+"/3/42"),
		header("dlt-attempts", "4"),
		header("dlt-disposition", "exhausted"),
		header("dlt-failed-at", got.Header("dlt-failed-at")),
		header("dlt-replay-count", "0"),
		header("dlt-target-group", group),
		header("kafka_dlt-exception-fqcn", "*fmt.wrapError"),
		header("kafka_dlt-exception-cause-fqcn", "*net.AddrError"),
		header("kafka_dlt-exception-message", "send: address x: no route"),
		header("kafka_dlt-exception-stacktrace", "*fmt.wrapError: send: address x: no route\ncaused by *net.AddrError: address x: no route"),
	}, got.Headers[len(own):])
}

func TestDeadLetter_GivesATraceToAMessageWithoutOne(t *testing.T) {
	t.Parallel()
	require.Equal(t, newTrace, deadLetterOf(t, &broker{}, newRecord(), errDown).Header("traceparent"))
}

func TestDeadLetter_NamesGoTypesInFull(t *testing.T) {
	t.Parallel()
	got := deadLetterOf(t, &broker{}, newRecord(), consumer.Fatal(&outbox.MessageError{Field: "key"}))
	require.Equal(t, "*github.com/millrace-go/millrace/outbox.MessageError", got.Header("kafka_dlt-exception-fqcn"))
	require.Equal(t, "*errors.errorString", got.Header("kafka_dlt-exception-cause-fqcn"))
	require.Equal(t, "fatal", got.Header("dlt-disposition"))
	require.Equal(t, "1", got.Header("dlt-attempts"))
}

func TestDeadLetter_SecondFailureKeepsTheFirstOriginAndTheLastError(t *testing.T) {
	t.Parallel()
	b := &broker{}
	first := deadLetterOf(t, b, newRecord(header("own", "1")), errors.New("first"))
	// Replayed, received at another place, and failing again, twice.
	rec := newRecord(append(first.Headers, header("dlt-replay-count", "1"), header("dlt-replay-id", "r-1"))...)
	rec.Partition, rec.Offset = 9, 99
	second := deadLetterOf(t, b, rec, errors.New("second"))
	rec.Headers = second.Headers
	third := deadLetterOf(t, b, rec, errors.New("third"))

	require.Len(t, third.Headers, len(second.Headers))
	require.Equal(t, "third", third.Header("kafka_dlt-exception-message"))
	require.Equal(t, "1", third.Header("dlt-replay-count"))
	require.Equal(t, "r-1", third.Header("dlt-replay-id"))
	require.Equal(t, topic+"/9/99", third.Header("dlt-failed-record"))
	require.Equal(t, uint64(42), binary.BigEndian.Uint64([]byte(third.Header("kafka_dlt-original-offset"))))
	for _, h := range third.Headers {
		require.Equal(t, 1, third.Count(h.Key), h.Key)
	}
}

func TestDeadLetter_IgnoresAndReportsBadHeaders(t *testing.T) {
	t.Parallel()
	var bad []string
	dead := consumer.DeadLetter(&broker{}, nil, consumer.Hooks{BadHeader: func(_, name string) { bad = append(bad, name) }})
	b := &broker{}
	msg := newMessage(t.Context(), newRecord(header("kafka_dlt-original-topic", "x"), header("kafka_dlt-original-partition", "3"),
		header("kafka_dlt-original-offset", "\xff\xff\xff\xff\xff\xff\xff\xff"), header("dlt-replay-count", "many")), "")
	_, err := dead(func(*message.Message) ([]*message.Message, error) { return nil, errDown })(msg)
	require.NoError(t, err)
	require.Equal(t, []string{"kafka_dlt-original-partition", "kafka_dlt-original-offset", "dlt-replay-count"}, bad)

	got := deadLetterOf(t, b, newRecord(header("kafka_dlt-original-topic", "x"), header("kafka_dlt-original-offset", "nonsense")), errDown)
	require.Equal(t, topic, got.Header("kafka_dlt-original-topic"))
	require.Equal(t, 1, got.Count("kafka_dlt-original-topic"))
	require.Equal(t, "0", got.Header("dlt-replay-count"))
}

func TestDeadLetter_LimitsWhatItAdds(t *testing.T) {
	t.Parallel()
	nasty := errors.New(strings.Repeat("é", 5000) + "\x00\x1b[31m\xff")
	deep := nasty
	for range 50 {
		deep = fmt.Errorf("layer: %w", deep)
	}
	for name, own := range map[string]int{"small message": 10, "large headers": 15 << 10, "over the limit by itself": 20 << 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := deadLetterOf(t, &broker{}, newRecord(header("own", strings.Repeat("x", own))), deep)
			total := 0
			for _, h := range got.Headers {
				total += len(h.Key) + len(h.Value)
				if h.Key != "own" && !strings.HasPrefix(h.Key, "kafka_dlt-original") {
					require.True(t, utf8.Valid(h.Value), h.Key)
				}
			}
			require.LessOrEqual(t, total, max(16<<10, own+1024))
			require.LessOrEqual(t, len(got.Header("kafka_dlt-exception-message")), 1<<10)
			require.LessOrEqual(t, len(got.Header("kafka_dlt-exception-stacktrace")), 8<<10)
			require.NotContains(t, got.Header("kafka_dlt-exception-message"), "\x1b")
			require.Len(t, got.Header("own"), own)
			require.NotEmpty(t, got.Header("kafka_dlt-exception-fqcn"))
			require.NotEmpty(t, got.Header("dlt-attempts"))
		})
	}
}

func TestDeadLetter_RepeatsOnlyThePublish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &broker{Refuse: []error{errDown, errDown, errDown, errDown, errDown, errDown, errDown}}
		var waits []time.Duration
		dead := consumer.DeadLetter(b, nil, consumer.Hooks{
			DeadLetterFailed: func(r consumer.RetryInfo) { waits = append(waits, r.Wait/time.Second) },
		})
		calls := 0
		_, err := dead(func(*message.Message) ([]*message.Message, error) {
			calls++
			return nil, errDown
		})(newMessage(t.Context(), newRecord(), "x"))
		require.NoError(t, err)
		require.Equal(t, 1, calls)
		require.Len(t, b.All(), 1)
		require.Equal(t, []time.Duration{1, 2, 4, 8, 16, 30, 30}, waits)
		require.Len(t, b.Times(), 8)
	})
}

func TestDeadLetter_LeavesOutTheStackIfTheBrokerWillNotTakeIt(t *testing.T) {
	t.Parallel()
	b := &broker{Judge: func(s sent) error {
		if s.Header("kafka_dlt-exception-stacktrace") != "" {
			return outbox.Unpublishable("message too large", nil)
		}
		return nil
	}}
	got := deadLetterOf(t, b, newRecord(), errDown)
	require.Equal(t, errDown.Error(), got.Header("kafka_dlt-exception-message"))
	require.Len(t, b.Times(), 2)
}

func TestDeadLetter_LeavesOutAValueThatIsTooLarge(t *testing.T) {
	t.Parallel()
	b := &broker{Judge: func(s sent) error {
		if len(s.Value) > 0 {
			return fmt.Errorf("publish: %w", outbox.Unpublishable("message too large", nil))
		}
		return nil
	}}
	got := deadLetterOf(t, b, newRecord(header("own", "1")), errDown)
	require.Nil(t, got.Value)
	require.Equal(t, "9", got.Header("dlt-value-omitted"))
	require.Equal(t, "1", got.Header("own"))
	l, bad := deadletter.Parse(&record.Record{Headers: got.Headers}, nil)
	require.Empty(t, bad)
	require.True(t, l.ValueOmitted)
	require.Equal(t, 9, l.ValueSize)
	require.Equal(t, &record.Record{Topic: topic, Partition: 3, Offset: 42}, l.FailedRecord)
	require.Equal(t, int64(42), l.OriginalOffset)
}

func TestDeadLetter_KeepsTheValueIfTheTopicIsMissing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		missing := outbox.Unpublishable("unknown topic", nil)
		b := &broker{Refuse: []error{missing, missing, missing, missing}}
		got := deadLetterOf(t, b, newRecord(), errDown)
		require.Equal(t, []byte("\xff\x00payload"), got.Value)
		require.NotEmpty(t, got.Header("kafka_dlt-exception-stacktrace"))
		require.Len(t, b.Times(), 5)
	})
}

func TestDeadLetter_NeverAcknowledgesWithoutTheBroker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		b := &broker{Judge: func(sent) error { return errDown }}
		dead := consumer.DeadLetter(b, nil, consumer.Hooks{})
		_, err := dead(func(*message.Message) ([]*message.Message, error) { return nil, errDown })(newMessage(ctx, newRecord(), "x"))
		require.ErrorIs(t, err, consumer.ErrUnfinished)
	})
}

func TestDeadLetter_IsNotWrittenForAnEndedContext(t *testing.T) {
	t.Parallel()
	b := &broker{}
	dead := consumer.DeadLetter(b, nil, consumer.Hooks{})
	ctx, cancel := context.WithCancel(t.Context())
	_, err := dead(func(*message.Message) ([]*message.Message, error) {
		cancel()
		return nil, consumer.Fatal(errDown)
	})(newMessage(ctx, newRecord(), "x"))
	require.ErrorIs(t, err, consumer.ErrUnfinished)
	require.ErrorIs(t, err, context.Canceled, "Watermill logs anything else as an error")
	require.Empty(t, b.Times())
}

func TestDeadLetter_OfSeveralOriginsKeepsTheFirst(t *testing.T) {
	t.Parallel()
	// Spring Kafka appends a new set for each failure.
	set := func(topic, offset string) []record.Header {
		return []record.Header{
			header("kafka_dlt-original-topic", topic), header("kafka_dlt-original-partition", "\x00\x00\x00\x01"),
			header("kafka_dlt-original-offset", "\x00\x00\x00\x00\x00\x00\x00"+offset),
		}
	}
	got := deadLetterOf(t, &broker{}, newRecord(append(set("first", "\x05"), set("second", "\x06")...)...), errDown)
	require.Equal(t, set("first", "\x05"), got.Headers[:3])
	require.Equal(t, 1, got.Count("kafka_dlt-original-topic"))
	require.Equal(t, 1, got.Count("kafka_dlt-original-offset"))
}
