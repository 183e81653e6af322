package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/gateway"
	"github.com/millrace-go/millrace/cmd/notifier/service"
	"github.com/millrace-go/millrace/domain/notification"
	migrations "github.com/millrace-go/millrace/sql"
	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

var rebuiltViews = []string{"notification", "recipient", "counters"}

// rebuildService is two nodes of the reference service, those who use them, and a
// `notifier rebuild` that reaches Redis through a proxy of its own.
type rebuildService struct {
	cfg  service.Config
	db   *harness.Database
	rdb  *redis.Client
	slow *harness.Proxy
	bin  string
	web  *http.Client
	seed uint64
	day  string // whose counters are read

	mu    sync.Mutex
	ids   []string
	looks map[string]int // how often a reader saw something, by reader and view
}

func newRebuildService(t *testing.T) *rebuildService {
	t.Helper()
	c := &rebuildService{
		db: harness.NewDatabase(t, migrations.Lines()...), rdb: harness.Redis(t), bin: lab.Build(t, "github.com/millrace-go/millrace/cmd/notifier"),
		seed: rand.Uint64(), day: time.Now().UTC().Format(time.DateOnly), looks: map[string]int{},
		web: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}, Timeout: time.Minute},
	}
	t.Logf("seed %d", c.seed)
	t.Cleanup(c.web.CloseIdleConnections)
	opt := c.rdb.Options()
	c.slow = harness.NewProxy(t, opt.Addr)
	outside := gateway.NewFakeServer()
	outside.Fail(gateway.Faults{ErrorRate: 0.2, Seed: c.seed, Poison: map[string]gateway.Poison{"live-3": {Status: http.StatusUnprocessableEntity}}})
	server := httptest.NewServer(outside)
	t.Cleanup(server.Close)
	c.cfg = service.Config{
		DatabaseURL: c.db.DSN, Brokers: harness.Brokers(t), RedisURL: fmt.Sprintf("redis://%s/%d", opt.Addr, opt.DB),
		Addr: "127.0.0.1:0", Topic: harness.Topic(t, 4), AccountTopic: harness.Topic(t, 4), Partitions: 4,
		Group: harness.Group(t), SessionGroup: harness.Group(t), AuditGroup: harness.Group(t),
		Sending: service.Sending{
			Gateway: server.URL, Group: harness.Group(t), ProbeEvery: 200 * time.Millisecond,
			Retry: notification.Policy{First: time.Second, Attempts: 3}, Resend: "* * * * * *", ResendAtLeast: "PT0.5S",
		},
	}
	return c
}

func (c *rebuildService) slowURL() string {
	return fmt.Sprintf("redis://%s/%d", c.slow.Addr(), c.rdb.Options().DB)
}

// fill writes events of the past by plain SQL: one to three a notification.
func (c *rebuildService) fill(t *testing.T, n int) {
	t.Helper()
	done, err := c.db.DB.ExecContext(t.Context(), `
INSERT INTO outbox (topic, key, aggregate_type, aggregate_id, aggregate_version, event_type, headers, payload)
SELECT $1, 'past-' || i % 300, 'notification', md5(i::text), v,
  (ARRAY['notification.requested', 'notification.sent', 'notification.read'])[v],
  jsonb_build_object('schema-version', '1', 'occurred-at', to_char(now() at time zone 'utc' + v * interval '1 ms', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')),
  convert_to(json_build_object('notification_id', md5(i::text), 'recipient', 'past-' || i % 300, 'channel', (ARRAY['email', 'sms', 'push'])[1 + i % 3],
    'subject', 'Hello ' || i, 'requested_at', to_char(now() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'body', 'World', 'attempts', 1)::text, 'UTF8')
FROM generate_series(1, $2 / 2) i, generate_series(1, 3) v WHERE v <= 1 + i % 3 ORDER BY i, v`, c.cfg.Topic, n)
	require.NoError(t, err)
	rows, err := done.RowsAffected()
	require.NoError(t, err)
	require.EqualValues(t, n, rows)
}

// relayFrom makes the relay begin behind the past.
func (c *rebuildService) relayFrom(t *testing.T, position int) {
	t.Helper()
	_, err := c.db.DB.ExecContext(t.Context(), `INSERT INTO outbox_cursor (relay, position) VALUES ('relay', $1)`, position)
	require.NoError(t, err)
}

