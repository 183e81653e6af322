package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	watermillkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	watermillsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/message"
)

const (
	forwarderTable = "forwarder_topic" // the forwarder's own default
	topicForwarder = "bench.forwarder"
)

// stock is Watermill's forwarder: its SQL subscriber, its Kafka publisher with
// the record key from the metadata, everything else as tune leaves it.
type stock struct {
	g     *serverGroup
	group string
	batch int           // 0 = default 100
	poll  time.Duration // 0 = default 1 s
}

func (s stock) run(ctx context.Context, round int) error {
	pub, err := watermillkafka.NewPublisher(watermillkafka.PublisherConfig{
		Brokers: s.g.set.Kafka,
		Marshaler: watermillkafka.NewWithPartitioningMarshaler(func(_ string, m *message.Message) (string, error) {
			return m.Metadata.Get("key"), nil
		}),
	}, watermill.NopLogger{})
	if err != nil {
		return fmt.Errorf("kafka publisher: %w", err)
	}
	defer pub.Close()
	sub, err := watermillsql.NewSubscriber(s.g.db, watermillsql.SubscriberConfig{
		ConsumerGroup:    fmt.Sprintf("%s_%d", s.group, round),
		PollInterval:     s.poll,
		SchemaAdapter:    watermillsql.DefaultPostgreSQLSchema{SubscribeBatchSize: s.batch},
		OffsetsAdapter:   watermillsql.DefaultPostgreSQLOffsetsAdapter{},
		InitializeSchema: true,
	}, watermill.NopLogger{})
	if err != nil {
		return fmt.Errorf("sql subscriber: %w", err)
	}
	fwd, err := forwarder.NewForwarder(sub, pub, watermill.NopLogger{}, forwarder.Config{ForwarderTopic: forwarderTable})
	if err != nil {
		return errors.Join(fmt.Errorf("forwarder: %w", err), sub.Close())
	}
	return fwd.Run(ctx) // its router closes the subscriber, which bears no second Close beside that
}
