package kafka_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/test/harness"
)

// A partition that is full, or paused, when it moves away is delivered again when
// it comes back.
func TestSubscriber_PartitionThatComesBackIsFetchedAgain(t *testing.T) {
	t.Parallel()
	const n, keys, partitions = 400, 20, 4
	topic, group := harness.Topic(t, partitions), harness.Group(t)
	produce(t, topic, n, keys)
	cfg := kafka.SubscriberConfig{Buffer: 5, RevokeGrace: -1, DrainTimeout: -1}
	sub := newSubscriber(t, group, cfg)
	done, released := newJournal(), make(chan struct{})
	handle(subscribe(t, sub, topic), func(msg *message.Message) {
		select {
		case <-released:
			done.record(t, msg)
			msg.Ack()
		case <-msg.Context().Done():
		}
	})
	claimed := func(s *kafka.Subscriber, n int) func() bool {
		return func() bool {
			full := 0
			for _, c := range s.Status() {
				if c.Outstanding == 1 && c.Waiting >= cfg.Buffer {
					full++
				}
			}
			return full == n
		}
	}
	require.Eventually(t, claimed(sub, partitions), liveness, 10*time.Millisecond)
	for p := range int32(partitions) {
		sub.Pause(topic, p)
	}
	guest := newSubscriber(t, group, cfg)
	taken := subscribe(t, guest, topic)
	next(t, taken) // it has half of them
	require.NoError(t, guest.Close())
	for p := range int32(partitions) {
		sub.Resume(topic, p)
	}
	close(released)
	require.Eventually(t, func() bool { done.mu.Lock(); defer done.mu.Unlock(); return len(done.times) == n }, liveness, 10*time.Millisecond)
	done.requireComplete(t, n, keys)
}
