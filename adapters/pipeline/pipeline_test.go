package pipeline_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/inbox"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/adapters/pipeline"
	"github.com/millrace-go/millrace/adapters/schedule"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/harness"
)

func TestPipeline_CarriesMessagesFromAppendToHandlers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pipeline(t, s.config())
	var single, batch handled
	pipeline.Handle(p.Group(s.group, pipeline.GroupConfig{}), s.topic, consumer.JSON[order], func(_ context.Context, o order) error {
		single.add(o)
		return nil
	})
	pipeline.HandleBatch(p.Group(s.group+"-batch", pipeline.GroupConfig{}), s.topic, consumer.JSON[order], func(_ context.Context, os []order) error {
		batch.add(os...)
		return nil
	})
	place(t, p, s.topic, orders(0, 10)...) // before Run
	stop := start(t, p)
	awaitReady(t, p)
	place(t, p, s.topic, orders(10, 100)...)
	single.await(t, 100)
	batch.await(t, 100)

	code, text := ask(p, "/readyz")
	require.Equal(t, http.StatusOK, code, text)
	code, text = ask(p, "/livez")
	require.Equal(t, http.StatusOK, code, text)
	harness.Await(t, within, "every part is counted", func(context.Context) error {
		_, text := ask(p, "/metrics")
		for _, want := range []string{
			`relay_messages_published_total{relay="relay",topic="` + s.topic + `"} 100`,
			`consumer_records_total{group="` + s.group + `",outcome="done",topic="` + s.topic + `"} 100`,
			`relay_leader{relay="relay"} 1`, `go_sql_open_connections{db_name="postgres"}`, `process_resident_memory_bytes`, `cache_breaker_state 0`,
		} {
			if !strings.Contains(text, want) {
				return fmt.Errorf("no %s in:\n%s", want, text)
			}
		}
		return nil
	})
	stop()
	code, text = ask(p, "/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, text, "stopping")
	require.ErrorIs(t, p.Run(t.Context()), pipeline.ErrClosed)

	place(t, p, s.topic, orders(100, 101)...) // waits for the next Run
	next := s.pipeline(t, s.config())
	start(t, next)
	harness.Await(t, within, "the message is published", func(context.Context) error {
		if n := len(harness.ReadTopic(t, s.brokers, s.topic)); n != 101 {
			return fmt.Errorf("%d records", n)
		}
		return nil
	})
}

// Stops while messages are on their way everywhere.
func TestRun_GracefulStopRepeatsNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var seen handled
	const rounds, each = 4, 150
	for round := range rounds {
		p := s.pipeline(t, s.config())
		pipeline.Handle(p.Group(s.group, pipeline.GroupConfig{}), s.topic, consumer.JSON[order], func(_ context.Context, o order) error {
			seen.add(o)
			return nil
		})
		stop := start(t, p)
		place(t, p, s.topic, orders(round*each, (round+1)*each)...)
		seen.await(t, round*each+each/3)
		stop()
	}
	p := s.pipeline(t, s.config())
	pipeline.Handle(p.Group(s.group, pipeline.GroupConfig{}), s.topic, consumer.JSON[order], func(_ context.Context, o order) error {
		seen.add(o)
		return nil
	})
	stop := start(t, p)
	seen.await(t, rounds*each)
	stop()
	_, all := seen.snapshot()
	require.Equal(t, rounds*each, all, "nothing is handled twice")
	require.Len(t, harness.ReadTopic(t, s.brokers, s.topic), rounds*each, "nothing is published twice")
	require.Empty(t, harness.ReadTopic(t, s.brokers, s.topic+".dlt"))
}

