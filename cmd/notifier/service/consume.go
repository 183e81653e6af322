package service

import (
	"math"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/outbox/record"
)

// buildConsuming wires the consumer groups. A server that is away says nothing
// about a message, so it is waited for however long it takes; only what cannot be
// decoded, and a key in Redis that somebody else uses, is a dead letter.
func (s *service) buildConsuming() (err error) {
	s.router, err = consumer.New(s.dead, consumer.Config{
		Tracer:       telemetry.Tracer{},
		Retry:        consumer.Exponential(100*time.Millisecond, 2, 5*time.Second, math.MaxInt32, 0.2),
		DrainTimeout: s.cfg.DrainTimeout,
		Logger:       telemetry.NewWatermillLogger(s.log),
		Hooks:        s.consumerHooks(),
	})
	if err != nil {
		return err
	}
	for _, group := range []func() error{s.consumeViews, s.consumeSending, s.consumeAudit, s.consumeAccounts} {
		if err := group(); err != nil {
			return err
		}
	}
	return s.router.Validate()
}

// consumeViews wires the group that keeps the views in Redis, a batch at a time.
func (s *service) consumeViews() error {
	sub, err := s.subscriber(s.cfg.Group)
	if err != nil {
		return err
	}
	s.router.HandleBatch("views", s.cfg.Topic, sub, s.project, consumer.WithGroup(s.cfg.Group))
	return nil
}

func (s *service) subscriber(group string, tune ...func(*kafka.SubscriberConfig)) (*kafka.Subscriber, error) {
	cfg := kafka.SubscriberConfig{Concurrency: 32, DrainTimeout: s.cfg.DrainTimeout}
	for _, t := range tune {
		t(&cfg)
	}
	return kafka.NewSubscriber(group, kafka.Config{
		Brokers: s.cfg.Brokers, ClientID: "notifier",
		Hooks: kafka.Hooks{Error: func(topic string, err error) {
			s.log.Warn("consumer tries again", "group", group, "topic", topic, "kafka", s.cfg.kafkaAddr(), "error", err)
		}},
	}, cfg)
}

func (s *service) decode(m *message.Message) (domain.Recorded, error) {
	return s.codec.Decode(m.Metadata, m.Payload)
}

// project applies a batch in one pipeline. What cannot be decoded does not hold up
// the others: versions order them, whichever comes first.
func (s *service) project(b *record.Batch) error {
	failed := map[int]error{}
	events := make([]domain.Recorded, 0, len(b.Messages))
	for i, m := range b.Messages {
		event, err := consumer.Decode(s.decode, m)
		if err != nil {
			failed[i] = err
			continue
		}
		events = append(events, event)
	}
	_, err := s.views.Apply(b.Context(), events...)
	switch {
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		return consumer.Fatal(err)
	case err != nil:
		return err
	case len(failed) > 0:
		return &consumer.BatchError{Failed: failed}
	}
	return nil
}
