package rebuild_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/cache/rebuild"
	"github.com/millrace-go/millrace/outbox"
)

// paid is a log of events, each of which says how much an order has paid so far.
// A program would take pgstore.Store.History.
type paid []outbox.Entry

func (l paid) Range(_ context.Context, r outbox.Range) iter.Seq2[outbox.Entry, error] {
	return func(yield func(outbox.Entry, error) bool) {
		for _, e := range l {
			if e.Position >= r.Lo && e.Position <= r.Hi && !yield(e, nil) {
				return
			}
		}
	}
}

func (l paid) Between(context.Context, time.Time, time.Time) (outbox.Range, error) {
	return outbox.Range{Lo: 1, Hi: int64(len(l))}, nil
}

func (l paid) ByKey(context.Context, string, string, outbox.Range) iter.Seq2[outbox.Entry, error] {
	return l.Range(context.Background(), outbox.Range{})
}

func (l paid) ByAggregate(context.Context, string, string, int64) iter.Seq2[outbox.Entry, error] {
	return l.Range(context.Background(), outbox.Range{})
}

func (l paid) Stable(context.Context) (int64, error) { return int64(len(l)), nil }

func entry(position int64, order string, version int64, payload string) outbox.Entry {
	e := outbox.Entry{Position: position, CreatedAt: time.Now()}
	e.Topic, e.AggregateID, e.AggregateVersion, e.Payload = "orders.v1", order, version, []byte(payload)
	return e
}

// puts are what entries of the log come to in the view.
func puts(entries []outbox.Entry) (puts []cache.Put[string]) {
	for _, e := range entries {
		puts = append(puts, cache.Put[string]{ID: e.AggregateID, Entry: cache.Found(e.AggregateVersion, string(e.Payload))})
	}
	return puts
}

// A view of what each order has paid, kept from events and built again from the log
// because Redis has lost an entry.
func Example() {
	ctx := context.Background()
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	defer server.Close()
	rdb := redis.NewClient(cache.Options(server.Addr()))
	defer rdb.Close()
	store, err := cache.NewStore(rdb, cache.StoreConfig{})
	if err != nil {
		panic(err)
	}
	defer store.Close()

	tracker, err := rebuild.NewTracker(rdb, "view:", "orders")
	if err != nil {
		panic(err)
	}
	orders, err := cache.NewVersioned[string](store, "orders", nil, cache.VersionedConfig[string]{
		TTL: time.Hour, Prefix: "view:orders:",
		Generations: func(ctx context.Context) (cache.Generations, error) { return tracker.Of(ctx, "orders") },
	})
	if err != nil {
		panic(err)
	}

	// The consumer of the events writes each batch to all generations.
	log := paid{entry(1, "4711", 1, "10 EUR"), entry(2, "4712", 1, "7 EUR"), entry(3, "4711", 2, "25 EUR")}
	err = tracker.Write(ctx, func(ctx context.Context, all map[string]cache.Generations) error {
		_, err := orders.In(all["orders"]).PutAll(ctx, puts(log)...)
		return err
	})
	if err != nil {
		panic(err)
	}
	key, err := orders.Key(ctx, "4711")
	if err != nil {
		panic(err)
	}
	server.Del(key)
	_, err = orders.Get(ctx, "4711")
	fmt.Println("lost:", errors.Is(err, cache.ErrMiss))

	// Another program, or a job, builds the view again.
	view := rebuild.View{Name: "orders", Life: time.Hour}
	view.Fold = func(ctx context.Context, generation string, entries []outbox.Entry) (rebuild.Folded, error) {
		_, err := orders.In(cache.Generations{Live: generation}).PutAll(ctx, puts(entries)...)
		return rebuild.Folded{Events: int64(len(entries))}, err
	}
	builder, err := rebuild.NewBuilder(tracker, view, log, rebuild.Config{})
	if err != nil {
		panic(err)
	}
	plan, err := builder.Plan(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Println("plan: positions", plan.From, "to", plan.To)
	done, err := builder.Run(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Println("answers:", done.Flipped, "events:", done.Events, "next:", done.Next)
	for _, id := range []string{"4711", "4712"} {
		v, err := orders.Get(ctx, id)
		fmt.Println(id, v, err)
	}
	// Output:
	// lost: true
	// plan: positions 1 to 3
	// answers: true events: 3 next: 4
	// 4711 25 EUR <nil>
	// 4712 7 EUR <nil>
}

// The steps of a rebuild one by one, for a view whose events come from elsewhere.
func ExampleTracker_Flip() {
	ctx := context.Background()
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	tracker, err := rebuild.NewTracker(rdb, "view:", "totals")
	if err != nil {
		panic(err)
	}
	former, err := tracker.Of(ctx, "totals")
	if err != nil {
		panic(err)
	}
	next, err := tracker.Begin(ctx, "totals")
	if err != nil {
		panic(err)
	}
	// Write everything to the keys that begin with tracker.KeyPrefix("totals", next).
	if err := tracker.Flip(ctx, "totals", next); err != nil {
		panic(err)
	}
	now, err := tracker.Of(ctx, "totals")
	fmt.Println(now.Live == next, now.Last == former.Live, err)
	fmt.Println(errors.Is(tracker.Drop(ctx, "totals", next), rebuild.ErrGeneration), "it answers")
	// Output:
	// true true <nil>
	// true it answers
}