// Nobody asked for a breaker, and still an outage costs no dead letter.
func TestGroup_PausesWhileRedisIsDownAndCatchesUp(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := harness.PrivateRedis(t, harness.RedisConfig{})
	opt, err := redis.ParseURL(server.URL())
	require.NoError(t, err)
	rdb := redis.NewClient(opt)
	t.Cleanup(func() { _ = rdb.Close() })

	p := s.pipeline(t, s.config())
	// An ordinary failure is given up soon: what is held for longer is held because
	// the failure says that Redis is unavailable.
	fast := consumer.BreakerConfig{ProbeEvery: 200 * time.Millisecond, MaxHold: 500 * time.Millisecond}
	put := func(ctx context.Context, os ...order) error {
		_, err := rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for _, o := range os {
				pipe.HSet(ctx, "orders", o.ID, o.Amount)
			}
			return nil
		})
		return err
	}
	var seen, batches handled
	pipeline.Handle(p.Group(s.group, pipeline.GroupConfig{Breaker: fast}), s.topic, consumer.JSON[order], func(ctx context.Context, o order) error {
		err := put(ctx, o)
		if err == nil {
			seen.add(o)
		}
		return err
	})
	pipeline.HandleBatch(p.Group(s.group+"-batch", pipeline.GroupConfig{Breaker: fast}), s.topic, consumer.JSON[order], func(ctx context.Context, os []order) error {
		err := put(ctx, os...)
		if err == nil {
			batches.add(os...)
		}
		return err
	})
	stop := start(t, p)
	place(t, p, s.topic, orders(0, 20)...)
	seen.await(t, 20)
	batches.await(t, 20)
	awaitReady(t, p)

	require.NoError(t, server.Kill())
	place(t, p, s.topic, orders(20, 220)...)
	harness.Await(t, within, "both groups are paused", func(ctx context.Context) error {
		_, text := ask(p, "/readyz")
		for _, group := range []string{s.group, s.group + "-batch"} {
			if !strings.Contains(text, "group "+group+": paused at "+s.topic) {
				return errors.New(text)
			}
		}
		if len(s.log.lines("group is paused", `"group":"`+s.group+`"`)) == 0 {
			return errors.New("nothing logged")
		}
		return nil
	})
	// Longer than all retries of a message that was not held.
	held := time.Now()
	harness.Await(t, within, "retries would be over", func(context.Context) error {
		if time.Since(held) < 3*time.Second {
			return errors.New("not yet")
		}
		return nil
	})
	require.Empty(t, harness.ReadTopic(t, s.brokers, s.topic+".dlt"))

	require.NoError(t, server.Start(t.Context()))
	seen.await(t, 220)
	batches.await(t, 220)
	awaitReady(t, p)
	stop()
	require.NotEmpty(t, s.log.lines("group goes on", `"group":"`+s.group+`"`))
	require.Empty(t, harness.ReadTopic(t, s.brokers, s.topic+".dlt"), "an outage costs no dead letter")
}

