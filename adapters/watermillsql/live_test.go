package watermillsql_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/watermillsql"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/harness"
)

// TestMove_UnderLoadLosesDoublesAndReordersNothing moves a running system over:
// writers with rollbacks and long transactions, a stock forwarder that is stopped
// half-way, an importer that follows beside, and the switch. What the forwarder
// delivered and what is in the outbox are judged by the entities' own versions.
func TestMove_UnderLoadLosesDoublesAndReordersNothing(t *testing.T) {
	t.Parallel()
	// The stock forwarder waits for every transaction of its cluster.
	db := withStock(t, harness.DatabaseOn(t, harness.PrivatePostgres(t, harness.PostgresConfig{})).DB)
	_, err := db.Exec(`CREATE TABLE entity (id text PRIMARY KEY, version bigint NOT NULL); INSERT INTO entity SELECT 'k' || n, 0 FROM generate_series(0, 7) n`)
	require.NoError(t, err)

	w := &writers{db: db}
	w.start(t, 6)
	forwarded := runForwarder(t, db, func() bool { return w.committed.Load() > 300 })
	saved := savedBy(t, db)

	cfg := importing()
	cfg.BatchSize = 20
	i, err := watermillsql.NewImporter(db, table, newWriter(t, db), cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	following := make(chan error, 1)
	go func() { following <- i.Run(ctx) }()
	require.Eventually(t, func() bool { return len(moved(t, db)) > 300 }, 2*time.Minute, 20*time.Millisecond)
	cancel()
	require.NoError(t, <-following)

	_, err = i.Switch(t.Context())
	require.NoError(t, err)
	var stock int
	require.NoError(t, db.QueryRow(`SELECT count(*) FROM watermill_events_out`).Scan(&stock))
	before := w.committed.Load()
	require.Eventually(t, func() bool { return w.committed.Load() > before+200 }, 2*time.Minute, 20*time.Millisecond)
	w.stop(t)

	var after int
	require.NoError(t, db.QueryRow(`SELECT count(*) FROM watermill_events_out`).Scan(&after))
	require.Equal(t, stock, after, "nothing was written to the stock table after the switch")
	judge(t, db, forwarded, saved)
}

// savedBy returns the events up to the offset that the forwarder has saved, read
// when it has stopped. It may have published more: a batch that then comes again.
func savedBy(t *testing.T, db *sql.DB) map[string]bool {
	t.Helper()
	rows, err := db.Query(`SELECT m.payload FROM watermill_events_out m JOIN watermill_offsets_events_out o ON o.consumer_group = ''
		WHERE (m.transaction_id, m."offset") <= (o.last_processed_transaction_id, o.offset_acked)`)
	require.NoError(t, err)
	defer rows.Close()
	saved := map[string]bool{}
	for rows.Next() {
		var payload []byte
		require.NoError(t, rows.Scan(&payload))
		var envelope struct {
			Payload  []byte            `json:"payload"`
			Metadata map[string]string `json:"metadata"`
		}
		require.NoError(t, json.Unmarshal(payload, &envelope))
		saved[envelope.Metadata[outbox.MetadataKey]+"="+string(envelope.Payload)] = true
	}
	require.NoError(t, rows.Err())
	require.NotEmpty(t, saved)
	return saved
}

// judge wants each version of each entity once, and those in the outbox in their
// order. The stock forwarder is judged for presence only: its own order is that
// of transaction ids, and what it published without saving is moved, rightly.
func judge(t *testing.T, db *sql.DB, forwarded map[string]int, saved map[string]bool) {
	t.Helper()
	seen, inOutbox, again := map[string]bool{}, map[string]bool{}, 0
	for v := range forwarded {
		seen[v] = true
	}
	last := map[string]int64{}
	for _, v := range moved(t, db) {
		require.False(t, inOutbox[v], "%s is twice in the outbox", v)
		inOutbox[v] = true
		require.False(t, saved[v], "%s is in the outbox, though the forwarder had saved it", v)
		if forwarded[v] > 0 {
			again++
		}
		seen[v] = true
		key, version := parse(t, v)
		require.Greater(t, version, last[key], "order of %s", key)
		last[key] = version
	}
	rows, err := db.Query(`SELECT id, version FROM entity`)
	require.NoError(t, err)
	defer rows.Close()
	total := 0
	for rows.Next() {
		var id string
		var version int64
		require.NoError(t, rows.Scan(&id, &version))
		for n := int64(1); n <= version; n++ {
			require.True(t, seen[fmt.Sprintf("%s=%d", id, n)], "%s=%d is lost", id, n)
			total++
		}
	}
	require.NoError(t, rows.Err())
	require.Len(t, seen, total, "nothing that was not committed")
	t.Logf("%d events: %d forwarded, %d of them saved, %d in the outbox, %d forwarded as well", total, len(forwarded), len(saved), len(inOutbox), again)
}

func parse(t *testing.T, v string) (key string, version int64) {
	t.Helper()
	var n int
	_, err := fmt.Sscanf(v, "k%d=%d", &n, &version)
	require.NoError(t, err)
	return "k" + strconv.Itoa(n), version
}

// writers change two entities a transaction: the one that waits for the second
// has its transaction id from before.
type writers struct {
	db        *sql.DB
	committed atomic.Int64
	stopping  atomic.Bool
	running   sync.WaitGroup
	errs      chan error
}

func (w *writers) start(t *testing.T, n int) {
	w.errs = make(chan error, n)
	for seed := range n {
		w.running.Go(func() {
			r := rand.New(rand.NewPCG(uint64(seed), 1))
			for !w.stopping.Load() {
				if err := w.write(r); err != nil {
					w.errs <- err
					return
				}
			}
		})
	}
	t.Cleanup(func() { w.stopping.Store(true); w.running.Wait() })
}

func (w *writers) stop(t *testing.T) {
	t.Helper()
	w.stopping.Store(true)
	w.running.Wait()
	close(w.errs)
	require.NoError(t, <-w.errs)
}

func (w *writers) write(r *rand.Rand) error {
	tx, err := w.db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	first := r.IntN(8)
	keys := []int{first}
	if second := first + 1 + r.IntN(4); second < 8 { // in rising order: no deadlocks
		keys = append(keys, second)
	}
	pause := float64(r.IntN(2)) / 1000 // the length of the transaction, in seconds
	if r.IntN(40) == 0 {
		pause = 0.15
	}
	for _, k := range keys {
		if err := w.change(tx, fmt.Sprintf("k%d", k)); err != nil {
			return err
		}
		if _, err := tx.Exec(`SELECT pg_sleep($1)`, pause); err != nil {
			return err
		}
	}
	if r.IntN(5) == 0 {
		return nil
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	w.committed.Add(1)
	return nil
}

func (w *writers) change(tx *sql.Tx, key string) error {
	var version int64
	if err := tx.QueryRow(`UPDATE entity SET version = version + 1 WHERE id = $1 RETURNING version`, key).Scan(&version); err != nil {
		return err
	}
	pub, err := wsql.NewPublisher(tx, wsql.PublisherConfig{SchemaAdapter: watermillsql.NewSwitchSchema(watermillsql.SwitchSchemaConfig{})}, nil)
	if err != nil {
		return err
	}
	return forwarder.NewPublisher(pub, forwarder.PublisherConfig{ForwarderTopic: table}).Publish("t", keyed(key, strconv.FormatInt(version, 10)))
}

func keyed(key, payload string) *message.Message {
	m := message.NewMessage(uuid.NewString(), []byte(payload))
	m.Metadata.Set(outbox.MetadataKey, key)
	return m
}

// runForwarder runs a stock forwarder until enough, and counts what it delivered.
func runForwarder(t *testing.T, db *sql.DB, enough func() bool) map[string]int {
	t.Helper()
	sub, err := wsql.NewSubscriber(db, wsql.SubscriberConfig{
		SchemaAdapter: wsql.DefaultPostgreSQLSchema{}, OffsetsAdapter: wsql.DefaultPostgreSQLOffsetsAdapter{},
		PollInterval: 10 * time.Millisecond, RetryInterval: 10 * time.Millisecond,
	}, nil)
	require.NoError(t, err)
	out := &counter{seen: map[string]int{}}
	fwd, err := forwarder.NewForwarder(sub, out, nil, forwarder.Config{ForwarderTopic: table})
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- fwd.Run(t.Context()) }()
	<-fwd.Running()
	require.Eventually(t, func() bool { return enough() && out.count() > 0 }, 2*time.Minute, 10*time.Millisecond)
	require.NoError(t, fwd.Close())
	require.NoError(t, <-done)
	return out.all()
}

type counter struct {
	mu   sync.Mutex
	seen map[string]int
}

// Publish implements message.Publisher.
func (c *counter) Publish(_ string, msgs ...*message.Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range msgs {
		c.seen[m.Metadata.Get(outbox.MetadataKey)+"="+string(m.Payload)]++
	}
	return nil
}

// Close implements message.Publisher.
func (c *counter) Close() error { return nil }

func (c *counter) count() int { return len(c.all()) }

// all is a copy: a stock router may return while a handler it has just started is
// still on its way.
func (c *counter) all() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.seen)
}
