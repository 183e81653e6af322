package pipeline_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	_ "github.com/lib/pq"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/adapters/pipeline"
	"github.com/millrace-go/millrace/adapters/schedule"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/harness"
)

// quiet is a log for examples, whose output is compared.
var quiet = slog.New(slog.DiscardHandler)

// Greeting is what the examples send.
type Greeting struct {
	ID, Text string
}

// A whole round: append in a transaction, relay to Kafka, handle.
func Example() {
	servers, err := harness.Start(context.Background(), harness.Options{}, io.Discard) // your Postgres and Kafka
	if err != nil {
		fmt.Println(err)
		return
	}
	defer servers.Stop(context.Background())
	db, err := sql.Open("postgres", servers.Postgres.DSN())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()

	p, err := pipeline.New(db, servers.Kafka.Brokers(), pipeline.Config{
		Migrate: true, Logger: quiet, Topics: []kafka.Topic{{Name: "greeting.v1", Partitions: 1, Replicas: 1}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background()) // ends when the process must stop
	pipeline.Handle(p.Group("readers", pipeline.GroupConfig{}), "greeting.v1", consumer.JSON[Greeting], func(_ context.Context, g Greeting) error {
		fmt.Println("read:", g.Text)
		stop()
		return nil
	})
	ran := make(chan error, 1)
	go func() { ran <- p.Run(ctx) }()

	// The tables are there from now on; a service whose tables are made before it
	// starts need not wait.
	if err := harness.Until(ctx, time.Minute, p.Ready); err != nil {
		fmt.Println(err)
		return
	}
	err = p.InTx(ctx, func(ctx context.Context, tx *sql.Tx) error { // with your own statements beside it
		return p.Append(ctx, tx, outbox.Message{Topic: "greeting.v1", Key: "g-1", Type: "greeting.sent", Payload: []byte(`{"ID":"g-1","Text":"hello"}`)})
	})
	fmt.Println("sent:", err)
	fmt.Println("stopped:", <-ran)
	// Unordered output:
	// sent: <nil>
	// read: hello
	// stopped: <nil>
}

// Everything that is wrong is named at once, before anything is connected to.
func ExampleNew() {
	_, err := pipeline.New(&sql.DB{}, nil, pipeline.Config{
		Relay:        outbox.RelayConfig{Name: "my relay"},
		DrainTimeout: -time.Second,
	})
	fmt.Println(err != nil)

	p, err := pipeline.New(&sql.DB{}, []string{"localhost:9092"}, pipeline.Config{Logger: quiet})
	fmt.Println(p != nil, err)
	// Output:
	// true
	// true <nil>
}

// unconnected is a pipeline for examples that need no servers.
func unconnected() *pipeline.Pipeline {
	p, err := pipeline.New(&sql.DB{}, []string{"localhost:9092"}, pipeline.Config{Logger: quiet})
	if err != nil {
		panic(err)
	}
	return p
}

// Wrong groups and jobs are errors of Run, before it begins.
func ExamplePipeline_Run() {
	p := unconnected()
	p.Group("views", pipeline.GroupConfig{})
	p.Job(schedule.Job{Name: "report", Schedule: "every day"})
	err := p.Run(context.Background())
	fmt.Println(err != nil)
	fmt.Println(errors.Is(p.Run(context.Background()), pipeline.ErrClosed))
	// Output:
	// true
	// true
}

// A job runs at its times, on one node. What it appends goes out with its effect.
func ExamplePipeline_Job() {
	p := unconnected()
	p.Job(schedule.Job{
		Name: "dailyReport", Schedule: "0 0 6 * * *", LockAtMostFor: "PT10M", LockAtLeastFor: "PT10S",
		Run: func(ctx context.Context) error {
			return p.InTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
				if err := lock.Guard(ctx, tx); err != nil { // nobody else has the lock
					return err
				}
				return p.Append(ctx, tx, outbox.Message{Topic: "report.v1", Key: "daily", Type: "report.due"})
			})
		},
	})
	table, err := schedule.ParseSchedule("0 0 6 * * *", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("next:", table.Next(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)))
	// Output: next: 2026-05-02 06:00:00 +0000 UTC
}

// Three kinds of handlers, each in a group of its own.
func ExamplePipeline_Group() {
	p := unconnected()
	pipeline.Handle(p.Group("mailer", pipeline.GroupConfig{}), "greeting.v1", consumer.JSON[Greeting],
		func(ctx context.Context, g Greeting) error { return nil }) // one at a time
	pipeline.HandleBatch(p.Group("search", pipeline.GroupConfig{}), "greeting.v1", consumer.JSON[Greeting],
		func(ctx context.Context, all []Greeting) error { return nil }) // many at once
	pipeline.HandleOnce(p.Group("ledger", pipeline.GroupConfig{}), "greeting.v1", consumer.JSON[Greeting],
		func(ctx context.Context, tx *sql.Tx, g Greeting) error { return nil }) // once per event, in Postgres
	fmt.Println(p.Parts().Router.Validate())
	// Output: <nil>
}

// A handler that calls addresses which its messages name says so: one customer's
// server that is down must not pause the others.
func ExampleGroup_HandleBatch() {
	p := unconnected()
	hooks := p.Group("webhooks", pipeline.GroupConfig{
		Unavailable: func(error) bool { return false }, // retries, and then a dead letter
		Options:     []consumer.Option{consumer.WithRetry(consumer.FixedBackOff(time.Second, 5))},
	})
	hooks.Handle("greeting.v1", func(m *message.Message) error { return nil })
	fmt.Println(p.Parts().Router.Validate())
	// Output: <nil>
}

// The three pages that a pipeline serves.
func ExamplePipeline_Handler() {
	handler := unconnected().Handler() // http.ListenAndServe(":8081", handler)
	for _, page := range []string{"/livez", "/readyz", "/metrics"} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), http.MethodGet, page, nil))
		fmt.Println(page, w.Code)
	}
	// Output:
	// /livez 200
	// /readyz 503
	// /metrics 200
}

// What pauses a group, and what makes a dead letter.
func ExampleUnavailable() {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	fmt.Println(pipeline.Unavailable(fmt.Errorf("put order: %w", refused)))
	fmt.Println(pipeline.Unavailable(errors.New("no such customer")))
	// Output:
	// true
	// false
}

// The parts stay available: here what the relay and the consumers are at.
func ExamplePipeline_Parts() {
	parts := unconnected().Parts()
	fmt.Println("leads:", parts.Relay.Status().Leading)
	fmt.Println("at work:", parts.Router.Status().InFlight)
	// Output:
	// leads: false
	// at work: 0
}