func TestRun_WaitsForServersThatAreAwayAndNamesThem(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	port := freePort(t)
	s.brokers = []string{fmt.Sprintf("127.0.0.1:%d", port)}
	cfg := s.config()
	cfg.Topics = []kafka.Topic{{Name: s.topic, Partitions: 2, Replicas: 1}}
	p := s.pipeline(t, cfg)
	var seen handled
	pipeline.Handle(p.Group(s.group, pipeline.GroupConfig{}), s.topic, consumer.JSON[order], func(_ context.Context, o order) error {
		seen.add(o)
		return nil
	})
	code, text := ask(p, "/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, text, "not running")
	start(t, p)
	place(t, p, s.topic, orders(0, 5)...) // needs no Kafka
	harness.Await(t, within, "the wait is shown", func(context.Context) error {
		code, text := ask(p, "/readyz")
		if code != http.StatusServiceUnavailable || !strings.Contains(text, "kafka: waiting: ") || strings.Contains(text, "kafka: waiting: starting") {
			return fmt.Errorf("%d %s", code, text)
		}
		return nil
	})
	code, _ = ask(p, "/livez")
	require.Equal(t, http.StatusOK, code)
	require.NotEmpty(t, s.log.lines(`"msg":"waiting"`, `"part":"kafka"`))

	harness.PrivateKafka(t, harness.KafkaConfig{Twin: true, Port: port})
	seen.await(t, 5)
	awaitReady(t, p)
	require.NotEmpty(t, s.log.lines(`"msg":"waiting is over"`, `"part":"kafka"`))
}

func TestPipeline_LogsAndShowsTheLossAndTheReturnOfKafka(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := harness.PrivateKafka(t, harness.KafkaConfig{})
	s.brokers = server.Brokers()
	cfg := s.config()
	cfg.Topics = []kafka.Topic{{Name: s.topic, Partitions: 1, Replicas: 1}}
	p := s.pipeline(t, cfg)
	var seen handled
	pipeline.Handle(p.Group(s.group, pipeline.GroupConfig{}), s.topic, consumer.JSON[order], func(_ context.Context, o order) error {
		seen.add(o)
		return nil
	})
	start(t, p)
	awaitReady(t, p)
	place(t, p, s.topic, orders(0, 1)...)
	seen.await(t, 1)

	require.NoError(t, server.Kill())
	place(t, p, s.topic, orders(1, 10)...)
	harness.Await(t, within, "the loss is shown and logged", func(context.Context) error {
		_, text := ask(p, "/readyz")
		for _, want := range []string{"kafka: cannot be reached since", "consumer " + s.group + " " + s.topic + ": "} {
			if !strings.Contains(text, want) {
				return errors.New(text)
			}
		}
		if len(s.log.lines("kafka cannot be reached")) == 0 {
			return errors.New("not logged")
		}
		return nil
	})
	require.NoError(t, server.Start(t.Context()))
	seen.await(t, 10)
	awaitReady(t, p)
	require.NotEmpty(t, s.log.lines("kafka can be reached again"))
}

func TestRun_WaitsForPostgresAndForTopics(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	address := strings.Split(strings.TrimPrefix(s.db.DSN[strings.Index(s.db.DSN, "@")+1:], "@"), "/")[0]
	proxy := harness.NewProxy(t, address)
	proxy.Cut()
	db, err := sql.Open("postgres", strings.Replace(s.db.DSN, address, proxy.Addr(), 1))
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	missing := s.topic + "-later"
	cfg := s.config()
	cfg.ListenDSN = ""
	p, err := pipeline.New(db, s.brokers, cfg)
	require.NoError(t, err)
	var seen handled
	pipeline.Handle(p.Group(s.group, pipeline.GroupConfig{}), missing, consumer.JSON[order], func(_ context.Context, o order) error {
		seen.add(o)
		return nil
	})
	start(t, p)
	waiting := func(want ...string) func(context.Context) error {
		return func(context.Context) error {
			_, text := ask(p, "/readyz")
			for _, w := range want {
				if !strings.Contains(text, w) {
					return errors.New(text)
				}
			}
			return nil
		}
	}
	harness.Await(t, within, "both are named", waiting("postgres: waiting: ", "kafka: waiting: topic "+missing+" does not exist", missing+".dlt does not exist"))
	require.NoError(t, proxy.Heal())
	for _, name := range []string{missing, missing + ".dlt"} {
		require.NoError(t, harness.CreateTopic(t.Context(), s.brokers, name, 2))
	}
	place(t, p, missing, orders(0, 3)...)
	seen.await(t, 3)
	awaitReady(t, p)
}

func TestRun_StopsWhileItWaits(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.brokers = []string{"127.0.0.1:1"}
	p := s.pipeline(t, s.config())
	pipeline.Handle(p.Group(s.group, pipeline.GroupConfig{}), s.topic, consumer.JSON[order], func(context.Context, order) error { return nil })
	stop := start(t, p)
	harness.Await(t, within, "it waits", func(context.Context) error {
		if _, text := ask(p, "/readyz"); !strings.Contains(text, "kafka: waiting") {
			return errors.New(text)
		}
		return nil
	})
	stop()
}

func TestGroup_PoisonBecomesADeadLetterAndIsLoggedUnderItsTrace(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pipeline(t, s.config())
	var seen handled
	pipeline.Handle(p.Group(s.group, pipeline.GroupConfig{}), s.topic, consumer.JSON[order], func(_ context.Context, o order) error {
		if o.ID == "o-3" {
			return consumer.Fatal(errors.New("no such customer"))
		}
		seen.add(o)
		return nil
	})
	stop := start(t, p)
	place(t, p, s.topic, append(orders(0, 10), "not JSON")...)
	seen.await(t, 9)
	var dead []harness.Record
	harness.Await(t, within, "both are dead letters", func(context.Context) error {
		if dead = harness.ReadTopic(t, s.brokers, s.topic+".dlt"); len(dead) != 2 {
			return fmt.Errorf("%d dead letters", len(dead))
		}
		return nil
	})
	stop()
	for _, d := range dead {
		trace := strings.Split(d.Header(outbox.HeaderTraceparent), "-")
		require.Len(t, trace, 4, "the trace of the append came along")
		require.Len(t, s.log.lines("message became a dead letter", `"trace_id":"`+trace[1]+`"`), 1, "%s", d.Value)
	}
	require.Len(t, s.log.lines("message became a dead letter", "no such customer"), 1)
	_, text := ask(p, "/metrics")
	require.Contains(t, text, `consumer_records_total{group="`+s.group+`",outcome="dead_lettered",topic="`+s.topic+`"} 2`)
}

func TestHandleOnce_MakesAnEffectAndWhatItAppendsOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	billed := harness.Topic(t, 1)
	_, err := s.db.DB.Exec(`CREATE TABLE invoice (id text NOT NULL, amount int NOT NULL)`)
	require.NoError(t, err)
	p := s.pipeline(t, s.config())
	pipeline.HandleOnce(p.Group(s.group, pipeline.GroupConfig{}), s.topic, consumer.JSON[order], func(ctx context.Context, tx *sql.Tx, o order) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO invoice VALUES ($1, $2)`, o.ID, o.Amount); err != nil {
			return err
		}
		return p.Append(ctx, tx, outbox.Message{Topic: billed, Key: o.ID, Type: "order.billed", Payload: []byte("{}")})
	})
	stop := start(t, p)
	place(t, p, s.topic, orders(0, 20)...)
	harness.Await(t, within, "all are billed", func(context.Context) error {
		if n := len(harness.ReadTopic(t, s.brokers, billed)); n < 20 {
			return fmt.Errorf("%d of 20", n)
		}
		return nil
	})
	records := harness.ReadTopic(t, s.brokers, s.topic)
	require.NoError(t, republish(t, s, records)) // the same events again, as after a crash
	harness.Await(t, within, "the repetition is counted", func(context.Context) error {
		_, text := ask(p, "/metrics")
		if want := `inbox_events_total{group="` + s.group + `",result="duplicate",topic="` + s.topic + `"} 20`; !strings.Contains(text, want) {
			return errors.New("no " + want)
		}
		return nil
	})
	stop()
	var n int
	require.NoError(t, s.db.DB.QueryRow(`SELECT count(*) FROM invoice`).Scan(&n))
	require.Equal(t, 20, n)
	require.Len(t, harness.ReadTopic(t, s.brokers, billed), 20)
}

func TestJob_RunsUnderItsLockAndIsCounted(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pipeline(t, s.config())
	ran := make(chan int64, 16)
	p.Job(schedule.Job{Name: "closeOrders", Schedule: "* * * * * *", Run: func(ctx context.Context) error {
		fence, _ := lock.Fence(ctx)
		select {
		case ran <- fence:
		default:
		}
		return errors.New("no orders")
	}})
	stop := start(t, p)
	select {
	case fence := <-ran:
		require.Positive(t, fence)
	case <-time.After(within):
		t.Fatal("the job did not run")
	}
	harness.Await(t, within, "the failure is logged under a trace", func(context.Context) error {
		if len(s.log.lines("job failed", `"job":"closeOrders"`, "no orders")) == 0 {
			return errors.New("nothing")
		}
		return nil
	})
	stop()
	_, text := ask(p, "/metrics")
	require.Contains(t, text, `job_lock_acquired_total{lock_name="closeOrders"}`)
}

// The hooks of the service are called beside those that log and count.
func TestHooks_OfTheServiceAreCalledToo(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var mu sync.Mutex
	called := map[string]bool{}
	call := func(name string) {
		mu.Lock()
		defer mu.Unlock()
		called[name] = true
	}
	cfg := s.config()
	opt := cache.Options(harness.Redis(t).Options().Addr)
	cfg.Redis = redis.NewClient(opt)
	t.Cleanup(func() { _ = cfg.Redis.Close() })
	cfg.Relay.Hooks.Leading = func(int64) { call("relay leads") }
	cfg.Relay.Hooks.Parked = func(outbox.Parked) { call("message parked") }
	cfg.Kafka.Hooks.Assigned = func(kafka.Claim) { call("partition assigned") }
	cfg.Consumer.Hooks.Delivered = func(consumer.Delivery) { call("delivered") }
	cfg.JobLocks.Hooks.Started = func(lock.Grant) { call("task started") }
	cfg.Jobs.Hooks.Slot = func(schedule.Slot) { call("slot") }
	cfg.Cache.Hooks.Requested = func(string, cache.Result) { call("cache requested") }
	p := s.pipeline(t, cfg)
	pipeline.HandleOnce(p.Group(s.group, pipeline.GroupConfig{
		Inbox: inbox.Config{Hooks: inbox.Hooks{Committed: func(inbox.Commit) { call("inbox committed") }}},
	}), s.topic, consumer.JSON[order], func(context.Context, *sql.Tx, order) error { return nil })
	p.Job(schedule.Job{Name: "eachSecond", Schedule: "* * * * * *", Run: func(context.Context) error { return nil }})
	entries, err := cache.NewVersioned(p.Parts().Cache, "order", func(context.Context, string) (cache.Entry[order], error) {
		return cache.Entry[order]{}, cache.ErrNotFound
	}, cache.VersionedConfig[order]{TTL: time.Minute})
	require.NoError(t, err)
	stop := start(t, p)
	_, err = entries.Get(t.Context(), s.group)
	require.ErrorIs(t, err, cache.ErrNotFound)
	place(t, p, s.topic, orders(0, 1)...)
	place(t, p, s.topic+"-misspelt", orders(0, 1)...)
	harness.Await(t, within, "all hooks are called", func(context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		var missing []string
		for _, name := range []string{
			"relay leads", "message parked", "partition assigned", "delivered", "task started", "slot", "cache requested", "inbox committed",
		} {
			if !called[name] {
				missing = append(missing, name)
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("not called: %v", missing)
		}
		return nil
	})
	stop()
	require.NotEmpty(t, s.log.lines("relay leads"), "the pipeline logs too")
	require.NotEmpty(t, s.log.lines("message parked", s.topic+"-misspelt"))
	_, text := ask(p, "/metrics")
	require.Contains(t, text, `inbox_events_total{group="`+s.group+`",result="applied",topic="`+s.topic+`"} 1`)
}

func TestReady_AsksTheChecksOfTheService(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var down atomic.Bool
	down.Store(true)
	cfg := s.config()
	cfg.Checks = map[string]func(context.Context) error{"search": func(context.Context) error {
		if down.Load() {
			return errors.New("no answer")
		}
		return nil
	}}
	p := s.pipeline(t, cfg)
	start(t, p)
	harness.Await(t, within, "it alone is missing", func(context.Context) error {
		if code, text := ask(p, "/readyz"); code != http.StatusServiceUnavailable || text != "not ready:\nsearch: no answer\n" {
			return fmt.Errorf("%d %s", code, text)
		}
		return nil
	})
	down.Store(false)
	awaitReady(t, p)
}

// What is added after Run began is refused, loudly.
func TestGroup_AfterRunIsIgnoredAndLogged(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pipeline(t, s.config())
	group := p.Group(s.group, pipeline.GroupConfig{})
	pipeline.Handle(group, s.topic, consumer.JSON[order], func(context.Context, order) error { return nil })
	start(t, p)
	awaitReady(t, p)
	pipeline.HandleOnce(group, "late.v1", consumer.JSON[order], func(context.Context, *sql.Tx, order) error { return nil })
	p.Job(schedule.Job{Name: "late"})
	p.Group("late", pipeline.GroupConfig{})
	require.Len(t, s.log.lines("added after Run began"), 3)
	awaitReady(t, p)
}

func TestRun_RefusesAnOutboxThatIsNotThere(t *testing.T) {
	t.Parallel()
	db := harness.EmptyDatabase(t)
	p, err := pipeline.New(db.DB, harness.Brokers(t), pipeline.Config{Logger: newSiteLog()})
	require.NoError(t, err)
	err = p.Run(t.Context())
	require.ErrorIs(t, err, outbox.ErrUnsafeLog)
	require.ErrorContains(t, err, "postgres: ")

	p, err = pipeline.New(db.DB, harness.Brokers(t), pipeline.Config{Logger: newSiteLog(), Migrate: true})
	require.NoError(t, err)
	start(t, p)
	awaitReady(t, p)
}

func TestNew_NamesEverythingThatIsWrong(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	cfg := pipeline.Config{
		Registry: reg, ListenDSN: "postgres://[", DrainTimeout: -1, Kafka: kafka.Config{Brokers: []string{"a:1"}, Compression: "zip"},
		Relay: outbox.RelayConfig{Name: "no name"}, Writer: outbox.WriterConfig{MaxPayloadBytes: -1, Wake: func() {}},
		Consumer: consumer.Config{Timeout: -2}, JobLocks: lock.Config{Lease: 1},
		Checks: map[string]func(context.Context) error{"search": nil},
	}
	_, err := pipeline.New(nil, nil, cfg)
	for _, want := range []string{
		"db: must be", "ListenDSN: must be", "Kafka.Brokers: must be empty", "DrainTimeout: must be", "Writer.Wake: must be nil", `"search" is nil`,
		"Kafka.", "Relay.Name: ", "Consumer.", "JobLocks.Lease: must be at least",
	} {
		require.ErrorContains(t, err, want)
	}
	p, err := pipeline.New(&sql.DB{}, []string{"127.0.0.1:1"}, pipeline.Config{Registry: reg})
	require.NoError(t, err, "a failed New leaves nothing behind")
	require.NotNil(t, p.Parts().Relay)
	_, err = pipeline.New(&sql.DB{}, []string{"127.0.0.1:1"}, pipeline.Config{Registry: reg})
	require.ErrorContains(t, err, "Registry: ")
}

func TestRun_NamesWhatIsWrongWithGroupsAndJobsBeforeItBegins(t *testing.T) {
	t.Parallel()
	p, err := pipeline.New(&sql.DB{}, []string{"127.0.0.1:1"}, pipeline.Config{})
	require.NoError(t, err)
	nothing := func(context.Context, order) error { return nil }
	pipeline.Handle(p.Group("twice", pipeline.GroupConfig{}), "order.v1", consumer.JSON[order], nothing)
	pipeline.Handle(p.Group("twice", pipeline.GroupConfig{}), "order.v1", consumer.JSON[order], nothing)
	p.Group("idle", pipeline.GroupConfig{})
	bad := p.Group("bad", pipeline.GroupConfig{
		Subscriber: kafka.SubscriberConfig{Concurrency: -1}, Breaker: consumer.BreakerConfig{InARow: -2},
	})
	bad.Handle("order.v1", nil)
	pipeline.HandleOnce[order](bad, "order.v2", nil, nil)
	pipeline.Handle(bad, "order.v1", consumer.JSON[order], nothing)
	p.Job(schedule.Job{Name: "closeOrders", Schedule: "whenever"})
	err = p.Run(t.Context())
	for _, want := range []string{
		"pipeline:\n", `"twice" is there twice`, `Group "idle": must have a handler`, `Group "bad".`, `Group "bad": topic "order.v1": handler must`,
		`Group "bad": topic "order.v2": handler must`, `Group "bad": topic "order.v1": must have one handler`, `Jobs.job "closeOrders"`,
	} {
		require.ErrorContains(t, err, want)
	}
	require.ErrorIs(t, p.Run(t.Context()), pipeline.ErrClosed)
}

func TestNew_NamesAWrongFieldOnce(t *testing.T) {
	t.Parallel()
	_, err := pipeline.New(&sql.DB{}, []string{"127.0.0.1:1"}, pipeline.Config{DrainTimeout: -time.Second})
	require.EqualError(t, err, "pipeline: DrainTimeout: must be positive, is -1s")

	_, err = pipeline.New(&sql.DB{}, []string{"127.0.0.1:1"}, pipeline.Config{
		DrainTimeout: -time.Second, JobLocks: lock.Config{Lease: 1},
		Topics: []kafka.Topic{{Name: "order v1"}, {Name: "dup.v1"}, {Name: "dup.v1", Partitions: -1}, {}},
	})
	require.ErrorContains(t, err, `pipeline:
Topics[0].Name: must be 1 to 249 characters of [A-Za-z0-9._-], is "order v1"
Topics[2].Name: must be unique, is "dup.v1"
Topics[2].Partitions: must be at least 1, is -1
Topics[3].Name: must be 1 to 249 characters of [A-Za-z0-9._-], is ""
DrainTimeout: must be positive, is -1s
JobLocks.Lease: must be at least`)
}

func TestRun_NamesTheGroupOfEachProblem(t *testing.T) {
	t.Parallel()
	p, err := pipeline.New(&sql.DB{}, []string{"127.0.0.1:1"}, pipeline.Config{})
	require.NoError(t, err)
	nothing := func(context.Context, order) error { return nil }
	unnamed := p.Group("", pipeline.GroupConfig{Subscriber: kafka.SubscriberConfig{Concurrency: -3, MaxBatch: -1}})
	pipeline.Handle(unnamed, "order.v1", consumer.JSON[order], nothing)
	mailer := p.Group("mailer", pipeline.GroupConfig{})
	pipeline.Handle(mailer, "", consumer.JSON[order], nothing)
	pipeline.Handle(mailer, "order v1", consumer.JSON[order], nothing)
	require.EqualError(t, p.Run(t.Context()), `pipeline:
Group.Name: must not be empty
Group "".Subscriber.Concurrency: must be at least 1, is -3
Group "".Subscriber.MaxBatch: must be at least 1, is -1
Group "mailer": topic: must not be empty
handler "mailer/order v1": topic: must be the name of a topic, is "order v1"
handler "mailer/order v1": dead-letter topic: must be the name of a topic, is "order v1.dlt"`)
}
