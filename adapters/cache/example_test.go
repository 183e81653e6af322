package cache_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/adapters/cache"
)

// Order is an aggregate of yours, with the version that its row has.
type Order struct {
	ID, Status string
	Version    int64
}

// A cache of an aggregate: read it with orders.Get(ctx, id).
func Example() {
	open := func(rdb *redis.Client, db *sql.DB) (*cache.Versioned[Order], error) {
		store, err := cache.NewStore(rdb, cache.StoreConfig{}) // one for all caches of the process
		if err != nil {
			return nil, err
		}
		load := func(ctx context.Context, id string) (cache.Entry[Order], error) {
			o := Order{ID: id}
			err := db.QueryRowContext(ctx, `SELECT status, version FROM orders WHERE id = $1`, id).Scan(&o.Status, &o.Version)
			if errors.Is(err, sql.ErrNoRows) {
				err = cache.ErrNotFound
			}
			return cache.Found(o.Version, o), err
		}
		return cache.NewVersioned(store, "order", load, cache.VersionedConfig[Order]{TTL: 10 * time.Minute})
	}
	rdb := redis.NewClient(cache.Options("localhost:6379"))
	defer rdb.Close()
	orders, err := open(rdb, nil)
	fmt.Println(orders != nil, err)
	// Output: true <nil>
}

// A projection tells the cache of what changed: order and repetition do not
// matter, and no entry goes back.
func ExampleVersioned_RefreshAll() {
	_ = func(ctx context.Context, orders *cache.Versioned[Order], changed []Order) error {
		puts := make([]cache.Put[Order], len(changed))
		for i, o := range changed {
			puts[i] = cache.Put[Order]{ID: o.ID, Entry: cache.Found(o.Version, o)}
		}
		_, err := orders.RefreshAll(ctx, puts...)
		return err // cache.ErrUnavailable: deliver the events again
	}
}

// The results of a query, until something changes that it would find.
func ExampleQuery() {
	type args struct {
		Status string
		Limit  int
	}
	_ = func(ctx context.Context, store *cache.Store, find cache.LoadQuery[args, []Order]) ([]Order, error) {
		open, err := cache.NewQuery(store, "open-orders", find, cache.QueryConfig[[]Order]{TTL: time.Minute})
		if err != nil {
			return nil, err
		}
		if err := open.Invalidate(ctx); err != nil { // after the commit that changed an order
			return nil, err
		}
		return open.Get(ctx, args{Status: "OPEN", Limit: 20})
	}
}
