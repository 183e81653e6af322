package quarantine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/consumer/quarantine"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

const liveness = 3 * time.Minute

// checker drives members through random faults and judges the order of what they
// did by a ledger of its own: the events it produced, the effects in the order of
// their commits, and what it gave up itself.
type checker struct {
	t    *testing.T
	rng  *rand.Rand
	db   *harness.Database
	spec memberSpec

	tool    *quarantine.Quarantine
	client  *kgo.Client
	reader  *kafka.DeadLetters
	pub     *kafka.Publisher
	members []*lab.Program

	produced map[string]int // events of each key: 0 … n-1
	given    map[string]map[int]bool
	counts   map[string]int
}

const checkerKeys = 12

func newChecker(t *testing.T, spec memberSpec) *checker {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := &checker{
		t: t, rng: rand.New(rand.NewPCG(seed, 0)), db: harness.NewDatabase(t),
		produced: map[string]int{}, given: map[string]map[int]bool{}, counts: map[string]int{},
	}
	_, err := c.db.DB.Exec(`CREATE TABLE ledger_effect (seq bigserial PRIMARY KEY, key text, n int);
		CREATE TABLE ledger_broken (key text, n int, PRIMARY KEY (key, n))`)
	require.NoError(t, err)
	topic := harness.Topic(t, 3)
	c.spec = memberSpec{DSN: c.db.DSN, Brokers: harness.Brokers(t), Topic: topic, Group: harness.Group(t), Open: spec.Open, Batch: spec.Batch}
	require.NoError(t, harness.CreateTopic(t.Context(), c.spec.Brokers, deadletter.Topic(topic), 3))
	c.tool, err = quarantine.New(c.db.DB, quarantine.Config{})
	require.NoError(t, err)
	c.client, err = kgo.NewClient(kgo.SeedBrokers(c.spec.Brokers...), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	require.NoError(t, err)
	t.Cleanup(c.client.Close)
	conf := kafka.Config{Brokers: c.spec.Brokers}
	c.reader, err = kafka.NewDeadLetters(conf)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.reader.Close() })
	c.pub, err = kafka.NewPublisher(conf)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.pub.Close()) })
	return c
}

// produce writes the next event of some keys; now and then one that will fail.
func (c *checker) produce() {
	var recs []*kgo.Record
	for range 1 + c.rng.IntN(30) {
		key := fmt.Sprintf("k%d", c.rng.IntN(checkerKeys))
		n := c.produced[key]
		c.produced[key]++
		if c.rng.IntN(25) == 0 {
			_, err := c.db.DB.Exec("INSERT INTO ledger_broken VALUES ($1, $2)", key, n)
			require.NoError(c.t, err)
		}
		recs = append(recs, c.event(key, n))
	}
	require.NoError(c.t, c.client.ProduceSync(c.t.Context(), recs...).FirstErr())
}

// plant has an event fail and another of its key behind it, and returns once both
// are where they belong: both quarantined, or, without quarantine, the second one
// handled before the first. What chance adds comes on top.
func (c *checker) plant() {
	const key = "k0"
	n := c.produced[key]
	c.produced[key] += 2
	_, err := c.db.DB.Exec("INSERT INTO ledger_broken VALUES ($1, $2)", key, n)
	require.NoError(c.t, err)
	require.NoError(c.t, c.client.ProduceSync(c.t.Context(), c.event(key, n), c.event(key, n+1)).FirstErr())
	harness.Await(c.t, liveness, "the planted failure has its consequence", func(ctx context.Context) error {
		entries, err := c.tool.List(ctx, quarantine.Filter{})
		if inversions, _ := c.inversions(); err != nil || len(entries) >= 2 || inversions > 0 {
			return err
		}
		return fmt.Errorf("%d entries", len(entries))
	})
}

func (c *checker) event(key string, n int) *kgo.Record {
	return &kgo.Record{Topic: c.spec.Topic, Key: []byte(key), Value: fmt.Appendf(nil, "%s %d", key, n),
		Headers: []kgo.RecordHeader{{Key: "event-id", Value: fmt.Appendf(nil, "%s-%d", key, n)}}}
}

// fix lets a share of the broken events succeed from now on.
func (c *checker) fix(percent int) {
	_, err := c.db.DB.Exec("DELETE FROM ledger_broken WHERE random() * 100 < $1", percent)
	require.NoError(c.t, err)
}

func (c *checker) replay() { require.NoError(c.t, c.tryReplay()) }

func (c *checker) tryReplay() error {
	_, err := deadletter.Replay(c.t.Context(), deadletter.Topic(c.spec.Topic), c.reader, c.pub, deadletter.Config{Rate: -1, MaxReplays: 1 << 20})
	return err
}

// replayTwice runs two replays that know nothing of each other.
func (c *checker) replayTwice() {
	other := make(chan error, 1)
	go func() { other <- c.tryReplay() }()
	c.replay()
	require.NoError(c.t, <-other)
}

