// Package kafka is how Millrace speaks to Kafka, through Sarama.
//
// [Config] is the safe profile: acknowledged by all replicas, idempotent, one
// open request, Java's murmur2 partitioner, no automatic topics, consumers that
// begin at the oldest record and read committed ones only. Weaker settings are
// refused with every reason at once.
//
// [Publisher] is a Watermill message.Publisher, an outbox.BatchPublisher and an
// outbox.Vetter: batches follow each other without waiting, and no retry, abort
// or refusal ever lets a later message of a key overtake an earlier one.
//
// [Admin] creates and checks topics, and tells how far groups are behind.
package kafka
