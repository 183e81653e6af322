package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/consumer/inbox"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

// pipe is a topic on the run's Kafka, with dead letters.
type pipe struct {
	*store
	topic, group string
	conf         kafka.Config
}

func newPipe(t *testing.T, partitions int) *pipe {
	t.Helper()
	p := &pipe{store: newStore(t), topic: harness.Topic(t, partitions), group: harness.Group(t), conf: kafka.Config{Brokers: harness.Brokers(t)}}
	require.NoError(t, harness.CreateTopic(t.Context(), p.conf.Brokers, deadletter.Topic(p.topic), partitions))
	return p
}

// produce writes n events over some keys; each hundredth is poison.
func (p *pipe) produce(n int) (poison int) {
	p.t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(p.conf.Brokers...), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	require.NoError(p.t, err)
	defer c.Close()
	recs := make([]*kgo.Record, n)
	for i := range recs {
		key := fmt.Sprintf("k%d", i%97)
		recs[i] = &kgo.Record{Topic: p.topic, Key: []byte(key), Value: fmt.Appendf(nil, "%d", i), Headers: []kgo.RecordHeader{
			{Key: outbox.HeaderEventID, Value: []byte(uuid.NewString())},
			{Key: outbox.HeaderAggregateID, Value: []byte(key)},
			{Key: outbox.HeaderAggregateVersion, Value: fmt.Append(nil, i/97+1)},
			{Key: outbox.HeaderOccurredAt, Value: []byte(time.Now().UTC().Format(time.RFC3339Nano))},
		}}
		if i%100 == 50 {
			recs[i].Value = append(recs[i].Value, " poison"...)
			poison++
		}
	}
	require.NoError(p.t, c.ProduceSync(p.t.Context(), recs...).FirstErr())
	return poison
}

// consume runs one member of the group until ctx ends.
func consume(ctx context.Context, db *sql.DB, conf kafka.Config, topic, group string) error {
	store, err := pgstore.New(db, pgstore.Config{})
	if err != nil {
		return err
	}
	writer, err := outbox.NewWriter(store, outbox.WriterConfig{})
	if err != nil {
		return err
	}
	in, err := inbox.New(db, group, inbox.Config{Committed: writer.Wake})
	if err != nil {
		return err
	}
	dead, err := kafka.NewPublisher(conf)
	if err != nil {
		return err
	}
	sub, err := kafka.NewSubscriber(group, conf, kafka.SubscriberConfig{Concurrency: 4, MaxBatch: 50})
	if err != nil {
		return errors.Join(err, dead.Close())
	}
	router, err := consumer.New(dead, consumer.Config{Retry: consumer.FixedBackOff(5*time.Millisecond, 2)})
	if err != nil {
		return errors.Join(err, dead.Close())
	}
	router.HandleBatch("ship", topic, sub, in.Batch(func(ctx context.Context, tx *sql.Tx, msg *message.Message) error {
		followUp := outbox.Message{Topic: "shipment.v1", Key: "k", Payload: msg.Payload}
		if err := writer.Append(ctx, tx, followUp); err != nil {
			return err
		}
		return effect(ctx, tx, msg)
	}), consumer.WithGroup(group))
	return errors.Join(router.Run(ctx), dead.Close())
}

// settled waits until n effects are there and the group has committed all.
func (p *pipe) settled(n int) {
	p.t.Helper()
	require.Eventually(p.t, func() bool { return p.count(`SELECT count(DISTINCT event) FROM effect`) >= n }, 2*liveness, 20*time.Millisecond)
}

