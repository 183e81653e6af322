package kafka

import (
	"context"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// NewPartitioner is newPartitioner.
var NewPartitioner = newPartitioner

// SaramaConfig is Config.saramaConfig.
func SaramaConfig(c Config) (*sarama.Config, error) { return c.saramaConfig() }

// Entry returns the record that the Publisher sends for e.
func Entry(e *outbox.Entry) *sarama.ProducerMessage {
	w := new(wire)
	newArena([]outbox.Entry{*e}).entry(w, e)
	return &w.msg
}

// Marshal returns the record that the Publisher sends for msg.
func Marshal(topic string, msg *message.Message, allowNoKey bool) (*sarama.ProducerMessage, error) {
	w := new(wire)
	_, err := marshaler{allowNoKey: allowNoKey}.marshal(w, topic, msg)
	return &w.msg, err
}

// Received returns the message that a Subscriber delivers for a record.
func Received(ctx context.Context, group string, cm *sarama.ConsumerMessage) (*message.Message, *record.Record) {
	return received(ctx, group, cm)
}
