package kafka_test

import (
	"context"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
	"github.com/millrace-go/millrace/test/harness"
)

func sampleEntry(topic string) outbox.Entry {
	return outbox.Entry{Position: 7, CreatedAt: time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.FixedZone("", 3600)), Message: outbox.Message{
		ID: uuid.MustParse("0190f2a4-7c1e-7d4b-9c6a-1f2e3d4c5b6a"), Topic: topic, Key: "recipient-1", Type: "notification.requested",
		AggregateType: "notification", AggregateID: "n-1", AggregateVersion: 3, Payload: []byte(`{"a":1}`),
		Headers: map[string]string{"schema-version": "2", "traceparent": "00-x", "blank": "", "event-id": "forged", "millrace-key": "forged"},
	}}
}

func headersOf(m *sarama.ProducerMessage) [][2]string {
	var all [][2]string
	for _, h := range m.Headers {
		all = append(all, [2]string{string(h.Key), string(h.Value)})
	}
	return all
}

func TestMarshaler_WritesAnEntryAsTheContractSays(t *testing.T) {
	t.Parallel()
	e := sampleEntry("notification.v1")
	m := kafka.Entry(&e)
	require.Equal(t, "notification.v1", m.Topic)
	key, err := m.Key.Encode()
	require.NoError(t, err)
	require.Equal(t, "recipient-1", string(key))
	require.Equal(t, [][2]string{
		{"event-id", "0190f2a4-7c1e-7d4b-9c6a-1f2e3d4c5b6a"},
		{"event-type", "notification.requested"},
		{"aggregate-type", "notification"},
		{"aggregate-id", "n-1"},
		{"aggregate-version", "3"},
		{"occurred-at", "2026-03-01T11:00:00.123456789Z"},
		{"blank", ""}, {"schema-version", "2"}, {"traceparent", "00-x"},
	}, headersOf(m))

	want := map[string]string{}
	for name, value := range outbox.RecordHeaders(&e) {
		want[name] = value
	}
	got := map[string]string{}
	for _, h := range headersOf(m) {
		got[h[0]] = h[1]
	}
	require.Equal(t, want, got, "the outbox would write other headers")
}

func TestMarshaler_LeavesOutWhatAnEntryHasNot(t *testing.T) {
	t.Parallel()
	e := sampleEntry("notification.v1")
	e.Type, e.AggregateType, e.AggregateID, e.AggregateVersion, e.Payload = "", "", "", 0, nil
	e.Headers = map[string]string{"occurred-at": "2020-01-01T00:00:00Z"}
	m := kafka.Entry(&e)
	require.Nil(t, m.Value, "no payload is a null value")
	require.Equal(t, [][2]string{{"event-id", e.ID.String()}, {"occurred-at", "2020-01-01T00:00:00Z"}}, headersOf(m))
}

func TestMarshaler_TakesKeyAndHeadersFromMetadata(t *testing.T) {
	t.Parallel()
	msg := message.NewMessage("the-uuid", nil)
	msg.Metadata = message.Metadata{outbox.MetadataKey: "k", "b": "2", "a": "1"}
	m, err := kafka.Marshal("t", msg, false)
	require.NoError(t, err)
	key, _ := m.Key.Encode()
	require.Equal(t, "k", string(key))
	require.Nil(t, m.Value)
	require.Equal(t, [][2]string{{"a", "1"}, {"b", "2"}, {"event-id", "the-uuid"}}, headersOf(m))

	msg.Metadata[outbox.HeaderEventID] = "from-metadata"
	m, err = kafka.Marshal("t", msg, false)
	require.NoError(t, err)
	require.Equal(t, [][2]string{{"a", "1"}, {"b", "2"}, {"event-id", "from-metadata"}}, headersOf(m))
}

func TestMarshaler_RefusesAMessageWithoutKeyUnlessAllowed(t *testing.T) {
	t.Parallel()
	msg := message.NewMessage("u", nil)
	_, err := kafka.Marshal("t", msg, false)
	require.ErrorIs(t, err, outbox.ErrUnpublishable)
	m, err := kafka.Marshal("t", msg, true)
	require.NoError(t, err)
	require.Nil(t, m.Key)
}

