package faults

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/consumer/inbox"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/harness"
)

// liveness bounds waits for what must happen in the end; no test is about it.
const liveness = 3 * time.Minute

var errDown = errors.New("dependency is down")

// world is a topic with its dead letters, a consumer group, and a database in
// which effects are counted.
type world struct {
	t                 *testing.T
	db                *harness.Database
	topic, dlt, group string
	conf              kafka.Config
	pub               *kafka.Publisher
	client            *kgo.Client // shares no code with what is tested

	mu       sync.Mutex
	produced map[string]int // events of each key: 0 … n-1
	ends     []consumer.Delivery
}

func newWorld(t *testing.T, partitions int) *world {
	w := &world{
		t: t, db: harness.NewDatabase(t), topic: harness.Topic(t, partitions), group: harness.Group(t),
		conf: kafka.Config{Brokers: harness.Brokers(t)}, produced: map[string]int{},
	}
	w.dlt = deadletter.Topic(w.topic)
	require.NoError(t, harness.CreateTopic(t.Context(), w.conf.Brokers, w.dlt, partitions))
	_, err := w.db.DB.ExecContext(t.Context(), `CREATE TABLE effect (seq bigserial PRIMARY KEY, key text, n int)`)
	require.NoError(t, err)
	w.pub, err = kafka.NewPublisher(w.conf)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.pub.Close()) })
	w.client, err = kgo.NewClient(kgo.SeedBrokers(w.conf.Brokers...), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), kgo.ProducerBatchMaxBytes(4<<20))
	require.NoError(t, err)
	t.Cleanup(w.client.Close)
	return w
}

// produce writes the next n events, of the keys in turn.
func (w *world) produce(n int, keys ...string) {
	w.t.Helper()
	recs := make([]*kgo.Record, n)
	w.mu.Lock()
	for i := range recs {
		recs[i] = w.event(keys[i%len(keys)])
	}
	w.mu.Unlock()
	w.send(recs...)
}

// event is the next one of key. The caller holds mu.
func (w *world) event(key string) *kgo.Record {
	n := w.produced[key]
	w.produced[key]++
	return &kgo.Record{Topic: w.topic, Key: []byte(key), Value: fmt.Appendf(nil, "%s %d", key, n), Headers: []kgo.RecordHeader{
		{Key: outbox.HeaderEventID, Value: fmt.Appendf(nil, "%s-%d", key, n)},
		{Key: outbox.HeaderAggregateType, Value: []byte("thing")},
		{Key: outbox.HeaderAggregateID, Value: []byte(key)},
		{Key: outbox.HeaderAggregateVersion, Value: fmt.Append(nil, n+1)},
	}}
}

func (w *world) send(recs ...*kgo.Record) {
	w.t.Helper()
	require.NoError(w.t, w.client.ProduceSync(w.t.Context(), recs...).FirstErr())
}

// keysOf is k0 … k(n-1).
func keysOf(n int) (keys []string) {
	for i := range n {
		keys = append(keys, fmt.Sprintf("k%d", i))
	}
	return keys
}

func (w *world) subscriber(cfg kafka.SubscriberConfig, hooks ...kafka.Hooks) *kafka.Subscriber {
	w.t.Helper()
	conf := w.conf
	for _, h := range hooks {
		conf.Hooks = conf.Hooks.Tee(h)
	}
	sub, err := kafka.NewSubscriber(w.group, conf, cfg)
	require.NoError(w.t, err)
	return sub
}

// router returns a router whose deliveries are noted in w.
func (w *world) router(cfg consumer.Config) *consumer.Router {
	w.t.Helper()
	cfg.Hooks.Delivered = func(d consumer.Delivery) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ends = append(w.ends, d)
	}
	r, err := consumer.New(w.pub, cfg)
	require.NoError(w.t, err)
	return r
}

// count of deliveries that ended so.
func (w *world) count(o consumer.Outcome) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.ends {
		if d.Outcome == o {
			n++
		}
	}
	return n
}

func (w *world) awaitCount(o consumer.Outcome, n int) {
	w.t.Helper()
	require.Eventually(w.t, func() bool { return w.count(o) >= n }, liveness, 2*time.Millisecond, "%d of %d %s", w.count(o), n, o)
}