// judge compares what is there with what was produced.
func (p *pipe) judge(n, poison int) {
	p.t.Helper()
	require.Equal(p.t, n-poison, p.count(`SELECT count(DISTINCT event) FROM effect`), "nothing is lost")
	require.Equal(p.t, n-poison, p.count(`SELECT count(*) FROM effect`), "nothing is there twice")
	require.Equal(p.t, n-poison, p.count(`SELECT count(DISTINCT payload) FROM outbox`))
	require.Equal(p.t, n-poison, p.count(`SELECT count(*) FROM outbox`), "follow-ups too")
	deadLetters := map[string]bool{}
	for _, r := range harness.ReadTopic(p.t, p.conf.Brokers, deadletter.Topic(p.topic)) {
		deadLetters[string(r.Value)] = true
		require.True(p.t, strings.HasSuffix(string(r.Value), "poison"), "%s is no poison", r.Value)
	}
	require.Len(p.t, deadLetters, poison)
}

func TestInbox_EffectsAreMadeOnceThroughStormsOfRebalances(t *testing.T) {
	t.Parallel()
	const n = 4000
	p := newPipe(t, 4)
	poison := p.produce(n)
	ctx, cancel := context.WithCancel(t.Context())
	var members sync.WaitGroup
	seed := rand.Uint64()
	t.Log("seed", seed)
	for m := range 3 {
		rnd := rand.New(rand.NewPCG(seed, uint64(m)))
		members.Go(func() {
			for ctx.Err() == nil { // it comes and goes
				life, leave := context.WithTimeout(ctx, time.Duration(200+rnd.IntN(1500))*time.Millisecond)
				if err := consume(life, p.db, p.conf, p.topic, p.group); err != nil {
					t.Error(err)
				}
				leave()
			}
		})
	}
	p.settled(n - poison)
	cancel()
	members.Wait()
	finish(t, p)
	p.judge(n, poison)
}

// finish lets one member consume what is left.
func finish(t *testing.T, p *pipe) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- consume(ctx, p.db, p.conf, p.topic, p.group) }()
	admin, err := kafka.NewAdmin(p.conf)
	require.NoError(t, err)
	defer func() { _ = admin.Close() }()
	harness.Await(t, 2*liveness, "the group to be done", func(ctx context.Context) error {
		lags, err := admin.Lag(ctx, p.group, p.topic)
		for _, l := range lags {
			if l.Messages > 0 {
				err = errors.Join(err, fmt.Errorf("partition %d lags by %d", l.Partition, l.Messages))
			}
		}
		return err
	})
	cancel()
	require.NoError(t, <-ended)
}

// The environment of a child process.
const (
	childTopic    = "INBOX_CHILD_TOPIC"
	childGroup    = "INBOX_CHILD_GROUP"
	childBrokers  = "INBOX_CHILD_BROKERS"
	childPostgres = "INBOX_CHILD_POSTGRES"
)

func childMain() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	db, err := sql.Open("postgres", os.Getenv(childPostgres))
	if err == nil {
		fmt.Println("consuming")
		err = consume(ctx, db, kafka.Config{Brokers: strings.Split(os.Getenv(childBrokers), ",")}, os.Getenv(childTopic), os.Getenv(childGroup))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func startChild(t *testing.T, p *pipe) *lab.Program {
	t.Helper()
	return lab.StartProgram(t, lab.ProgramConfig{Path: os.Args[0], Env: []string{
		childTopic + "=" + p.topic, childGroup + "=" + p.group,
		childBrokers + "=" + strings.Join(p.conf.Brokers, ","), childPostgres + "=" + p.dsn,
	}})
}

func TestInbox_EffectsAreMadeOnceThoughConsumersAreKilled(t *testing.T) {
	t.Parallel()
	const n, kills = 6000, 3
	p := newPipe(t, 2)
	poison := p.produce(n)
	for k := range kills {
		child := startChild(t, p)
		child.AwaitOutput("consuming", liveness)
		at := (k + 1) * n / (kills + 2)
		p.settled(at) // it is in the middle of it
		child.Kill()
		t.Logf("killed with %d effects", p.count(`SELECT count(*) FROM effect`))
	}
	finish(t, p)
	p.judge(n, poison)
}