// open starts two nodes and all who use them. What it returns ends the users, and
// the test ends the nodes.
func (c *rebuildService) open(t *testing.T) (stop func()) {
	t.Helper()
	nodes := []string{c.node(t), c.node(t)}
	for _, url := range nodes {
		harness.Await(t, liveness, "the node is ready", func(ctx context.Context) error {
			code, body, err := c.call(ctx, "GET", url+"/readyz", "")
			if err == nil && code != http.StatusOK {
				err = fmt.Errorf("%d: %s", code, body)
			}
			return err
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	var users sync.WaitGroup
	for i := range 2 {
		users.Go(func() { c.use(ctx, t, nodes, rand.New(rand.NewPCG(c.seed, uint64(i)))) })
	}
	for i, r := range []viewReader{&apiReader{c, nodes[0]}, &apiReader{c, nodes[1]}, &rawReader{c}} {
		users.Go(func() {
			c.watch(ctx, t, fmt.Sprint("reader ", i), r, rand.New(rand.NewPCG(c.seed, uint64(100+i))))
		})
	}
	stop = func() {
		cancel()
		users.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// node starts one node and returns its address.
func (c *rebuildService) node(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	address, done := make(chan string, 1), make(chan error, 1)
	cfg := c.cfg
	cfg.Listening = func(addr string) { address <- addr }
	go func() { done <- service.Run(ctx, cfg) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	select {
	case addr := <-address:
		return "http://" + addr
	case err := <-done:
		done <- err
		t.Fatal("the node did not start:", err)
		return ""
	}
}

// use requests notifications, reads some and abandons some, about twenty acts a second.
func (c *rebuildService) use(ctx context.Context, t *testing.T, nodes []string, rng *rand.Rand) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		url := nodes[rng.IntN(2)] + "/v1/notifications"
		code, body, err := c.call(ctx, "POST", url, fmt.Sprintf(`{"recipient":"live-%d","channel":"%s","subject":"Hello","body":"World"}`,
			rng.IntN(4), []string{"email", "sms", "push"}[rng.IntN(3)]))
		var made struct{ ID string }
		switch {
		case ctx.Err() != nil:
			return
		case err != nil || code != http.StatusCreated || json.Unmarshal(body, &made) != nil || made.ID == "":
			t.Errorf("request: %d %s %v", code, body, err)
			return
		}
		c.mu.Lock()
		c.ids = append(c.ids, made.ID)
		old := c.ids[rng.IntN(len(c.ids))]
		c.mu.Unlock()
		_, _, _ = c.call(ctx, "POST", url+"/"+old+"/read", "") // 409 if it is not sent
		if rng.IntN(10) == 0 {
			_, _, _ = c.call(ctx, "POST", url+"/"+made.ID+"/abandon", `{"reason":"asked to"}`)
		}
	}
}

func (c *rebuildService) call(ctx context.Context, method, url, body string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.web.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, text, err
}

// any is one of the notifications, or "".
func (c *rebuildService) any(rng *rand.Rand) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ids) == 0 {
		return ""
	}
	return c.ids[rng.IntN(len(c.ids))]
}

func (c *rebuildService) awaitNotifications(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool { c.mu.Lock(); defer c.mu.Unlock(); return len(c.ids) >= n }, liveness, 10*time.Millisecond)
}

// state is what Redis has of the generations of a view.
func (c *rebuildService) state(t *testing.T, view string) map[string]string {
	t.Helper()
	state, err := c.rdb.HGetAll(t.Context(), "view:"+view+":generation").Result()
	require.NoError(t, err)
	return state
}

// answering is the generation of each view that answers.
func (c *rebuildService) answering(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, view := range rebuiltViews {
		all[view] = c.state(t, view)["live"]
	}
	return all
}

// position is how far the fold of the unfinished generation is; 0 if there is none
// yet. An earlier one may have left its own behind.
func (c *rebuildService) position(t *testing.T, view string) int64 {
	t.Helper()
	state := c.state(t, view)
	if state["next"] == "" || state["of"] != state["next"] {
		return 0
	}
	n, err := strconv.ParseInt(state["position"], 10, 64)
	require.NoError(t, err)
	return n
}
