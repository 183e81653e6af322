package cache_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/adapters/cache"
)

// Order is an aggregate of an application.
type Order struct {
	ID      string
	Status  string
	Version int64
}

// shop is a database, and a store on a Redis in this process; a program would give
// the address of its Redis.
type shop struct {
	server *miniredis.Miniredis
	rdb    *redis.Client
	store  *cache.Store
	orders map[string]Order
	loads  int
}

func openShop(cfg cache.StoreConfig) *shop {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	s := &shop{server: server, rdb: redis.NewClient(cache.Options(server.Addr()))}
	s.orders = map[string]Order{"4711": {"4711", "PAID", 2}}
	if s.store, err = cache.NewStore(s.rdb, cfg); err != nil {
		panic(err)
	}
	return s
}

func (s *shop) close() {
	_ = s.store.Close()
	_ = s.rdb.Close()
	s.server.Close()
}

// load asks the database for one order.
func (s *shop) load(_ context.Context, id string) (cache.Entry[Order], error) {
	s.loads++
	o, ok := s.orders[id]
	if !ok {
		return cache.Entry[Order]{}, cache.ErrNotFound
	}
	return cache.Found(o.Version, o), nil
}

func (s *shop) cache(cfg cache.VersionedConfig[Order]) *cache.Versioned[Order] {
	orders, err := cache.NewVersioned(s.store, "order", s.load, cfg)
	if err != nil {
		panic(err)
	}
	return orders
}

// A cache of an aggregate in front of its table: one load, however many ask.
func Example() {
	s := openShop(cache.StoreConfig{})
	defer s.close()
	orders := s.cache(cache.VersionedConfig[Order]{TTL: 10 * time.Minute})
	for range 3 {
		o, err := orders.Get(context.Background(), "4711")
		fmt.Println(o.Status, err)
	}
	_, err := orders.Get(context.Background(), "4712")
	fmt.Println(errors.Is(err, cache.ErrNotFound), "loads:", s.loads)
	// Output:
	// PAID <nil>
	// PAID <nil>
	// PAID <nil>
	// true loads: 2
}

// An entry is replaced only by a later version.
func ExampleVersioned_Put() {
	s := openShop(cache.StoreConfig{})
	defer s.close()
	orders := s.cache(cache.VersionedConfig[Order]{TTL: 10 * time.Minute})
	for _, o := range []Order{{"4711", "PAID", 2}, {"4711", "OPEN", 1}, {"4711", "SENT", 3}} {
		stored, err := orders.Put(context.Background(), o.ID, cache.Found(o.Version, o))
		fmt.Println(o.Status, stored, err)
	}
	o, err := orders.Get(context.Background(), "4711")
	fmt.Println(o.Status, err)
	// Output:
	// PAID true <nil>
	// OPEN false <nil>
	// SENT true <nil>
	// SENT <nil>
}

// A projection of events: order and repetition do not matter, and what is not
// cached stays so.
func ExampleVersioned_RefreshAll() {
	s := openShop(cache.StoreConfig{})
	defer s.close()
	ctx, orders := context.Background(), s.cache(cache.VersionedConfig[Order]{TTL: 10 * time.Minute})
	if _, err := orders.Get(ctx, "4711"); err != nil {
		panic(err)
	}
	done, err := orders.RefreshAll(ctx,
		cache.Put[Order]{ID: "4711", Entry: cache.Found(3, Order{"4711", "SENT", 3})},
		cache.Put[Order]{ID: "4711", Entry: cache.Found(1, Order{"4711", "OPEN", 1})},
		cache.Put[Order]{ID: "4712", Entry: cache.Found(1, Order{"4712", "OPEN", 1})},
	)
	fmt.Printf("%+v %v\n", done, err) // after ErrUnavailable deliver the events again
	// Output:
	// {Stored:1 Older:1 Absent:1} <nil>
}

// A writer that knows the version it has committed reads its own write.
func ExampleVersioned_GetAtLeast() {
	s := openShop(cache.StoreConfig{})
	defer s.close()
	ctx, orders := context.Background(), s.cache(cache.VersionedConfig[Order]{TTL: 10 * time.Minute})
	if _, err := orders.Get(ctx, "4711"); err != nil {
		panic(err)
	}
	s.orders["4711"] = Order{"4711", "SENT", 3} // committed; its event is on the way
	e, err := orders.GetAtLeast(ctx, "4711", 3)
	fmt.Println(e.Value.Status, e.Version, err)
	// Output:
	// SENT 3 <nil>
}

