// Package records holds what handlers and the work on dead letters both need to
// know of Kafka records. Reference code: no compatibility promise.
package records

import (
	"context"
	"fmt"
	"regexp"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// ReasonTooLarge is the outbox.UnpublishableError.Reason of publishers for a
// message over the size limit.
const ReasonTooLarge = "message too large"

var topicName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)

// IsTopic reports whether s can be the name of a topic.
func IsTopic(s string) bool { return topicName.MatchString(s) }

// Text is a header with a text value.
func Text(name, value string) record.Header {
	return record.Header{Key: name, Value: []byte(value)}
}

// Place says where r is stored, as "topic/partition/offset".
func Place(r *record.Record) string {
	return fmt.Sprintf("%s/%d/%d", r.Topic, r.Partition, r.Offset)
}

// Message is a message that publishers who know record.Record send as rec, and
// others as close to it as metadata allows.
func Message(ctx context.Context, uuid string, rec *record.Record, payload []byte) *message.Message {
	m := message.NewMessageWithContext(record.With(ctx, rec), uuid, payload)
	for _, h := range rec.Headers {
		m.Metadata.Set(h.Key, string(h.Value))
	}
	m.Metadata.Set(outbox.MetadataKey, string(rec.Key))
	return m
}

// Key returns the key within which msg is in order, if it has one.
func Key(msg *message.Message) (string, bool) {
	if r, ok := record.From(msg.Context()); ok {
		return string(r.Key), r.Key != nil
	}
	key, ok := msg.Metadata[outbox.MetadataKey]
	return key, ok
}
