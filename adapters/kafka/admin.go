package kafka

import (
	"cmp"
	"strconv"
	"time"

	"github.com/IBM/sarama"

	"github.com/millrace-go/millrace/outbox/record"
)

const (
	deadLetterRetention = 14 * 24 * time.Hour
	deadLetterRoom      = 64 << 10 // for the headers that describe the failure
	defaultMaxMessage   = 1_048_588
)

// Admin creates and checks topics, and measures how far groups are behind. It
// connects when it is first used. It is safe for concurrent use: calls run one at a
// time, and each ends at once with its context.
type Admin struct{ link *link }

// NewAdmin returns an Admin, or everything that is wrong with cfg.
func NewAdmin(cfg Config) (*Admin, error) {
	sc, err := cfg.saramaConfig()
	if err != nil {
		return nil, err
	}
	return newAdmin(cfg.withDefaults(), sc), nil
}

func newAdmin(cfg Config, sc *sarama.Config) *Admin { return &Admin{link: newLink(cfg, sc)} }

// Close ends the calls that are running and the connection. It returns nil.
func (a *Admin) Close() error {
	a.link.close()
	return nil
}

// Topic is what EnsureTopics creates.
type Topic struct {
	Name string
	// Partitions cannot be changed later without moving keys. Default 6; a topic
	// that exists keeps its own.
	Partitions int32
	// Replicas of each partition. Default 0: as the brokers are set up. With 3
	// or more, two of them must be in sync for a write.
	Replicas int16
	// MaxMessageBytes is the largest batch that the topic accepts. Default 0:
	// Kafka's own 1,048,588.
	MaxMessageBytes int
	// Retention is how long records are kept. Default 0: as the brokers are set
	// up; -1 keeps them forever.
	Retention time.Duration
	// NoDeadLetters creates no dead-letter topic beside it. Default false.
	NoDeadLetters bool
}

func (t Topic) deadLetters() Topic {
	return Topic{
		Name: t.Name + record.DeadLetterSuffix, Partitions: t.Partitions, Replicas: t.Replicas, Retention: deadLetterRetention,
		MaxMessageBytes: cmp.Or(t.MaxMessageBytes, defaultMaxMessage) + deadLetterRoom, NoDeadLetters: true,
	}
}

func (t Topic) detail() *sarama.TopicDetail {
	config := map[string]*string{}
	set := func(name, value string) { config[name] = &value }
	if t.MaxMessageBytes > 0 {
		set("max.message.bytes", strconv.Itoa(t.MaxMessageBytes))
	}
	if t.Retention != 0 {
		ms := int64(-1)
		if t.Retention > 0 {
			ms = t.Retention.Milliseconds()
		}
		set("retention.ms", strconv.FormatInt(ms, 10))
		set("cleanup.policy", "delete")
	}
	if t.Replicas >= 3 {
		set("min.insync.replicas", "2")
	}
	return &sarama.TopicDetail{NumPartitions: t.Partitions, ReplicationFactor: cmp.Or(t.Replicas, -1), ConfigEntries: config}
}
