package kafka

import (
	"errors"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// missingFor is how long brokers must say that a topic does not exist until it
// is believed: one that has just started may not know all topics yet.
const missingFor = 2 * time.Second

// steadyClient is the Client of a producer. Where Sarama would fail a single
// message because metadata cannot be had, which would let later messages
// overtake it, this one tries on until the gate is shut. It fails only for what
// cannot heal: a topic that is invalid, forbidden or does not exist.
type steadyClient struct {
	sarama.Client
	conf    *sarama.Config
	gate    *gate
	backoff func(n int) time.Duration
	trouble func(error)

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

// Leader returns a broker behind the shut gate once that is shut: Sarama then
// fails what it still holds through its usual way, at once.
func (c *steadyClient) Leader(topic string, partition int32) (b *sarama.Broker, err error) {
	err = c.persist([]string{topic}, func() error {
		b, err = c.Client.Leader(topic, partition)
		return err
	})
	if errors.Is(err, errGivenUp) {
		return c.nobody(), nil
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
		return []int32{0}, nil // any will do: nothing is sent any more
	}
	return ids, err
}

// nobody returns a broker that cannot be reached: the gate is shut.
func (c *steadyClient) nobody() *sarama.Broker {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead == nil {
		c.dead = sarama.NewBroker("given-up:0")
		_ = c.dead.Open(c.conf) // its error is what we want
	}
	return c.dead
}

func (c *steadyClient) persist(topics []string, try func() error) error {
	var missingSince time.Time
	for n := 1; ; n++ {
		if c.gate.isShut() {
			return errShut
		}
		err := try()
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
		c.trouble(err)
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

// isMissing reports whether brokers have said long enough that topic does not exist.
func (c *steadyClient) isMissing(topic string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.missing[topic]
}
