package pipeline_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/adapters/pipeline"
	"github.com/millrace-go/millrace/adapters/schedule"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/outbox"
)

// Wiring: from here.

// Orders is a service that takes orders over HTTP, shows them from Redis, bills
// each once and closes those that nobody pays. It has two consumer groups, a view, a
// job, dead letters, health, metrics and traces.
type Orders struct {
	millrace *pipeline.Pipeline
	view     *cache.Versioned[Order]
	db       *sql.DB
	addr     string
	log      *slog.Logger
}

// NewOrders wires the service. dsn is the address of db.
func NewOrders(db *sql.DB, dsn string, brokers []string, rdb *redis.Client, addr string, log *slog.Logger) (*Orders, error) {
	p, err := pipeline.New(db, brokers, pipeline.Config{
		ListenDSN: dsn, Migrate: true, Redis: rdb, Logger: log,
		Topics: []kafka.Topic{{Name: "order.v1", Partitions: 3}},
	})
	if err != nil {
		return nil, err
	}
	s := &Orders{millrace: p, db: db, addr: addr, log: log}
	s.view, err = cache.NewVersioned(p.Parts().Cache, "order", s.load, cache.VersionedConfig[Order]{TTL: time.Hour})
	if err != nil {
		return nil, err
	}
	pipeline.HandleBatch(p.Group("views", pipeline.GroupConfig{}), "order.v1", consumer.JSON[Order], s.show)
	pipeline.HandleOnce(p.Group("billing", pipeline.GroupConfig{}), "order.v1", consumer.JSON[Order], s.bill)
	p.Job(schedule.Job{Name: "closeUnpaidOrders", Schedule: "*/2 * * * * *", Run: s.closeUnpaid})
	return s, nil
}

// Run serves and works until ctx ends: first requests finish, then messages.
func (s *Orders) Run(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("/", s.millrace.Handler())
	mux.Handle("POST /orders", telemetry.HTTP(http.HandlerFunc(s.place)))
	mux.Handle("GET /orders/{id}", telemetry.HTTP(http.HandlerFunc(s.get)))
	server := &http.Server{Addr: s.addr, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.millrace.Run(ctx) })
	g.Go(func() error {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		return server.Shutdown(context.WithoutCancel(ctx))
	})
	return g.Wait()
}

// Wiring: to here.

// Order is an order, and the payload of its events.
type Order struct {
	ID      string `json:"id"`
	Amount  int    `json:"amount"`
	Status  string `json:"status"`
	Version int64  `json:"version"`
}

// save writes an order and the event of it: both or neither.
func (s *Orders) save(ctx context.Context, tx *sql.Tx, o Order, event string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO orders (id, amount, status, version) VALUES ($1, $2, $3, $4)
		ON CONFLICT (id) DO UPDATE SET status = excluded.status, version = excluded.version`, o.ID, o.Amount, o.Status, o.Version)
	if err != nil {
		return err
	}
	payload, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return s.millrace.Append(ctx, tx, outbox.Message{
		Topic: "order.v1", Key: o.ID, Type: event, Payload: payload,
		AggregateType: "order", AggregateID: o.ID, AggregateVersion: o.Version,
	})
}

// place is POST /orders.
func (s *Orders) place(w http.ResponseWriter, r *http.Request) {
	var o Order
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil || o.ID == "" {
		http.Error(w, "an order needs an id", http.StatusBadRequest)
		return
	}
	o.Status, o.Version = "placed", 1
	err := s.millrace.InTx(r.Context(), func(ctx context.Context, tx *sql.Tx) error { return s.save(ctx, tx, o, "order.placed") })
	if err != nil {
		s.log.ErrorContext(r.Context(), "order not placed", "order", o.ID, "error", err)
		http.Error(w, "try again later", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusCreated)
}

// get is GET /orders/{id}: from Redis, and from the database where Redis has nothing.
func (s *Orders) get(w http.ResponseWriter, r *http.Request) {
	o, err := s.view.Get(r.Context(), r.PathValue("id"))
	switch {
	case errors.Is(err, cache.ErrNotFound):
		http.NotFound(w, r)
	case err != nil:
		http.Error(w, "try again later", http.StatusServiceUnavailable)
	default:
		_ = json.NewEncoder(w).Encode(o)
	}
}

// load reads an order for the view.
func (s *Orders) load(ctx context.Context, id string) (cache.Entry[Order], error) {
	o := Order{ID: id}
	err := s.db.QueryRowContext(ctx, `SELECT amount, status, version FROM orders WHERE id = $1`, id).Scan(&o.Amount, &o.Status, &o.Version)
	if errors.Is(err, sql.ErrNoRows) {
		err = cache.ErrNotFound
	}
	return cache.Found(o.Version, o), err
}

// show puts orders into the view: no entry goes back, whatever comes twice or late.
// While Redis is away the group waits.
func (s *Orders) show(ctx context.Context, orders []Order) error {
	puts := make([]cache.Put[Order], len(orders))
	for i, o := range orders {
		puts[i] = cache.Put[Order]{ID: o.ID, Entry: cache.Found(o.Version, o)}
	}
	_, err := s.view.PutAll(ctx, puts...)
	return err
}

// bill writes an invoice, once for each order.
func (s *Orders) bill(ctx context.Context, tx *sql.Tx, o Order) error {
	if o.Amount < 0 {
		return consumer.Fatal(errors.New("an order costs something"))
	}
	if o.Status != "placed" {
		return nil
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO invoice (order_id, amount) VALUES ($1, $2)`, o.ID, o.Amount)
	return err
}

// closeUnpaid is the job. Its lock is checked in the transaction that writes.
func (s *Orders) closeUnpaid(ctx context.Context) error {
	return s.millrace.InTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := lock.Guard(ctx, tx); err != nil {
			return err
		}
		var o Order
		err := tx.QueryRowContext(ctx, `SELECT id, amount, version FROM orders WHERE status = 'placed' AND amount = 0 LIMIT 1 FOR UPDATE`).
			Scan(&o.ID, &o.Amount, &o.Version)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		o.Status, o.Version = "closed", o.Version+1
		return s.save(ctx, tx, o, "order.closed")
	})
}
