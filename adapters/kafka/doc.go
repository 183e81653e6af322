// Package kafka is how Millrace speaks to Kafka, through Sarama.
//
// [Config] names the cluster; one value serves every type of the package. It is the
// safe profile: acknowledged by all replicas, idempotent, one open request, Java's
// murmur2 partitioner, no automatic topics, consumers that start at the oldest record
// and read committed records only. Weaker settings are refused, with all reasons at
// once. [Hooks] report what happens; [LogHooks] logs it.
//
//   - [Publisher] is a Watermill message.Publisher, an outbox.BatchPublisher and an
//     outbox.Vetter. Batches follow each other without waiting, and no retry, abort
//     or refusal lets a later message of a key overtake an earlier one.
//   - [Subscriber] is a Watermill message.Subscriber over a consumer group, and
//     delivers batches too. Each key is in order, and the committed offset never
//     passes an unfinished message.
//   - [Admin] creates and checks topics, and measures how far groups are behind.
//   - [DeadLetters] reads dead-letter topics and stores what was replayed.
//
// # How a message is published
//
//	Publish, PublishBatch   Publisher     asks topicCache whether the topic accepts it
//	      │ batch of outgoing
//	      ▼
//	   producer             from the first message to the first failure; then the
//	      │                 Publisher opens another one
//	      ▼
//	   sizedProducer        one for each size limit of a topic; a Sarama AsyncProducer
//	      │                 with a steadyClient, which retries metadata
//	      ▼
//	   gate                 dialer of the Sarama client: before each write, barrier
//	      │                 waits until reported failures are dealt with
//	      ▼
//	   Kafka ──▶ sizedProducer.readSuccesses ──▶ producer.succeed ──▶ ack(i, nil)
//	         └─▶ sizedProducer.readErrors ─────▶ producer.failed: shuts the gate,
//	             then producer.finish answers every message that is left: refused for
//	             good (refusal, resendSingly) or given up (ErrGaveUp)
//
// # How a message is consumed
//
//	Kafka
//	  │ consumer group
//	  ▼
//	subscription       one topic as one member of the group: joins, rejoins
//	  │ one claim for each partition that the member owns
//	  ▼
//	claim.run          the only loop that touches the window
//	  │ add                                  ▲ acks and nacks, in any order
//	  ▼                                      │
//	window             a lane for each key: hands over the first record of a lane,
//	  │ take           moves the low-water mark over finished records
//	  ▼
//	delivery           one message or a batch, to the channel of Subscribe or
//	                   SubscribeBatches; then MarkOffset(low-water mark)
//
// The window does no I/O: the scripts in testdata/window show how it decides.
//
// # For implementers
//
// Package outbox calls [Publisher.PublishBatch] and [Publisher.Vet]; the router of
// adapters/consumer calls [Subscriber.SubscribeInitialize], [Subscriber.Pause],
// [Subscriber.Resume] and [Subscriber.Seek]; package deadletter calls
// [DeadLetters.Bounds], [DeadLetters.Read], [DeadLetters.Progress] and
// [DeadLetters.Commit]. Services pass the value on and do not call them.
package kafka
