package pipeline_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/test/harness"
)

// The service of example_orders_test.go, from its requests to all that follows.
func TestOrders_ShowsBillsAndClosesWhatItTakes(t *testing.T) {
	t.Parallel()
	db := harness.EmptyDatabase(t)
	_, err := db.DB.Exec(`
		CREATE TABLE orders (id text PRIMARY KEY, amount int NOT NULL, status text NOT NULL, version bigint NOT NULL);
		CREATE TABLE invoice (order_id text PRIMARY KEY, amount int NOT NULL)`)
	require.NoError(t, err)
	kafka := harness.PrivateKafka(t, harness.KafkaConfig{Twin: true}) // the service names its topic itself
	opt := harness.Redis(t).Options()
	safe := cache.Options(opt.Addr)
	safe.DB = opt.DB
	rdb := redis.NewClient(safe)
	t.Cleanup(func() { _ = rdb.Close() })
	port := freePort(t)
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	log := &journal{}
	s, err := NewOrders(db.DB, db.DSN, kafka.Brokers(), rdb, strings.TrimPrefix(url, "http://"), slog.New(slog.NewJSONHandler(log, nil)))
	require.NoError(t, err)

	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(stop)
	harness.Await(t, within, "the service is ready", func(ctx context.Context) error {
		if status, _, text := request(ctx, http.MethodGet, url+"/readyz", ""); status != http.StatusOK {
			return errors.New(text)
		}
		return nil
	})

	status, header, text := request(t.Context(), http.MethodPost, url+"/orders", `{"id":"o-1","amount":12}`)
	require.Equal(t, http.StatusCreated, status, "%s %s", text, log.lines("order not placed"))
	require.NotEmpty(t, header.Get("X-Trace-Id"))
	_, bad, _ := request(t.Context(), http.MethodPost, url+"/orders", `{"id":"o-2","amount":-1}`)
	request(t.Context(), http.MethodPost, url+"/orders", `{"id":"o-3","amount":0}`)
	awaitOrder(t, rdb, url, "o-1", "placed")
	awaitOrder(t, rdb, url, "o-3", "closed")
	harness.Await(t, within, "what costs something is billed", func(ctx context.Context) error {
		var n int
		if err := db.DB.QueryRowContext(ctx, `SELECT count(*) FROM invoice WHERE order_id IN ('o-1', 'o-3')`).Scan(&n); err != nil || n != 2 {
			return fmt.Errorf("%d invoices, %w", n, err)
		}
		return nil
	})
	harness.Await(t, within, "the bad order is a dead letter, logged under the trace of its request", func(context.Context) error {
		if n := len(harness.ReadTopic(t, kafka.Brokers(), "order.v1.dlt")); n != 1 {
			return fmt.Errorf("%d dead letters", n)
		}
		if len(log.lines("message became a dead letter", bad.Get("X-Trace-Id"), "an order costs something")) == 0 {
			return errors.New("not logged")
		}
		return nil
	})
	_, _, text = request(t.Context(), http.MethodGet, url+"/metrics", "")
	for _, want := range []string{
		`relay_messages_published_total\{relay="relay",topic="order.v1"\} 4`, `consumer_records_total\{group="views",outcome="done",topic="order.v1"\} 4`,
		`consumer_records_total\{group="billing",outcome="dead_lettered",topic="order.v1"\} 1`, `job_lock_acquired_total\{lock_name="closeUnpaidOrders"\} [1-9]`,
		`cache_requests_total\{cache="order"`,
	} {
		require.Regexp(t, want, text)
	}
	stop()
	require.NoError(t, <-done)
}

// awaitOrder waits until an order is shown by Redis alone, and by the service.
func awaitOrder(t *testing.T, rdb *redis.Client, url, id, status string) {
	t.Helper()
	harness.Await(t, within, "order "+id+" is shown", func(ctx context.Context) error {
		keys, err := rdb.Keys(ctx, "*"+id+"*").Result()
		if err != nil || len(keys) != 1 {
			return fmt.Errorf("in redis: %v, %w", keys, err)
		}
		_, _, text := request(ctx, http.MethodGet, url+"/orders/"+id, "")
		var o Order
		if err := json.Unmarshal([]byte(text), &o); err != nil || o.Status != status {
			return fmt.Errorf("%s, %w", text, err)
		}
		return nil
	})
}

func request(ctx context.Context, method, url, body string) (int, http.Header, string) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, err.Error()
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err.Error()
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, nil, err.Error()
	}
	return res.StatusCode, res.Header, string(text)
}

// The wiring of a whole service is short: that is what the package is for.
func TestOrders_WiringIsShort(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("example_orders_test.go")
	require.NoError(t, err)
	wiring := regexp.MustCompile(`(?s)// Wiring: from here\.\n\n(.*?)\n// Wiring: to here\.`).FindSubmatch(text)
	require.NotNil(t, wiring)
	lines := 0
	for line := range strings.Lines(string(wiring[1])) {
		if strings.TrimSpace(line) != "" {
			lines++
		}
	}
	t.Logf("%d lines of wiring", lines)
	require.LessOrEqual(t, lines, 60)
	require.Greater(t, lines, 30, "the markers stand where the wiring is")
}