// skip gives up the first waiting event of some key.
func (c *checker) skip() {
	entries, err := c.tool.List(c.t.Context(), quarantine.Filter{})
	require.NoError(c.t, err)
	entries = slices.DeleteFunc(entries, func(e quarantine.Entry) bool { return !e.First })
	if len(entries) == 0 {
		return
	}
	e := entries[c.rng.IntN(len(entries))]
	var key string
	var n int
	_, err = fmt.Sscanf(e.EventID, "k%d-%d", new(int), &n)
	require.NoError(c.t, err)
	key = string(e.Key)
	if c.given[key] == nil {
		c.given[key] = map[int]bool{}
	}
	c.given[key][n] = true
	_, err = c.tool.Release(c.t.Context(), quarantine.Filter{Group: e.Group, Topic: e.Topic, Partitions: []int32{e.Partition}, Offsets: []int64{e.Offset}})
	require.NoError(c.t, err)
	c.counts["skips"]++
}

// shake starts, stops or kills a member.
func (c *checker) shake() {
	if len(c.members) < 2 {
		c.members = append(c.members, startMember(c.t, c.spec))
		c.counts["starts"]++
		return
	}
	i := c.rng.IntN(len(c.members))
	m := c.members[i]
	c.members = slices.Delete(c.members, i, i+1)
	if c.rng.IntN(2) == 0 {
		m.Kill()
		c.counts["kills"]++
		return
	}
	m.AwaitOutput("at work", liveness) // before that it does not know of SIGTERM
	require.Zero(c.t, m.Terminate(liveness))
	c.counts["stops"]++
}

func (c *checker) run(rounds int) {
	c.members = append(c.members, startMember(c.t, c.spec))
	c.plant()
	for range rounds {
		<-time.After(time.Duration(c.rng.IntN(40)) * time.Millisecond) // faults come at any time
		c.produce()
		switch c.rng.IntN(12) {
		case 0, 1:
			c.shake()
		case 2, 3, 4:
			c.counts["replays"]++
			c.replay()
		case 5:
			c.counts["twin replays"]++
			c.replayTwice()
		case 6:
			c.skip()
		case 7, 8:
			c.fix(30)
		}
	}
	c.fix(100)
	if len(c.members) == 0 {
		c.members = append(c.members, startMember(c.t, c.spec))
	}
}

// settle replays until every event was handled or given up.
func (c *checker) settle() {
	for began := time.Now(); ; c.replay() {
		missing := c.missing()
		if missing == 0 {
			return
		}
		if time.Since(began) > liveness {
			entries, _ := c.tool.List(c.t.Context(), quarantine.Filter{})
			require.FailNow(c.t, "events are lost", "%d missing, %+v wait", missing, entries)
		}
		<-time.After(100 * time.Millisecond)
	}
}

type effect struct {
	key string
	n   int
}

func (c *checker) effects() (all []effect) {
	rows, err := c.db.DB.QueryContext(context.Background(), "SELECT key, n FROM ledger_effect ORDER BY seq")
	require.NoError(c.t, err)
	defer rows.Close()
	for rows.Next() {
		var e effect
		require.NoError(c.t, rows.Scan(&e.key, &e.n))
		all = append(all, e)
	}
	require.NoError(c.t, rows.Err())
	return all
}

func (c *checker) missing() (n int) {
	seen := map[effect]bool{}
	for _, e := range c.effects() {
		seen[e] = true
	}
	for key, produced := range c.produced {
		for i := range produced {
			if !seen[effect{key, i}] && !c.given[key][i] {
				n++
			}
		}
	}
	return n
}

// inversions counts first effects that came before an earlier event of their key
// had its own or was given up, and the effects that were repeated.
func (c *checker) inversions() (inversions, repeated int) {
	next := map[string]int{} // every event below was handled or given up
	seen := map[effect]bool{}
	for _, e := range c.effects() {
		if seen[e] {
			repeated++
			continue
		}
		seen[e] = true
		for next[e.key] < e.n && (seen[effect{e.key, next[e.key]}] || c.given[e.key][next[e.key]]) {
			next[e.key]++
		}
		if next[e.key] < e.n {
			inversions++
		}
	}
	return inversions, repeated
}

func TestQuarantine_KeepsEachKeysOrderThroughCrashesReplaysAndSkips(t *testing.T) {
	t.Parallel()
	for name, spec := range map[string]memberSpec{"one at a time": {}, "in batches with an inbox": {Batch: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newChecker(t, spec)
			began := time.Now()
			c.run(50)
			ran := time.Since(began)
			c.settle()
			inversions, repeated := c.inversions()
			total := 0
			for _, n := range c.produced {
				total += n
			}
			entries, err := c.tool.List(t.Context(), quarantine.Filter{Resolved: true, Limit: 1 << 20})
			require.NoError(t, err)
			t.Logf("faults for %s, quiet after %s: %d events, %d quarantined, %d effects repeated, %v",
				ran, time.Since(began)-ran, total, len(entries), repeated, c.counts)
			require.Zero(t, inversions)
			require.NotEmpty(t, entries)
			require.True(t, repeated == 0 || !spec.Batch, "the inbox makes effects once")
		})
	}
}

func TestQuarantine_CheckerSeesWhatHappensWithoutIt(t *testing.T) {
	t.Parallel()
	c := newChecker(t, memberSpec{Open: true})
	c.run(10)
	c.settle()
	inversions, _ := c.inversions()
	require.Positive(t, inversions)
}
