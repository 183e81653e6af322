package outbox_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	"github.com/millrace-go/millrace/test/outboxtest"
)

// README: from here

// run opens the outbox of db, lets serve use it, and carries its messages to
// Kafka until ctx ends.
func run(ctx context.Context, db *sql.DB, brokers []string, serve func(*outbox.Writer)) error {
	store, err := pgstore.New(db, pgstore.Config{})
	if err != nil {
		return err
	}
	publisher, err := kafka.NewPublisher(kafka.Config{Brokers: brokers})
	if err != nil {
		return err
	}
	defer publisher.Close()
	relay, err := outbox.NewRelay(store, publisher, outbox.RelayConfig{})
	if err != nil {
		return err
	}
	writer, err := outbox.NewWriter(store, outbox.WriterConfig{Wake: relay.Wake})
	if err != nil {
		return err
	}
	go serve(writer)
	return relay.Run(ctx) // drains what is in flight when ctx ends
}

// rename changes a customer and says so, or does neither.
func rename(ctx context.Context, tx *sql.Tx, w *outbox.Writer, id, name string) error {
	var version int64 // the update also locks the row: customer by customer, one writer at a time
	err := tx.QueryRowContext(ctx, `UPDATE customer SET name = $2, version = version + 1 WHERE id = $1 RETURNING version`, id, name).Scan(&version)
	if err != nil {
		return err
	}
	payload, err := json.Marshal(map[string]string{"name": name})
	if err != nil {
		return err
	}
	return w.Append(ctx, tx, outbox.Message{
		Topic: "customer.v1", Key: id, Type: "customer.renamed", Payload: payload,
		AggregateType: "customer", AggregateID: id, AggregateVersion: version,
	})
}

// README: to here

// A service that embeds the outbox: its handlers write, its relay carries.
func Example() {
	var (
		ctx     context.Context // ends when the process is told to stop
		db      *sql.DB         // opened with "github.com/lib/pq"
		renamed = func(w *outbox.Writer) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer tx.Rollback()
			if err := rename(ctx, tx, w, "c-1", "Ada"); err != nil {
				return err
			}
			if err := tx.Commit(); err != nil {
				return err
			}
			w.Wake()
			return nil
		}
	)
	_ = func() error {
		return run(ctx, db, []string{"localhost:9092"}, func(w *outbox.Writer) { _ = renamed(w) })
	}
}

// Bad messages are refused before any I/O, all at once.
func ExampleWriter_Append() {
	store, err := pgstore.New(&sql.DB{}, pgstore.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	writer, err := outbox.NewWriter(store, outbox.WriterConfig{MaxPayloadBytes: 8})
	if err != nil {
		fmt.Println(err)
		return
	}
	var tx *sql.Tx // not touched
	err = writer.Append(context.Background(), tx,
		outbox.Message{Topic: "customer.v1", Key: "c-1", Payload: []byte("far too long")},
		outbox.Message{Topic: "customer v1"},
	)
	fmt.Println(err)
	var refused *outbox.MessageError
	fmt.Println(errors.As(err, &refused), refused.Field)
	// Output:
	// append outbox: message 0: payload has 12 bytes, more than the limit of 8: store it elsewhere and send a reference
	// message 1: topic has ' ' at byte 8: only letters, digits, '.', '_' and '-' are allowed
	// message 1: key is empty
	// true payload
}

// A relay carries the committed messages of any Log to any Watermill publisher.
func ExampleRelay() {
	log := outboxtest.NewMemoryLog(nil)
	tx, err := log.Begin(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	err = errors.Join(
		tx.Append(context.Background(),
			outbox.Message{Topic: "customer.v1", Key: "c-1", Type: "customer.joined"},
			outbox.Message{Topic: "customer.v1", Key: "c-1", Type: "customer.renamed"}),
		tx.Commit())
	if err != nil {
		fmt.Println(err)
		return
	}

	ctx, stop := context.WithCancel(context.Background())
	relay, err := outbox.NewRelay(log, printer{stopAfter: "customer.renamed", stop: stop}, outbox.RelayConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("stopped:", relay.Run(ctx))
	// Output:
	// customer.v1 c-1 customer.joined
	// customer.v1 c-1 customer.renamed
	// stopped: <nil>
}

// printer is a Watermill publisher that prints.
type printer struct {
	stopAfter string
	stop      func()
}

func (p printer) Publish(topic string, msgs ...*message.Message) error {
	for _, m := range msgs {
		event := m.Metadata.Get(outbox.HeaderEventType)
		fmt.Println(topic, m.Metadata.Get(outbox.MetadataKey), event)
		if event == p.stopAfter {
			p.stop()
		}
	}
	return nil
}

func (printer) Close() error { return nil }
