package outbox_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

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

// A service that embeds the outbox: its handlers write, its relay carries. While
// Postgres or Kafka cannot be reached, as here, the relay retries until ctx ends.
func Example() {
	ctx, stop := context.WithCancel(context.Background()) // ends when the process is told to stop
	defer stop()
	db, err := sql.Open("postgres", "postgres://localhost:1/shop?sslmode=disable")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	err = run(ctx, db, []string{"localhost:1"}, func(w *outbox.Writer) {
		defer stop()
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			fmt.Println("no database: nothing is renamed")
			return
		}
		defer tx.Rollback()
		if err := rename(ctx, tx, w, "c-1", "Ada"); err != nil {
			fmt.Println(err)
			return
		}
		if err := tx.Commit(); err == nil {
			w.Wake() // the relay need not wait for its next poll
		}
	})
	fmt.Println("stopped:", err)
	// Output:
	// no database: nothing is renamed
	// stopped: <nil>
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

// Prepare checks messages and gives them ids, for other ways of storing them.
func ExamplePrepare() {
	msgs, err := outbox.Prepare([]outbox.Message{{Topic: "customer.v1", Key: "c-1"}}, 0)
	fmt.Println(err, msgs[0].ID.Version())
	_, err = outbox.Prepare([]outbox.Message{{Topic: "customer.v1"}}, 0)
	fmt.Println(err)
	// Output:
	// <nil> VERSION_7
	// message 0: key is empty
}

// LogHooks logs what an operator needs to know.
func ExampleLogHooks() {
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	saved := outbox.Hooks{Saved: func(c outbox.Cursor, _ time.Duration) { fmt.Println("saved", c.Position) }}
	hooks := outbox.LogHooks(log).Tee(saved) // for RelayConfig.Hooks
	hooks.Leading(3)
	hooks.Parked(outbox.Parked{Position: 7, ParkedKey: outbox.ParkedKey{Topic: "orders", Key: "o-1"}, Reason: "message too large"})
	hooks.Saved(outbox.Cursor{Position: 8}, time.Millisecond)
	// Output:
	// level=INFO msg="relay leads" epoch=3
	// level=WARN msg="message parked" position=7 topic=orders key=o-1 reason="message too large"
	// saved 8
}

// A Watermill publisher that appends to the outbox. The store here refuses to store
// anything, to show what it is given; use pgstore.Store.
func ExampleNewPublisher() {
	writer, err := outbox.NewWriter(showing{}, outbox.WriterConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	tx := &sql.Tx{} // the transaction that writes the entity
	pub, err := outbox.NewPublisher(writer, tx, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	m := message.NewMessage(uuid.NewString(), []byte(`{"name":"Ada"}`))
	m.Metadata.Set(outbox.MetadataKey, "c-1")
	m.Metadata.Set(outbox.HeaderEventType, "customer.renamed")
	fmt.Println(pub.Publish("customer.v1", m))
	// Output:
	// customer.v1 c-1 customer.renamed {"name":"Ada"}
	// <nil>
}

// showing is a store that prints messages.
type showing struct{}

func (showing) Append(_ context.Context, _ *sql.Tx, msgs []outbox.Message) error {
	for _, m := range msgs {
		fmt.Printf("%s %s %s %s\n", m.Topic, m.Key, m.Type, m.Payload)
	}
	return nil
}

// A Watermill subscriber that reads the outbox without a broker.
func ExampleNewSubscriber() {
	log := outboxtest.NewMemoryLog(nil)
	tx, err := log.Begin(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	err = errors.Join(tx.Append(context.Background(), outbox.Message{Topic: "customer.v1", Key: "c-1", Payload: []byte("Ada")}), tx.Commit())
	if err != nil {
		fmt.Println(err)
		return
	}
	sub, err := outbox.NewSubscriber(log, outbox.SubscriberConfig{Group: "mailer"})
	if err != nil {
		fmt.Println(err)
		return
	}
	messages, err := sub.Subscribe(context.Background(), "customer.v1")
	if err != nil {
		fmt.Println(err)
		return
	}
	m := <-messages
	fmt.Println(m.Metadata.Get(outbox.MetadataKey), string(m.Payload))
	m.Ack()
	fmt.Println(sub.Close())
	// Output:
	// c-1 Ada
	// <nil>
}

// The headers of an entry's record, for a publisher of one's own.
func ExampleRecordHeaders() {
	e := &outbox.Entry{Message: outbox.Message{ID: uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8057"), Type: "customer.renamed"}}
	for name, value := range outbox.RecordHeaders(e) {
		if name != outbox.HeaderOccurredAt {
			fmt.Println(name, value)
		}
	}
	// Output:
	// event-id 01890a5d-ac96-774b-bcce-b302099a8057
	// event-type customer.renamed
}