// start runs the router until stop or the end of the test.
func start(t *testing.T, r *consumer.Router) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	select {
	case <-r.Running():
	case err := <-done:
		cancel()
		require.FailNow(t, "router ended", "%v", err)
	}
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = stop() })
	return stop
}

func (w *world) inbox(db *sql.DB) *inbox.Inbox {
	w.t.Helper()
	i, err := inbox.New(db, w.group, inbox.Config{})
	require.NoError(w.t, err)
	return i
}

// effect adds the row of a message.
func effect(ctx context.Context, tx *sql.Tx, msg *message.Message) error {
	var key string
	var n int
	if _, err := fmt.Sscan(string(msg.Payload), &key, &n); err != nil {
		return consumer.Fatal(err)
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO effect (key, n) VALUES ($1, $2)`, key, n)
	return err
}

// work waits like a handler that heeds its context.
func work(ctx context.Context, longest time.Duration) error {
	select {
	case <-time.After(rand.N(longest)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// effects returns, for each key, the numbers of its effects in the order of their
// commits.
func (w *world) effects() map[string][]int {
	w.t.Helper()
	rows, err := w.db.DB.QueryContext(context.Background(), `SELECT key, n FROM effect ORDER BY seq`)
	require.NoError(w.t, err)
	defer rows.Close()
	all := map[string][]int{}
	for rows.Next() {
		var key string
		var n int
		require.NoError(w.t, rows.Scan(&key, &n))
		all[key] = append(all[key], n)
	}
	require.NoError(w.t, rows.Err())
	return all
}

// missing counts the events without an effect.
func (w *world) missing() (n int) {
	effects := w.effects()
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, produced := range w.produced {
		seen := map[int]bool{}
		for _, e := range effects[key] {
			seen[e] = true
		}
		n += produced - len(seen)
	}
	return n
}

func (w *world) awaitEffects() {
	w.t.Helper()
	harness.Await(w.t, liveness, "every event has its effect", func(context.Context) error {
		if n := w.missing(); n > 0 {
			return fmt.Errorf("%d are missing", n)
		}
		return nil
	})
}

// requireOnceInOrder fails unless each event has one effect, each key's in order.
func (w *world) requireOnceInOrder() {
	w.t.Helper()
	want := map[string][]int{}
	for key, n := range w.produced {
		for i := range n {
			want[key] = append(want[key], i)
		}
	}
	require.Equal(w.t, want, w.effects())
}

// deadLetters are the dead letters so far.
func (w *world) deadLetters() []harness.Record {
	return harness.ReadTopic(w.t, w.conf.Brokers, w.dlt)
}

// committed returns the group's offsets.
func (w *world) committed() map[int32]int64 {
	w.t.Helper()
	offsets, err := kadm.NewClient(w.client).FetchOffsets(context.Background(), w.group)
	require.NoError(w.t, err)
	at := map[int32]int64{}
	for p, o := range offsets[w.topic] {
		at[p] = o.At
	}
	return at
}

// proxied is the database of w behind a proxy.
func (w *world) proxied() (*sql.DB, *harness.Proxy) {
	w.t.Helper()
	u, err := url.Parse(w.db.DSN)
	require.NoError(w.t, err)
	p := harness.NewProxy(w.t, u.Host)
	u.Host = p.Addr()
	db, err := sql.Open("postgres", u.String())
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = db.Close() })
	return db, p
}

func (w *world) replay(cfg deadletter.Config) (deadletter.Result, error) {
	reader, err := kafka.NewDeadLetters(w.conf)
	if err != nil {
		return deadletter.Result{}, err
	}
	defer func() { _ = reader.Close() }()
	cfg.Rate = -1
	return deadletter.Replay(w.t.Context(), w.dlt, reader, w.pub, cfg)
}

// place is where an event lies.
type place struct {
	key       string
	n         int
	partition int32
	offset    int64
}

// records are the events in the topic.
func (w *world) records() (all []place) {
	w.t.Helper()
	for _, r := range harness.ReadTopic(w.t, w.conf.Brokers, w.topic) {
		p := place{partition: r.Partition, offset: r.Offset}
		_, err := fmt.Sscan(string(r.Value), &p.key, &p.n)
		require.NoError(w.t, err)
		all = append(all, p)
	}
	return all
}
