package kafka

import (
	"errors"
	"fmt"

	"github.com/IBM/sarama"

	"github.com/millrace-go/millrace/outbox"
)

var (
	// ErrClosed is the error of calls after Close.
	ErrClosed = errors.New("kafka: closed")
	// ErrGaveUp is in the error of a message that may or may not be stored, because
	// the publisher lost contact with the broker while the message was in flight.
	// Sending it again keeps the order and may store it twice.
	ErrGaveUp = errors.New("kafka: gave up on unacknowledged messages")

	errRetrying      = errors.New("the broker asks to try again")
	errEarlierFailed = errors.New("earlier messages had failed")
	errBehindRefused = fmt.Errorf("%w: an earlier message of the key was refused", ErrGaveUp)
)

func gaveUp(cause error) error {
	if cause == nil {
		return ErrGaveUp
	}
	return fmt.Errorf("%w: %w", ErrGaveUp, cause)
}

func unpublishable(err error) bool { return errors.Is(err, outbox.ErrUnpublishable) }

// Reasons of permanent verdicts.
const (
	reasonTooLarge     = "message too large"
	reasonUnknownTopic = "unknown topic"
	reasonInvalidTopic = "invalid topic"
	reasonForbidden    = "not authorized for topic"
	reasonRecord       = "invalid record"
	reasonPolicy       = "refused by broker policy"
	reasonEncoding     = "not encodable"
)

// refusal returns why the broker will never accept a message, or "" if it might.
// whole means that the broker refused a whole batch, of which perhaps only one
// message is at fault. missing says that the topic was missing for long enough.
func refusal(err error, missing bool) (reason string, whole bool) {
	var encoding sarama.PacketEncodingError
	var config sarama.ConfigurationError
	switch {
	case errors.Is(err, errGivenUp):
		return "", false
	case errors.Is(err, sarama.ErrMessageSizeTooLarge), errors.Is(err, sarama.ErrMessageSetSizeTooLarge):
		return reasonTooLarge, true
	case errors.Is(err, sarama.ErrInvalidRecord), errors.Is(err, sarama.ErrInvalidTimestamp), errors.Is(err, sarama.ErrUnsupportedForMessageFormat):
		return reasonRecord, true
	case errors.Is(err, sarama.ErrUnknownTopicOrPartition) && missing:
		return reasonUnknownTopic, false
	case errors.Is(err, sarama.ErrInvalidTopic):
		return reasonInvalidTopic, false
	case errors.Is(err, sarama.ErrTopicAuthorizationFailed):
		return reasonForbidden, false
	case errors.Is(err, sarama.ErrPolicyViolation):
		return reasonPolicy, true
	case errors.As(err, &encoding):
		return reasonEncoding, true
	case errors.As(err, &config): // Sarama's own size check, before sending
		return reasonTooLarge, false
	}
	return "", false
}
