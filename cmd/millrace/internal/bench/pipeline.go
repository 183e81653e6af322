package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	watermillsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/cmd/millrace/internal/check"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
)

// pipeline carries messages from the outbox of entities to its topic while it runs, and is the
// writers' end of that as well.
type pipeline struct {
	append    func(ctx context.Context, tx *sql.Tx, m outbox.Message) error
	committed func(e check.Event) // after each commit
	stop      func() error
}

// relayName is the same for all variants: each goes on where the last one ended.
const relayName = "bench"

// wakeUp is how a relay learns of a commit.
type wakeUp int

const (
	byPolling wakeUp = iota
	inProcess
	byListener
)

// startRelay starts a relay in this process and returns once it leads.
func (g *serverGroup) startRelay(ctx context.Context, ent *entities, wake wakeUp) (*pipeline, error) {
	db, err := pgstore.Open(ent.dsn, pgstore.OpenConfig{})
	if err != nil {
		return nil, err
	}
	store, err := pgstore.New(db, pgstore.Config{})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	pub, err := kafka.NewPublisher(kafka.Config{Brokers: g.set.Kafka})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	leads := make(chan struct{})
	var once sync.Once
	cfg := outbox.RelayConfig{Name: relayName, Hooks: outbox.Hooks{
		Leading:  func(int64) { once.Do(func() { close(leads) }) },
		Retrying: func(err error, _ time.Duration) { g.line.Say("the relay tries again: %v", err) }, // it explains duplicates
	}}
	notifier, err := pgstore.NewNotifier(ent.db)
	if err != nil {
		return nil, errors.Join(err, pub.Close(), db.Close())
	}
	listener, err := pgstore.NewListener(ent.dsn, db, relayName)
	if err != nil {
		return nil, errors.Join(err, pub.Close(), db.Close())
	}
	if wake == byListener {
		cfg.Listener = listener
	}
	relay, err := outbox.NewRelay(store, pub, cfg)
	if err != nil {
		return nil, errors.Join(err, pub.Close(), db.Close())
	}
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var run errgroup.Group
	run.Go(func() error { return relay.Run(runCtx) })
	var w outbox.WriterConfig
	switch wake {
	case inProcess:
		w.Wake = relay.Wake
	case byListener:
		w.Wake = notifier.Notify
		run.Go(func() error { return notifier.Run(runCtx) })
		run.Go(func() error { return listener.Run(runCtx, relay.Wake) })
	}
	stop := func() error {
		cancel()
		return errors.Join(run.Wait(), pub.Close(), db.Close())
	}
	writer, err := outbox.NewWriter(ent.store, w)
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	if err := await(ctx, leads, "the relay does not lead"); err != nil {
		return nil, errors.Join(err, stop())
	}
	if wake == byListener {
		if err := until(ctx, "no wake-up arrives", listener.Working); err != nil {
			return nil, errors.Join(err, stop())
		}
	}
	return &pipeline{
		append:    func(ctx context.Context, tx *sql.Tx, m outbox.Message) error { return writer.Append(ctx, tx, m) },
		committed: func(check.Event) { writer.Wake() }, stop: stop,
	}, nil
}

// startDirect leaves the outbox out: each message is produced after its commit, and
// lost if the process ends between the two. It shows what Kafka and the machine
// take by themselves.
func (g *serverGroup) startDirect(ctx context.Context) (*pipeline, error) {
	pub, err := kafka.NewPublisher(kafka.Config{Brokers: g.set.Kafka})
	if err != nil {
		return nil, err
	}
	var pending sync.Map
	return &pipeline{
		append: func(_ context.Context, _ *sql.Tx, m outbox.Message) error {
			pending.Store(m.ID, m)
			return nil
		},
		committed: func(e check.Event) {
			m, _ := pending.LoadAndDelete(e.ID)
			pub.PublishBatch(context.WithoutCancel(ctx), []outbox.Entry{{Message: m.(outbox.Message)}}, func(int, error) {})
		},
		stop: pub.Close,
	}, nil
}

// startStock starts Watermill's forwarder, tuned. Its writers use its publishers.
func (g *serverGroup) startStock(ctx context.Context, ent *entities) (*pipeline, error) {
	for _, q := range (watermillsql.DefaultPostgreSQLSchema{}).SchemaInitializingQueries(forwarderTable) {
		if _, err := ent.db.ExecContext(ctx, q.Query, q.Args...); err != nil {
			return nil, fmt.Errorf("forwarder table: %w", err)
		}
	}
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- stock{g: g, group: "tuned", batch: 1000, poll: time.Millisecond}.run(runCtx, 0) }()
	return &pipeline{
		append: func(_ context.Context, tx *sql.Tx, m outbox.Message) error {
			pub, err := watermillsql.NewPublisher(tx, watermillsql.PublisherConfig{SchemaAdapter: watermillsql.DefaultPostgreSQLSchema{}}, watermill.NopLogger{})
			if err != nil {
				return err
			}
			w := message.NewMessage(m.ID.String(), m.Payload)
			w.Metadata = message.Metadata{
				"key": m.Key, outbox.HeaderEventType: m.Type, outbox.HeaderAggregateType: m.AggregateType,
				outbox.HeaderAggregateID: m.AggregateID, outbox.HeaderAggregateVersion: fmt.Sprint(m.AggregateVersion),
			}
			return forwarder.NewPublisher(pub, forwarder.PublisherConfig{ForwarderTopic: forwarderTable}).Publish(topicForwarder, w)
		},
		committed: func(check.Event) {},
		stop: func() error {
			cancel()
			return <-done
		},
	}, nil
}

// startLimit is how long a start may take.
const startLimit = 30 * time.Second

func await(ctx context.Context, ready <-chan struct{}, otherwise string) error {
	t := time.NewTimer(startLimit)
	defer t.Stop()
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return fmt.Errorf("%s after %s", otherwise, startLimit)
	}
}

// until polls ready.
func until(ctx context.Context, otherwise string, ready func() bool) error {
	if err := within(ctx, startLimit, ready); err != nil {
		return err
	}
	if !ready() {
		return fmt.Errorf("%s after %s", otherwise, startLimit)
	}
	return nil
}

// within polls ready for at most limit. It is an error only if ctx ends.
func within(ctx context.Context, limit time.Duration, ready func() bool) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for end := time.Now().Add(limit); !ready() && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}