// A session that was revoked does not come back, not even by an event from before.
func ExampleVersioned_Revoke() {
	s := openShop(cache.StoreConfig{})
	defer s.close()
	ctx, sessions := context.Background(), s.cache(cache.VersionedConfig[Order]{TTL: 10 * time.Minute})
	if err := sessions.Revoke(ctx, "4711", 3, time.Now().Add(time.Hour)); err != nil {
		panic(err)
	}
	stored, err := sessions.Put(ctx, "4711", cache.Found(2, s.orders["4711"]))
	fmt.Println(stored, err)
	_, err = sessions.Get(ctx, "4711")
	fmt.Println(err, errors.Is(err, cache.ErrRevoked))
	// Output:
	// false <nil>
	// revoked true
}

// After Invalidate the next Get loads, and nothing older can take the place.
func ExampleVersioned_Invalidate() {
	s := openShop(cache.StoreConfig{})
	defer s.close()
	ctx, orders := context.Background(), s.cache(cache.VersionedConfig[Order]{TTL: 10 * time.Minute})
	for range 2 {
		if _, err := orders.Get(ctx, "4711"); err != nil {
			panic(err)
		}
		if err := orders.Invalidate(ctx, "4711"); err != nil {
			panic(err)
		}
	}
	fmt.Println("loads:", s.loads)
	// Output:
	// loads: 2
}

// The results of a query, until something changes that it would find.
func ExampleQuery() {
	s := openShop(cache.StoreConfig{})
	defer s.close()
	type args struct{ Status string }
	count := func(_ context.Context, a args) (n int, err error) {
		s.loads++
		for _, o := range s.orders {
			if o.Status == a.Status {
				n++
			}
		}
		return n, nil
	}
	paid, err := cache.NewQuery(s.store, "count-orders", count, cache.QueryConfig[int]{TTL: time.Minute})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	for range 2 {
		n, err := paid.Get(ctx, args{"PAID"})
		fmt.Println(n, err, "loads:", s.loads)
	}
	s.orders["4712"] = Order{"4712", "PAID", 1}
	if err := paid.Invalidate(ctx); err != nil { // after the commit
		panic(err)
	}
	n, err := paid.Get(ctx, args{"PAID"})
	fmt.Println(n, err, "loads:", s.loads)
	// Output:
	// 1 <nil> loads: 1
	// 1 <nil> loads: 1
	// 2 <nil> loads: 2
}

// What Redis has of one entry, for operators: millrace cache inspect prints it.
func ExampleInspect() {
	s := openShop(cache.StoreConfig{})
	defer s.close()
	ctx, orders := context.Background(), s.cache(cache.VersionedConfig[Order]{TTL: 10 * time.Minute})
	if _, err := orders.Put(ctx, "4711", cache.Found(2, s.orders["4711"])); err != nil {
		panic(err)
	}
	key, err := orders.Key(ctx, "4711")
	if err != nil {
		panic(err)
	}
	e, err := cache.Inspect(ctx, s.rdb, key)
	fmt.Println(key, e.State, e.Version, string(e.Payload), err)
	_, err = cache.Inspect(ctx, s.rdb, "order:4712")
	fmt.Println(errors.Is(err, cache.ErrMiss))
	// Output:
	// order:4711 live 2 {"ID":"4711","Status":"PAID","Version":2} <nil>
	// true
}

// A layer in the process in front of Redis. It is used while Store.Run keeps it up
// to date, and answers lag behind Redis by at most Staleness.
func ExampleNearConfig() {
	s := openShop(cache.StoreConfig{})
	defer s.close()
	orders := s.cache(cache.VersionedConfig[Order]{
		TTL: 10 * time.Minute, Near: &cache.NearConfig{Staleness: time.Second, Entries: 1000},
	})
	o, err := orders.Get(context.Background(), "4711")
	fmt.Println(o.Status, err, "near:", orders.Near()) // Run is not running
	// Output:
	// PAID <nil> near: 0
}

// Counting hooks beside those that log.
func ExampleHooks_Tee() {
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	results := map[cache.Result]int{}
	hooks := cache.LogHooks(log).Tee(cache.Hooks{
		Requested: func(_ string, r cache.Result) { results[r]++ },
	})
	s := openShop(cache.StoreConfig{Hooks: hooks})
	defer s.close()
	orders := s.cache(cache.VersionedConfig[Order]{TTL: 10 * time.Minute})
	for range 3 {
		if _, err := orders.Get(context.Background(), "4711"); err != nil {
			panic(err)
		}
	}
	fmt.Println(results)
	hooks.Flushed() // as Run calls it
	// Output:
	// map[hit:2 miss:1]
	// level=WARN msg="cache: redis has lost its data; the database fills it again"
}

// Ids of several parts, and of parts that are long or secret.
func ExampleKey() {
	fmt.Println(cache.Key("tenant:1", "order 7"))
	fmt.Println(cache.Key("tenant", "1:order 7"))
	fmt.Println(len(cache.Digest("a secret token")))
	// Output:
	// tenant%3A1:order%207
	// tenant:1%3Aorder%207
	// 64
}
