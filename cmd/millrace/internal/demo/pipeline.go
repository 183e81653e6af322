package demo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/adapters/notifier/codec"
	"github.com/millrace-go/millrace/adapters/notifier/postgres"
	"github.com/millrace-go/millrace/adapters/notifier/views"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	"github.com/millrace-go/millrace/outbox/record"
)

// pipeline is the service as an embedder wires it: use cases over Postgres with
// an outbox, a relay in the same process, a consumer that keeps the views, one that
// sends.
type pipeline struct {
	app     *app.App
	uow     *postgres.UnitOfWork
	poison  *poison
	group   string
	sending *sending

	relay  *outbox.Relay
	router *consumer.Router
	relays *kafka.Publisher // of the relay
	pub    *kafka.Publisher // of dead letters and replays
	redis  *redis.Client
	cache  *cache.Store
}

func newPipeline(s *show) (*pipeline, error) {
	p := &pipeline{poison: newPoison(s.run), group: "views-" + s.run}
	opt, err := redis.ParseURL(s.set.Redis)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	cache.Harden(opt)
	opt.DialTimeout, opt.ReadTimeout, opt.WriteTimeout, opt.PoolTimeout = time.Second, time.Second, time.Second, time.Second
	p.redis = redis.NewClient(opt)
	if p.cache, err = cache.NewStore(p.redis, cache.StoreConfig{BreakerErrors: math.MaxInt32}); err != nil {
		return nil, err
	}
	entries, err := views.New(p.redis, p.cache, postgres.NewReader(s.db), views.Config{})
	if err != nil {
		return nil, err
	}
	brokers := kafka.Config{Brokers: s.set.Kafka, Hooks: kafka.Hooks{
		Error: func(topic string, err error) { s.cfg.Log.Warn("subscriber", "topic", topic, "error", err) },
	}}
	for _, pub := range []**kafka.Publisher{&p.relays, &p.pub} {
		if *pub, err = kafka.NewPublisher(brokers); err != nil {
			return nil, err
		}
	}
	translate := codec.New(codec.Config{Topic: func(string) string { return s.topic }})
	if err := p.write(s, entries, translate); err != nil {
		return nil, err
	}
	return p, p.consume(s, brokers, entries, translate)
}

// write wires the use cases, the outbox and the relay.
func (p *pipeline) write(s *show, entries *views.Views, translate *codec.Codec) error {
	store, err := pgstore.New(s.db, pgstore.Config{})
	if err != nil {
		return err
	}
	p.relay, err = outbox.NewRelay(store, p.relays, outbox.RelayConfig{Name: "demo", Hooks: outbox.Hooks{
		Retrying: func(err error, in time.Duration) {
			s.cfg.Log.Warn("relay tries again", "error", err, "in", in.String())
		},
		Parked: func(m outbox.Parked) { s.cfg.Log.Warn("message parked", "position", m.Position, "reason", m.Reason) },
	}})
	if err != nil {
		return err
	}
	writer, err := outbox.NewWriter(store, outbox.WriterConfig{Wake: p.relay.Wake})
	if err != nil {
		return err
	}
	if p.uow, err = postgres.NewUnitOfWork(s.db, writer, translate, postgres.Config{}); err != nil {
		return err
	}
	if p.app, err = app.New(p.uow, postgres.NewReader(s.db), entries, app.Config{Retry: retry}); err != nil {
		return err
	}
	p.sending, err = newSending(s, p.uow, p.relay.Wake)
	return err
}

// consume wires the handler of the views, with the defect around it.
func (p *pipeline) consume(s *show, brokers kafka.Config, entries *views.Views, translate *codec.Codec) (err error) {
	p.router, err = consumer.New(p.pub, consumer.Config{
		Retry: consumer.FixedBackOff(50*time.Millisecond, 3),
		Hooks: consumer.Hooks{DeadLetterFailed: func(r consumer.RetryInfo) {
			s.cfg.Log.Warn("dead letter could not be published", "message", r.Delivery.MessageID, "error", r.Err)
		}},
	})
	if err != nil {
		return err
	}
	sub, err := kafka.NewSubscriber(p.group, brokers, kafka.SubscriberConfig{Concurrency: 32})
	if err != nil {
		return err
	}
	project := func(b *record.Batch) error {
		events := make([]domain.Recorded, len(b.Messages))
		for i, m := range b.Messages {
			var err error
			if events[i], err = translate.Decode(m.Metadata, m.Payload); err != nil {
				return fmt.Errorf("%w: %w", consumer.ErrDecode, err)
			}
		}
		_, err := entries.Apply(b.Context(), events...)
		return err
	}
	p.router.HandleBatch("views", s.topic, sub, project, consumer.WithGroup(p.group), consumer.WithInside(p.poison.middleware))
	return p.sending.consume(s, p.router, brokers, p.uow, translate)
}

// run works until ctx ends, and stops as a service does: the relay drains, the
// consumers finish what they hold.
func (p *pipeline) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.relay.Run(ctx) })
	g.Go(func() error { return p.router.Run(ctx) })
	g.Go(func() error { return p.sending.resend(ctx) })
	err := g.Wait()
	return errors.Join(err, p.sending.close(), p.relays.Close(), p.pub.Close(), p.cache.Close(), p.redis.Close())
}

// replay sends the dead letters back, as millrace dlt replay does.
func (s *show) replay(ctx context.Context) error {
	reader, err := kafka.NewDeadLetters(kafka.Config{Brokers: s.set.Kafka, ClientID: "millrace-demo"})
	if err != nil {
		return err
	}
	defer reader.Close()
	_, err = deadletter.Replay(ctx, s.dead, reader, s.pipe.pub, deadletter.Config{
		Rate: -1, Filter: deadletter.Filter{Group: s.pipe.group},
	})
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	return nil
}
