package faults

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/inbox"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

// memberSpec is what a member in a process of its own is told.
type memberSpec struct {
	DSN     string
	Brokers []string
	Topic   string
	Group   string
	Inbox   bool          // or a transaction for each delivery
	Work    time.Duration // longest, of a handler
}

func (w *world) member(spec memberSpec) *lab.Program {
	w.t.Helper()
	spec.DSN, spec.Brokers, spec.Topic, spec.Group = w.db.DSN, w.conf.Brokers, w.topic, w.group
	return lab.StartChild(w.t, spec)
}

// crash lets a member handle n events and kills it.
func (w *world) crash(spec memberSpec, n int) *lab.Program {
	w.t.Helper()
	before := w.total()
	m := w.member(spec)
	harness.Await(w.t, liveness, "the member is at work", func(context.Context) error {
		if now := w.total(); now < before+n {
			return fmt.Errorf("%d effects", now-before)
		}
		return nil
	})
	m.Kill()
	return m
}

func (w *world) total() (n int) {
	require.NoError(w.t, w.db.DB.QueryRowContext(context.Background(), `SELECT count(*) FROM effect`).Scan(&n))
	return n
}

func runMember(ctx context.Context, spec memberSpec) error {
	db, err := sql.Open("postgres", spec.DSN)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	conf := kafka.Config{Brokers: spec.Brokers, Tune: func(sc *sarama.Config) {
		group := &sc.Consumer.Group // a killed member is to be missed soon
		group.Session.Timeout, group.Heartbeat.Interval = 1500*time.Millisecond, 300*time.Millisecond
	}}
	pub, err := kafka.NewPublisher(conf)
	if err != nil {
		return err
	}
	defer func() { _ = pub.Close() }()
	sub, err := kafka.NewSubscriber(spec.Group, conf, kafka.SubscriberConfig{Concurrency: 16})
	if err != nil {
		return err
	}
	r, err := consumer.New(pub, consumer.Config{})
	if err != nil {
		return err
	}
	handle, err := handlerOf(spec, db)
	if err != nil {
		return err
	}
	r.Handle("faults", spec.Topic, sub, handle)
	return r.Run(ctx)
}

func handlerOf(spec memberSpec, db *sql.DB) (message.NoPublishHandlerFunc, error) {
	slowly := func(ctx context.Context, tx *sql.Tx, msg *message.Message) error {
		if err := work(ctx, spec.Work+1); err != nil {
			return err
		}
		return effect(ctx, tx, msg)
	}
	if spec.Inbox {
		in, err := inbox.New(db, spec.Group, inbox.Config{Hooks: inbox.Hooks{Committed: func(c inbox.Commit) {
			if c.Duplicates > 0 {
				fmt.Println("done before")
			}
		}}})
		if err != nil {
			return nil, err
		}
		return in.Handler(slowly), nil
	}
	return func(msg *message.Message) error {
		tx, err := db.BeginTx(msg.Context(), nil)
		if err != nil {
			return err
		}
		if err := slowly(msg.Context(), tx, msg); err != nil {
			_ = tx.Rollback()
			return err
		}
		return tx.Commit()
	}, nil
}
