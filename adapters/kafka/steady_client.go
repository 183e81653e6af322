package kafka

import (
	"errors"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// missingFor is how long brokers must say that a topic does not exist before it is
// believed: a broker that has just started may not know all topics yet.
const missingFor = 2 * time.Second

// steadyClient is the sarama.Client of a sizedProducer. Where no metadata is
// available Sarama would fail a single message, and later messages would overtake
// it. This client retries until the gate is shut. It fails only where retrying cannot
// help: the topic is invalid, forbidden or does not exist.
type steadyClient struct {
	sarama.Client
	conf    *sarama.Config
	gate    *gate
	backoff func(n int) time.Duration
	report  func(error)

	mu      sync.Mutex
	missing map[string]bool // topics that are known not to exist
	dead    *sarama.Broker
}

func (c *steadyClient) Config() *sarama.Config { return c.conf }

func (c *steadyClient) RefreshMetadata(topics ...string) error {
	err := c.persist(topics, func() error { return c.Client.RefreshMetadata(topics...) })
	if errors.Is(err, errGivenUp) {
		return nil // Leader has the answer
	}
	return err
}

// Leader returns an unreachable broker once the gate is shut: Sarama then fails the
// messages it still holds at once, in the same way as any others.
func (c *steadyClient) Leader(topic string, partition int32) (b *sarama.Broker, err error) {
	err = c.persist([]string{topic}, func() error {
		b, err = c.Client.Leader(topic, partition)
		return err
	})
	if errors.Is(err, errGivenUp) {
		return c.deadBroker(), nil
	}
	return b, err
}

func (c *steadyClient) Partitions(topic string) ([]int32, error) {
	return c.partitions(topic, c.Client.Partitions)
}

func (c *steadyClient) WritablePartitions(topic string) ([]int32, error) {
	return c.partitions(topic, c.Client.WritablePartitions)
}

func (c *steadyClient) partitions(topic string, of func(string) ([]int32, error)) (ids []int32, err error) {
	err = c.persist([]string{topic}, func() error {
		ids, err = of(topic)
		if err == nil && len(ids) == 0 {
			err = sarama.ErrLeaderNotAvailable
		}
		return err
	})
	if errors.Is(err, errGivenUp) {
		return []int32{0}, nil // any one: nothing is sent any more
	}
	return ids, err
}

// deadBroker returns a broker that cannot be reached, because the gate is shut.
func (c *steadyClient) deadBroker() *sarama.Broker {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead == nil {
		c.dead = sarama.NewBroker("given-up:0")
		_ = c.dead.Open(c.conf) // it fails, as it should
	}
	return c.dead
}

// persist calls attempt until it succeeds, the gate is shut or the error is final.
func (c *steadyClient) persist(topics []string, attempt func() error) error {
	var missingSince time.Time
	for n := 1; ; n++ {
		if c.gate.isShut() {
			return errShut
		}
		err := attempt()
		switch {
		case c.gate.isShut():
			return errShut
		case err == nil:
			return nil
		case errors.Is(err, sarama.ErrInvalidTopic), errors.Is(err, sarama.ErrTopicAuthorizationFailed):
			return err
		case !errors.Is(err, sarama.ErrUnknownTopicOrPartition):
			missingSince = time.Time{}
		case missingSince.IsZero():
			missingSince = time.Now()
		case time.Since(missingSince) >= missingFor:
			c.setMissing(topics)
			return err
		}
		c.report(err)
		if !c.gate.wait(c.backoff(n)) {
			return errShut
		}
	}
}

func (c *steadyClient) setMissing(topics []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range topics {
		c.missing[t] = true
	}
}

// isMissing reports whether brokers have said for long enough that topic does not
// exist.
func (c *steadyClient) isMissing(topic string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.missing[topic]
}
