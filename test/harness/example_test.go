package harness_test

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

// In the examples t is what a test gets as *testing.T.

func ExampleNewDatabase() {
	t := lab.NewExample()
	defer t.End()

	db := harness.NewDatabase(t) // has Millrace's tables, and is dropped at the end
	_, err := db.DB.ExecContext(t.Context(), `INSERT INTO outbox (topic, key, payload) VALUES ('orders', 'o-1', 'paid')`)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range harness.ReadOutbox(t, db.DB) {
		fmt.Printf("%s %s %s\n", row.Topic, row.Key, row.Payload)
	}
	// Output: orders o-1 paid
}

func ExampleTopic() {
	t := lab.NewExample()
	defer t.End()

	brokers, topic := harness.Brokers(t), harness.Topic(t, 1)
	produceText(t.Context(), brokers, topic, "o-1", "paid", "shipped")
	for _, r := range harness.ReadTopic(t, brokers, topic) {
		fmt.Printf("partition %d offset %d: %s %s\n", r.Partition, r.Offset, r.Key, r.Value)
	}
	// Output:
	// partition 0 offset 0: o-1 paid
	// partition 0 offset 1: o-1 shipped
}

func ExampleRedis() {
	t := lab.NewExample()
	defer t.End()

	mine, other := harness.Redis(t), harness.Redis(t) // two tests' databases
	mine.Set(t.Context(), "status", "sent", time.Minute)
	fmt.Println(mine.Exists(t.Context(), "status").Val(), other.Exists(t.Context(), "status").Val())
	// Output: 1 0
}

func ExampleAwait() {
	t := lab.NewExample()
	defer t.End()

	brokers, topic := harness.Brokers(t), harness.Topic(t, 1)
	go produceText(t.Context(), brokers, topic, "o-1", "paid") // a service at work
	harness.Await(t, time.Minute, "the payment is published", func(context.Context) error {
		if n := len(harness.ReadTopic(t, brokers, topic)); n != 1 {
			return fmt.Errorf("%d records", n) // what the test says if it gives up
		}
		return nil
	})
	fmt.Println("published")
	// Output: published
}

func ExampleProxy() {
	t := lab.NewExample()
	defer t.End()

	server := harness.PrivateRedis(t, harness.RedisConfig{Twin: true})
	proxy := harness.NewProxy(t, server.Addr())
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr(), MaxRetries: -1})
	defer client.Close()

	proxy.Cut() // the service under test loses Redis
	fmt.Println("cut: works =", client.Ping(t.Context()).Err() == nil)
	if err := proxy.Heal(); err != nil {
		t.Fatal(err)
	}
	fmt.Println("healed: works =", client.Ping(t.Context()).Err() == nil)
	// Output:
	// cut: works = false
	// healed: works = true
}

func ExamplePrivatePostgres() {
	t := lab.NewExample()
	defer t.End()

	server := harness.PrivatePostgres(t, harness.PostgresConfig{Settings: map[string]string{"max_connections": "20"}})
	db := harness.DatabaseOn(t, server)
	_, err := db.DB.ExecContext(t.Context(), `INSERT INTO outbox (topic, key) VALUES ('orders', 'o-1')`)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Kill(); err != nil { // SIGKILL to all its processes
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil { // on the same address and data
		t.Fatal(err)
	}
	again, err := sql.Open("postgres", db.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	fmt.Println("messages after the crash:", len(harness.ReadOutbox(t, again)))
	// Output: messages after the crash: 1
}

func ExamplePrivateKafka() {
	t := lab.NewExample()
	defer t.End()

	server := harness.PrivateKafka(t, harness.KafkaConfig{Twin: true}) // the in-process twin: no Java needed
	topic := harness.TopicOn(t, server.Brokers(), 1)
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	produceText(t.Context(), server.Brokers(), topic, "o-1", "paid")
	fmt.Println(server.Info().Kind, "keeps", len(harness.ReadTopic(t, server.Brokers(), topic)), "record")
	// Output: twin keeps 1 record
}

func ExampleAssertOrder() {
	t := lab.NewExample()
	defer t.End()

	records := []harness.Record{
		{Offset: 0, Key: []byte("o-1"), Value: []byte("1")},
		{Offset: 1, Key: []byte("o-1"), Value: []byte("3")},
		{Offset: 2, Key: []byte("o-1"), Value: []byte("1")}, // a duplicate is not out of order
		{Offset: 3, Key: []byte("o-1"), Value: []byte("2")},
	}
	harness.AssertOrder(t, records, func(r harness.Record) int64 { return int64(r.Value[0] - '0') })
	// Output:
	// harness: 1 out of order, among them:
	// key "o-1": 2 (partition 0, offset 3) comes after 3 (partition 0, offset 1)
}

func ExampleAssertComplete() {
	t := lab.NewExample()
	defer t.End()

	records := []harness.Record{{Value: []byte("a")}, {Value: []byte("b")}, {Value: []byte("a")}}
	duplicates := harness.AssertComplete(t, records, func(r harness.Record) string { return string(r.Value) }, []string{"a", "b", "c"})
	fmt.Println("duplicates:", duplicates)
	// Output:
	// harness: 1 missing, among them:
	// c
	// duplicates: 1
}

// produceText writes values to a topic, as the service under test does.
func produceText(ctx context.Context, brokers []string, topic, key string, values ...string) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic(topic))
	if err != nil {
		panic(err)
	}
	defer client.Close()
	for _, v := range values {
		if err := client.ProduceSync(ctx, &kgo.Record{Key: []byte(key), Value: []byte(v)}).FirstErr(); err != nil {
			panic(err)
		}
	}
}
