package kafka

import (
	"context"
	"fmt"

	"github.com/IBM/sarama"
	wmkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// marshaler turns Watermill messages into Kafka records. A message whose context
// carries a record.Record keeps that record's key, headers and partition as they
// stand. Of any other the key is the metadata outbox.MetadataKey, which is not a
// header itself; the headers are the other metadata in the order of their names,
// and the event id is the message's UUID if the metadata has none.
type marshaler struct {
	allowNoKey bool // a message without a key is sent instead of refused
}

// marshal fills w and returns the partition the message asks for, or a negative number.
func (m marshaler) marshal(w *wire, topic string, msg *message.Message) (int32, error) {
	if r, ok := record.From(msg.Context()); ok {
		headers := make([]sarama.RecordHeader, len(r.Headers))
		for i, h := range r.Headers {
			headers[i] = sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value}
		}
		w.set(topic, r.Key, msg.Payload, headers)
		return r.Partition, nil
	}
	key := msg.Metadata[outbox.MetadataKey]
	if key == "" && !m.allowNoKey {
		return record.PartitionByKey, outbox.Unpublishable("no key",
			fmt.Errorf("message %q for topic %q has no metadata %q", msg.UUID, topic, outbox.MetadataKey))
	}
	w.set(topic, keyBytes(key), msg.Payload, metadataHeaders(msg))
	return record.PartitionByKey, nil
}

func keyBytes(key string) []byte {
	if key == "" {
		return nil
	}
	return []byte(key)
}

func metadataHeaders(msg *message.Message) []sarama.RecordHeader {
	headers := make([]sarama.RecordHeader, 0, len(msg.Metadata)+1)
	for name, value := range msg.Metadata {
		if name != outbox.MetadataKey {
			headers = append(headers, sarama.RecordHeader{Key: []byte(name), Value: []byte(value)})
		}
	}
	if msg.UUID != "" && msg.Metadata[outbox.HeaderEventID] == "" {
		headers = append(headers, sarama.RecordHeader{Key: nameEventID, Value: []byte(msg.UUID)})
	}
	sortHeaders(headers)
	return headers
}

// received returns the Watermill message of a record that group has received, and
// its record.Record. The UUID is the event id; the metadata are the headers as
// text, of which a later one of the same name wins; the context is ctx with the
// record.Record. Nothing is decoded, so it cannot fail: a payload that no handler
// understands becomes a dead letter.
func received(ctx context.Context, group string, cm *sarama.ConsumerMessage) (*message.Message, *record.Record) {
	r := &record.Record{
		Topic: cm.Topic, Partition: cm.Partition, Offset: cm.Offset, Timestamp: cm.Timestamp,
		Key: cm.Key, Headers: make([]record.Header, 0, len(cm.Headers)), Group: group,
	}
	metadata := make(message.Metadata, len(cm.Headers))
	for _, h := range cm.Headers {
		if h == nil {
			continue
		}
		name := headerName(h.Key)
		r.Headers = append(r.Headers, record.Header{Key: name, Value: h.Value})
		metadata[name] = string(h.Value)
	}
	msg := message.NewMessage(messageUUID(metadata), cm.Value)
	msg.Metadata = metadata
	msg.SetContext(record.With(ctx, r))
	return msg, r
}

func messageUUID(metadata message.Metadata) string {
	if id := metadata[outbox.HeaderEventID]; id != "" {
		return id
	}
	if id := metadata[wmkafka.UUIDHeaderKey]; id != "" {
		return id
	}
	return uuid.NewString()
}

// usualHeaders are the names that most records have, the most frequent first.
var usualHeaders = [...]string{
	outbox.HeaderEventID, outbox.HeaderEventType, outbox.HeaderAggregateType, outbox.HeaderAggregateID, outbox.HeaderAggregateVersion,
	outbox.HeaderSchemaVersion, outbox.HeaderOccurredAt, outbox.HeaderTraceparent, outbox.HeaderCorrelationID, outbox.HeaderCausationID,
}

// headerName returns b as a string, without an allocation for the usual names.
func headerName(b []byte) string {
	for _, name := range usualHeaders {
		if string(b) == name {
			return name
		}
	}
	return string(b)
}
