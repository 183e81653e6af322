package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/adapters/cache"
	kafkaconsumer "github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/inbox"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// consumer is one way to consume a topic.
type consumer struct {
	name string
	note string
	ours bool
	from poison
	view bool // writes to Redis instead of Postgres
	// run consumes as a new group, from the first message on, until ctx ends.
	run func(ctx context.Context, group string, m *meter) error
}

// The variants' names in results.
const (
	nameTransactional = "transactional"
	nameView          = "view"
	nameOneTx         = "one_tx_per_message"
	nameStock         = "stock_router"
	nameReplay        = "dlt_replay"
)

func (b *consumeBench) variants() []*consumer {
	var all []*consumer
	for _, p := range poisons {
		v := &consumer{name: nameTransactional, ours: true, from: p, note: "batches through the inbox, one row an event, one commit a batch"}
		if p != noPoison {
			v.name += "_" + string(p)
			v.note = fmt.Sprintf("the same, one message in %d is %s", b.cfg.Every, p)
		}
		v.run = func(ctx context.Context, group string, m *meter) error { return b.transactional(ctx, p, group, m) }
		all = append(all, v)
	}
	all = append(all, &consumer{
		name: nameView, ours: true, from: noPoison, view: true, note: "batches into Redis, each entry set if its version is newer, one pipeline a batch", run: b.viewed,
	})
	if !b.cfg.Alone {
		all = append(all, b.rivals()...)
	}
	return all
}

// serve runs one batch handler on a router with its defaults, and counts what it
// is done with.
func (b *consumeBench) serve(ctx context.Context, p poison, group string, m *meter, fn kafkaconsumer.BatchFunc) error {
	conf := kafka.Config{Brokers: b.set.Kafka, ClientID: "bench"}
	sub, err := kafka.NewSubscriber(group, conf, kafka.SubscriberConfig{Concurrency: 4})
	if err != nil {
		return err
	}
	dead, err := kafka.NewPublisher(conf)
	if err != nil {
		return err
	}
	router, err := kafkaconsumer.New(dead, kafkaconsumer.Config{Hooks: kafkaconsumer.Hooks{
		Delivered: func(d kafkaconsumer.Delivery) {
			if d.Outcome == kafkaconsumer.OutcomeDone || d.Outcome == kafkaconsumer.OutcomeDeadLettered {
				m.add(1)
			}
		},
	}})
	if err != nil {
		return errors.Join(err, dead.Close())
	}
	router.HandleBatch(group, p.topic(), sub, func(batch *record.Batch) error {
		m.start()
		return fn(batch)
	}, kafkaconsumer.WithGroup(group))
	return errors.Join(router.Run(ctx), dead.Close())
}

const insertEffect = `INSERT INTO bench_effect (event, key, body) VALUES ($1, $2, $3)`

// transactional writes one row an event through the inbox.
func (b *consumeBench) transactional(ctx context.Context, p poison, group string, m *meter) error {
	in, err := inbox.New(b.db, group, inbox.Config{})
	if err != nil {
		return err
	}
	defer in.Close()
	if err := in.Prepare(ctx); err != nil {
		return err
	}
	insert, err := b.db.PrepareContext(ctx, insertEffect)
	if err != nil {
		return err
	}
	defer insert.Close()
	effect := inbox.Typed(decodeOrder, func(ctx context.Context, tx *sql.Tx, o delivered) error {
		if err := o.write(ctx, tx.StmtContext(ctx, insert)); err != nil {
			return err
		}
		return o.failure()
	})
	return b.serve(ctx, p, group, m, in.Batch(effect))
}

// delivered is an order with what its message says.
type delivered struct {
	order
	event, key string
	body       []byte
}

func decodeOrder(msg *message.Message) (delivered, error) {
	o, err := kafkaconsumer.JSON[order](msg)
	return delivered{o, msg.Metadata.Get(outbox.HeaderEventID), msg.Metadata.Get(outbox.HeaderAggregateID), msg.Payload}, err
}

func (d *delivered) write(ctx context.Context, insert *sql.Stmt) error {
	_, err := insert.ExecContext(ctx, d.event, d.key, d.body)
	return err
}

// viewed keeps the newest order of each key in Redis.
func (b *consumeBench) viewed(ctx context.Context, group string, m *meter) error {
	rdb, view, closeView, err := b.openView(ctx)
	if err != nil {
		return err
	}
	defer closeView()
	if err := rdb.FlushDB(ctx).Err(); err != nil {
		return err
	}
	return b.serve(ctx, noPoison, group, m, kafkaconsumer.TypedBatch(decodePut, func(ctx context.Context, puts []cache.Put[order]) error {
		_, err := view.PutAll(ctx, puts...)
		return err
	}))
}

func (b *consumeBench) openView(ctx context.Context) (*redis.Client, *cache.Versioned[order], func(), error) {
	options, err := redis.ParseURL(b.set.Redis)
	if err != nil {
		return nil, nil, nil, err
	}
	rdb := redis.NewClient(cache.Harden(options))
	store, err := cache.NewStore(rdb, cache.StoreConfig{})
	if err != nil {
		return nil, nil, nil, errors.Join(err, rdb.Close())
	}
	var running sync.WaitGroup
	ctx, stop := context.WithCancel(ctx)
	running.Go(func() { _ = store.Run(ctx) }) // it reports to hooks
	closeView := func() {
		stop()
		running.Wait()
		_, _ = store.Close(), rdb.Close() // nothing is left to be lost
	}
	view, err := cache.NewVersioned[order](store, "bench", nil, cache.VersionedConfig[order]{TTL: time.Hour})
	if err != nil {
		closeView()
		return nil, nil, nil, err
	}
	return rdb, view, closeView, nil
}

func decodePut(msg *message.Message) (cache.Put[order], error) {
	o, err := kafkaconsumer.JSON[order](msg)
	return cache.Put[order]{ID: msg.Metadata.Get(outbox.HeaderAggregateID), Entry: cache.Found(int64(o.N)+1, o)}, err
}