func TestMarshaler_NamesAMessageByItsEventID(t *testing.T) {
	t.Parallel()
	header := func(name, value string) *sarama.RecordHeader {
		return &sarama.RecordHeader{Key: []byte(name), Value: []byte(value)}
	}
	for name, c := range map[string]struct {
		headers []*sarama.RecordHeader
		want    string
	}{
		"event id":        {[]*sarama.RecordHeader{header("_watermill_message_uuid", "w"), header("event-id", "e")}, "e"},
		"Watermill's own": {[]*sarama.RecordHeader{header("_watermill_message_uuid", "w")}, "w"},
		"none":            {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			msg, _ := kafka.Received(t.Context(), "", &sarama.ConsumerMessage{Headers: c.headers})
			if c.want == "" {
				require.NoError(t, uuid.Validate(msg.UUID))
				return
			}
			require.Equal(t, c.want, msg.UUID)
		})
	}
}

func TestMarshaler_KeepsEveryByteOfARecordOnItsWayRound(t *testing.T) {
	t.Parallel()
	brokers, topic := harness.Brokers(t), harness.Topic(t, 4)
	pub := newPublisher(t, brokers)
	for name, c := range map[string]struct {
		record  record.Record
		payload []byte
	}{
		"binary and repeated headers": {record.Record{Partition: 3, Key: []byte{0, 0xff, 1}, Headers: []record.Header{
			{Key: "h", Value: []byte{0, 1, 2, 0xfe}}, {Key: "h", Value: []byte("again")}, {Key: "empty", Value: []byte{}}, {Key: "null"},
		}}, []byte("payload")},
		"null key and value":  {record.Record{Partition: 2}, nil},
		"empty value":         {record.Record{Partition: 1, Key: []byte("k")}, []byte{}},
		"partition by key":    {record.Record{Partition: record.PartitionByKey, Key: []byte("21")}, []byte("x")},
		"partition too large": {record.Record{Partition: 99, Key: []byte("21")}, []byte("y")},
	} {
		msg := message.NewMessage(name, c.payload)
		msg.Metadata = message.Metadata{"not": "sent", outbox.MetadataKey: "not used"}
		msg.SetContext(record.With(t.Context(), &c.record))
		require.NoError(t, pub.Publish(topic, msg), name)

		records := harness.ReadTopic(t, brokers, topic)
		var got *harness.Record
		for i := range records {
			if string(records[i].Key) == string(c.record.Key) && string(records[i].Value) == string(c.payload) {
				got = &records[i]
			}
		}
		require.NotNil(t, got, name)
		require.Equal(t, c.record.Key, got.Key, name)
		require.Equal(t, c.payload == nil, got.Value == nil, name)
		want := c.record.Partition
		if want < 0 || want > 3 {
			want = (-973932308 & 0x7fffffff) % 4 // Java's place of "21"
		}
		require.Equal(t, want, got.Partition, name)
		require.Len(t, got.Headers, len(c.record.Headers), name)
		for i, h := range c.record.Headers {
			require.Equal(t, h.Key, got.Headers[i].Key, name)
			require.Equal(t, string(h.Value), string(got.Headers[i].Value), name)
		}
		requireRoundTrip(t, *got)
	}
}

// requireRoundTrip hands a record through the consuming side and back.
func requireRoundTrip(t *testing.T, r harness.Record) {
	t.Helper()
	cm := &sarama.ConsumerMessage{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		cm.Headers = append(cm.Headers, &sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value})
	}
	msg, rec := kafka.Received(context.Background(), "group", cm)
	from, ok := record.From(msg.Context())
	require.True(t, ok)
	require.Same(t, rec, from)
	require.Equal(t, "group", rec.Group)
	require.Equal(t, r.Offset, rec.Offset)
	back, err := kafka.Marshal("elsewhere", msg, false)
	require.NoError(t, err)
	require.Equal(t, r.Value == nil, back.Value == nil)
	require.Equal(t, r.Key == nil, back.Key == nil)
	require.Len(t, back.Headers, len(r.Headers))
	for i, h := range r.Headers {
		require.Equal(t, h.Key, string(back.Headers[i].Key))
		require.Equal(t, h.Value, back.Headers[i].Value)
	}
}

func BenchmarkMarshaler_Entry(b *testing.B) {
	e := sampleEntry("notification.v1")
	delete(e.Headers, "event-id")
	delete(e.Headers, "millrace-key")
	b.ReportAllocs()
	for b.Loop() {
		_ = kafka.Entry(&e)
	}
}

func BenchmarkMarshaler_Message(b *testing.B) {
	e := sampleEntry("notification.v1")
	p := kafka.Entry(&e)
	cm := &sarama.ConsumerMessage{Topic: "notification.v1", Key: []byte("k"), Value: []byte("v")}
	for i := range p.Headers {
		cm.Headers = append(cm.Headers, &p.Headers[i])
	}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = kafka.Received(context.Background(), "g", cm)
	}
}
