package harness

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Redis returns a client on a logical database of the test's own, on the Redis
// server that the tests of this run share. The database is empty, and emptied
// again at the end of the test. The client's Options().Addr and Options().DB
// serve to open more clients on it.
func Redis(t testing.TB) *redis.Client {
	t.Helper()
	r, err := shared.Redis(t.Context())
	if err != nil {
		t.Fatal("harness:", err)
	}
	opt, err := redis.ParseURL(r.URL())
	if err != nil {
		t.Fatal("harness: redis:", err)
	}
	own := *opt
	own.DB, err = allotRedis(t.Context(), opt)
	if err != nil {
		t.Fatal("harness: redis database:", err)
	}
	c := redis.NewClient(&own)
	t.Cleanup(func() { freeRedis(t, c, opt) })
	if err := c.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal("harness: flush redis database:", err)
	}
	return c
}

// allotRedis takes the next logical database that no test has. Database 0
// records which are taken; a test that died loses its database after an hour.
func allotRedis(ctx context.Context, opt *redis.Options) (int, error) {
	c := redis.NewClient(opt)
	defer c.Close()
	count := 16
	if v, err := c.ConfigGet(ctx, "databases").Result(); err == nil {
		count, _ = strconv.Atoi(v["databases"])
	}
	for range 2 * count {
		n, err := c.Incr(ctx, "millrace:harness:databases").Result()
		if err != nil {
			return 0, err
		}
		db := int(n)%(count-1) + 1
		free, err := c.SetNX(ctx, allotment(db), 1, time.Hour).Result()
		if err != nil {
			return 0, err
		}
		if free {
			return db, nil
		}
	}
	return 0, fmt.Errorf("all %d are taken", count-1)
}

func allotment(db int) string { return "millrace:harness:database:" + strconv.Itoa(db) }

func freeRedis(t testing.TB, c *redis.Client, opt *redis.Options) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := c.FlushDB(ctx).Err(); err != nil && !errors.Is(err, redis.ErrClosed) {
		t.Log("harness: flush redis database:", err)
	}
	db := c.Options().DB
	_ = c.Close()
	admin := redis.NewClient(opt)
	defer admin.Close()
	if err := admin.Del(ctx, allotment(db)).Err(); err != nil {
		t.Log("harness: free redis database:", err)
	}
}
