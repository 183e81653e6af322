package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	watermillkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"github.com/millrace-go/millrace/adapters/kafka"
)

func poisonTopicOf(p poison) string { return p.topic() + ".poison" }

// rivals do the same work without batches.
func (b *consumeBench) rivals() []*consumer {
	stock := func(p poison, view bool) func(context.Context, string, *meter) error {
		return func(ctx context.Context, group string, m *meter) error { return b.stockRouter(ctx, p, view, group, m) }
	}
	return []*consumer{
		{name: nameOneTx, from: noPoison, run: b.oneByOne, note: "a loop: for each message BEGIN, id and row, COMMIT"},
		{name: nameStock, from: noPoison, run: stock(noPoison, false), note: "Watermill's router, watermill-kafka's subscriber, a transaction a message, a message a partition at a time"},
		{name: nameStock + "_retryable", from: retryable, run: stock(retryable, false), note: "the same with Retry (500 ms, 3) and PoisonQueue"},
		{name: nameStock + "_view", from: noPoison, view: true, run: stock(noPoison, true), note: "the same into Redis, a call a message"},
	}
}

// oneTx is the transaction that a careful handler without an inbox makes for each
// message: its id, unless it is there, and its row.
type oneTx struct {
	db         *sql.DB
	see, write *sql.Stmt
}

func newOneTx(ctx context.Context, db *sql.DB) (*oneTx, error) {
	see, err := db.PrepareContext(ctx, `INSERT INTO bench_seen (event) VALUES ($1) ON CONFLICT DO NOTHING`)
	if err != nil {
		return nil, err
	}
	write, err := db.PrepareContext(ctx, insertEffect)
	if err != nil {
		return nil, errors.Join(err, see.Close())
	}
	return &oneTx{db, see, write}, nil
}

func (o *oneTx) close() { _, _ = o.see.Close(), o.write.Close() } // statements alone

func (o *oneTx) handle(ctx context.Context, msg *message.Message) error {
	d, err := decodeOrder(msg)
	if err != nil {
		return err
	}
	tx, err := o.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing to do after a commit
	res, err := tx.StmtContext(ctx, o.see).ExecContext(ctx, d.event)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return err
	}
	if err := d.write(ctx, tx.StmtContext(ctx, o.write)); err != nil {
		return err
	}
	if err := d.failure(); err != nil {
		return err
	}
	return tx.Commit()
}

// oneByOne is a poll loop.
func (b *consumeBench) oneByOne(ctx context.Context, group string, m *meter) error {
	o, err := newOneTx(ctx, b.db)
	if err != nil {
		return err
	}
	defer o.close()
	sub, err := kafka.NewSubscriber(group, kafka.Config{Brokers: b.set.Kafka, ClientID: "bench"}, kafka.SubscriberConfig{DrainTimeout: time.Second})
	if err != nil {
		return err
	}
	msgs, err := sub.Subscribe(ctx, noPoison.topic())
	if err != nil {
		return err
	}
	for msg := range msgs {
		m.start()
		if err := o.handle(msg.Context(), msg); err != nil {
			return errors.Join(fmt.Errorf("message %s: %w", msg.UUID, err), sub.Close())
		}
		msg.Ack()
		m.add(1)
	}
	return sub.Close()
}

// stockRouter is what Watermill gives, wired as its examples do.
func (b *consumeBench) stockRouter(ctx context.Context, p poison, view bool, group string, m *meter) error {
	o, err := newOneTx(ctx, b.db)
	if err != nil {
		return err
	}
	defer o.close()
	handle := o.handle
	if view {
		rdb, put, closeView, err := b.openView(ctx)
		if err != nil {
			return err
		}
		defer closeView()
		if err := rdb.FlushDB(ctx).Err(); err != nil {
			return err
		}
		handle = func(ctx context.Context, msg *message.Message) error {
			d, err := decodePut(msg)
			if err == nil {
				_, err = put.Put(ctx, d.ID, d.Entry)
			}
			return err
		}
	}
	router, closeRouter, err := b.newStockRouter(p, group)
	if err != nil {
		return err
	}
	defer closeRouter()
	router.router.AddConsumerHandler("bench", p.topic(), router.sub, func(msg *message.Message) error {
		m.start()
		return handle(msg.Context(), msg)
	}).AddMiddleware(counting(m), router.poisoned, middleware.Retry{MaxRetries: 3, InitialInterval: 500 * time.Millisecond, Multiplier: 1, MaxInterval: 500 * time.Millisecond}.Middleware)
	return router.router.Run(ctx)
}

// counting counts what is acknowledged.
func counting(m *meter) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			out, err := next(msg)
			if err == nil {
				m.add(1)
			}
			return out, err
		}
	}
}

// stockParts are Watermill's own.
type stockParts struct {
	router   *message.Router
	sub      *watermillkafka.Subscriber
	poisoned message.HandlerMiddleware
}

func (b *consumeBench) newStockRouter(p poison, group string) (s stockParts, closeAll func(), err error) {
	closers := []func() error{}
	closeAll = func() {
		for _, c := range closers {
			_ = c() // the turn is over
		}
	}
	sc := watermillkafka.DefaultSaramaSubscriberConfig()
	sc.Consumer.Offsets.Initial = sarama.OffsetOldest
	if s.sub, err = watermillkafka.NewSubscriber(watermillkafka.SubscriberConfig{
		Brokers: b.set.Kafka, Unmarshaler: watermillkafka.DefaultMarshaler{}, OverwriteSaramaConfig: sc, ConsumerGroup: group,
	}, watermill.NopLogger{}); err != nil {
		return s, closeAll, err
	}
	closers = append(closers, s.sub.Close)
	pub, err := watermillkafka.NewPublisher(watermillkafka.PublisherConfig{Brokers: b.set.Kafka, Marshaler: watermillkafka.DefaultMarshaler{}}, watermill.NopLogger{})
	if err != nil {
		closeAll()
		return s, closeAll, err
	}
	closers = append(closers, pub.Close)
	if s.poisoned, err = middleware.PoisonQueue(pub, poisonTopicOf(p)); err == nil {
		s.router, err = message.NewRouter(message.RouterConfig{CloseTimeout: 5 * time.Second}, watermill.NopLogger{})
	}
	if err != nil {
		closeAll()
	}
	return s, closeAll, err
}
