package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

// In the examples t is what a test gets as *testing.T.

// A store is given to the writer, and to the relay.
func ExampleStore() {
	t := lab.NewExample()
	defer t.End()
	db := harness.NewDatabase(t).DB // your pool; package sql makes the tables

	store, err := pgstore.New(db, pgstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Prepare(t.Context()); err != nil { // one round trip an append instead of two
		t.Fatal(err)
	}
	defer store.Close()
	writer, err := outbox.NewWriter(store, outbox.WriterConfig{})
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Append(t.Context(), tx, outbox.Message{Topic: "account.v1", Key: "a-1", Type: "account.opened"}); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	entry, err := store.Entry(t.Context(), 1)
	fmt.Println(entry.Position, entry.Topic, entry.Key, entry.Type, err)
	// Output: 1 account.v1 a-1 account.opened <nil>
}

// A rename with a version check: entity and event take one round trip, and a
// rename that comes too late publishes nothing.
func ExampleEntityWriter() {
	t := lab.NewExample()
	defer t.End()
	db := harness.NewDatabase(t).DB
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE account (id text, name text, version bigint); INSERT INTO account VALUES ('a-1', 'Ada', 1)`); err != nil {
		t.Fatal(err)
	}
	w, err := pgstore.NewEntityWriter(db, `UPDATE account SET name = $2, version = version + 1 WHERE id = $1 AND version = $3 RETURNING 1`, pgstore.EntityWriterConfig{})
	if err != nil {
		t.Fatal(err)
	}
	rename := func(name string, version int64) error {
		return w.Commit(t.Context(), []any{"a-1", name, version}, nil, outbox.Message{
			Topic: "account.v1", Key: "a-1", Type: "account.renamed", Payload: []byte(name),
			AggregateType: "account", AggregateID: "a-1", AggregateVersion: version + 1,
		})
	}
	fmt.Println("first:", rename("Ada L.", 1))
	fmt.Println("second is late:", errors.Is(rename("Ada B.", 1), pgstore.ErrNoEntity))
	for _, row := range harness.ReadOutbox(t, db) {
		fmt.Println(row.Key, string(row.Payload))
	}
	// Output:
	// first: <nil>
	// second is late: true
	// a-1 Ada L.
}

// A listener lets the relay of this process be idle until a notifier, here or in
// another process, says that something was committed.
func ExampleListener() {
	t := lab.NewExample()
	defer t.End()
	db := harness.NewDatabase(t)
	ctx, stop := context.WithCancel(t.Context())

	listener, err := pgstore.NewListener(db.DSN, db.DB, "relay") // for RelayConfig.Listener
	if err != nil {
		t.Fatal(err)
	}
	notifier, err := pgstore.NewNotifier(db.DB) // its Notify is for WriterConfig.Wake
	if err != nil {
		t.Fatal(err)
	}
	woken := make(chan struct{}, 100)
	ended := make(chan error, 2)
	go func() { ended <- listener.Run(ctx, func() { woken <- struct{}{} }) }() // wake is Relay.Wake
	go func() { ended <- notifier.Run(ctx) }()
	harness.Await(t, time.Minute, "the listener works", func(context.Context) error {
		if !listener.Working() {
			return errors.New("not yet")
		}
		return nil
	})
	if err := listener.Arm(ctx, time.Minute); err != nil { // an idle relay does this
		t.Fatal(err)
	}
	notifier.Notify()
	<-woken
	fmt.Println("woken")
	stop()
	fmt.Println(<-ended, <-ended)
	// Output:
	// woken
	// <nil> <nil>
}

// The history reads what was delivered long ago, by position, key or aggregate.
func ExampleStore_History() {
	t := lab.NewExample()
	defer t.End()
	db := harness.NewDatabase(t).DB
	if _, err := db.ExecContext(t.Context(), `SELECT outbox_append('account.v1', k, 'opened') FROM unnest(ARRAY['a-1', 'a-2', 'a-1']) AS k`); err != nil {
		t.Fatal(err)
	}
	store, err := pgstore.New(db, pgstore.Config{Retention: pgstore.Forever})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.EnableHistory(t.Context(), func(string) {}); err != nil { // indexes for keys and aggregates
		t.Fatal(err)
	}
	history, err := store.History(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer history.Close()
	stable, err := history.Stable(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for e, err := range history.ByKey(t.Context(), "account.v1", "a-1", outbox.Range{Lo: 1, Hi: stable}) {
		fmt.Println(e.Position, e.Key, string(e.Payload), err)
	}
	// Output:
	// 1 a-1 opened <nil>
	// 3 a-1 opened <nil>
}
