package watermillsql_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/millrace-go/millrace/adapters/watermillsql"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
)

// A watermill-sql publisher with this schema writes outbox rows. A message without a
// key is refused before any I/O.
func ExampleNewSchema() {
	var tx *sql.Tx // the business transaction
	pub, err := wsql.NewPublisher(tx, wsql.PublisherConfig{
		SchemaAdapter: watermillsql.NewSchema(watermillsql.SchemaConfig{Key: watermillsql.KeyFrom("partition_key")}),
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(pub.Publish("orders.v1", message.NewMessage("m-1", []byte("{}"))))
	// Output:
	// cannot create insert query: message 0: key is empty: the metadata partition_key is missing
}

// The offset of a watermill-sql subscriber is a row of outbox_cursor. The same group
// and topic of an outbox.Subscriber have the same row.
func ExampleNewOffsets() {
	offsets := watermillsql.NewOffsets()
	fmt.Println(offsets.NextOffsetQuery("orders.v1", "billing").Args...)
	fmt.Println(offsets.NextOffsetQuery("orders.v1", "").Args...)
	// Output:
	// billing.orders.v1
	// watermill.orders.v1
}

// While a team moves over, publishers write to the stock table or to the outbox: one
// statement decides which.
func ExampleNewSwitchSchema() {
	schema := watermillsql.NewSwitchSchema(watermillsql.SwitchSchemaConfig{
		Outbox: watermillsql.SchemaConfig{Key: watermillsql.KeyFrom("partition_key")},
	})
	plain := message.NewMessage("m-1", []byte("not an envelope"))
	_, err := schema.InsertQuery("forwarder_topic", message.Messages{plain})
	fmt.Println(err)
	// Output:
	// message 0: not an envelope of the forwarder: invalid character 'o' in literal null (expecting 'u')
}

// Envelope takes a message out of what Watermill's forwarder.Publisher has written.
func ExampleEnvelope() {
	queue := gochannel.NewGoChannel(gochannel.Config{OutputChannelBuffer: 1, Persistent: true}, nil)
	defer queue.Close()
	pub := forwarder.NewPublisher(queue, forwarder.PublisherConfig{ForwarderTopic: "forwarder_topic"})
	if err := pub.Publish("orders.v1", message.NewMessage("m-1", []byte("{}"))); err != nil {
		log.Fatal(err)
	}
	rows, err := queue.Subscribe(context.Background(), "forwarder_topic")
	if err != nil {
		log.Fatal(err)
	}
	topic, msg, err := watermillsql.Envelope("forwarder_topic", <-rows)
	fmt.Println(topic, msg.UUID, string(msg.Payload), err)
	// Output:
	// orders.v1 m-1 {} <nil>
}

// NewImporter checks everything before it touches the database.
func ExampleNewImporter() {
	db, err := sql.Open("postgres", "postgres://orders@db/orders") // connects later
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	store, err := pgstore.New(db, pgstore.Config{})
	if err != nil {
		log.Fatal(err)
	}
	writer, err := outbox.NewWriter(store, outbox.WriterConfig{})
	if err != nil {
		log.Fatal(err)
	}
	_, err = watermillsql.NewImporter(db, "forwarder_topic", writer, watermillsql.ImportConfig{
		Key: watermillsql.KeyFrom("partition_key"),
	})
	fmt.Println(err)
	_, err = watermillsql.NewImporter(db, "forwarder topic", nil, watermillsql.ImportConfig{BatchSize: -1})
	fmt.Println(err)
	// Output:
	// <nil>
	// import from watermill-sql: topic: must be a topic of watermill-sql (letters, digits and - $ : . _), is "forwarder topic"
	// writer: must not be nil
	// BatchSize: must be at least 1, is -1
}
