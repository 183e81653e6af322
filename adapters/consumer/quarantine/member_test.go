package quarantine_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/inbox"
	"github.com/millrace-go/millrace/adapters/consumer/quarantine"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

// TestMain runs the tests, or a member of a consumer group that can be killed.
func TestMain(m *testing.M) {
	lab.RunChild(runMember)
	harness.Main(m)
}

// memberSpec is what a member is told.
type memberSpec struct {
	DSN     string
	Brokers []string
	Topic   string
	Group   string
	Open    bool // without quarantine
	Batch   bool // with an inbox, many events in one transaction
}

func startMember(t *testing.T, spec memberSpec) *lab.Program {
	t.Helper()
	return lab.StartChild(t, spec)
}

func runMember(ctx context.Context, spec memberSpec) error {
	fmt.Println("at work")
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
	sub, err := kafka.NewSubscriber(spec.Group, conf, kafka.SubscriberConfig{Concurrency: 4, NackBackOff: 5 * time.Millisecond})
	if err != nil {
		return err
	}
	q, err := quarantine.New(db, quarantine.Config{})
	if err != nil {
		return err
	}
	r, err := consumer.New(pub, consumer.Config{Retry: consumer.FixedBackOff(2*time.Millisecond, 1)})
	if err != nil {
		return err
	}
	var opts []consumer.Option
	if !spec.Open {
		opts = append(opts, consumer.WithAround(q.Middleware()))
	}
	if spec.Batch {
		in, err := inbox.New(db, spec.Group, inbox.Config{})
		if err != nil {
			return err
		}
		r.HandleBatch("ledger", spec.Topic, sub, in.Batch(ledgerEffect), opts...)
	} else {
		r.Handle("ledger", spec.Topic, sub, ledgerHandler(db), opts...)
	}
	return r.Run(ctx)
}

var errBroken = errors.New("broken for now")

// ledgerEffect writes what it handles into the ledger, unless the ledger says that
// the event is to fail.
func ledgerEffect(ctx context.Context, tx *sql.Tx, msg *message.Message) error {
	var key string
	var n int
	if _, err := fmt.Sscan(string(msg.Payload), &key, &n); err != nil {
		return consumer.Fatal(err)
	}
	var broken bool
	if err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT FROM ledger_broken WHERE key = $1 AND n = $2)", key, n).Scan(&broken); err != nil {
		return err
	}
	if broken {
		return errBroken
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO ledger_effect (key, n) VALUES ($1, $2)", key, n)
	return err
}

// ledgerHandler has a transaction for each event and no inbox.
func ledgerHandler(db *sql.DB) message.NoPublishHandlerFunc {
	return func(msg *message.Message) error {
		tx, err := db.BeginTx(msg.Context(), nil)
		if err != nil {
			return err
		}
		if err := ledgerEffect(msg.Context(), tx, msg); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		return tx.Commit()
	}
}
