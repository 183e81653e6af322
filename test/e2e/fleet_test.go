package e2e

import (
	"database/sql"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

// fleet is several outboxes, each a schema of one database with writers at work,
// and the relays that serve them all.
type fleet struct {
	pipes []*pipe
	loads []*load
	bin   string
}

func newFleet(t *testing.T, outboxes int) *fleet {
	f := &fleet{bin: lab.Build(t, "github.com/millrace-go/millrace/cmd/millrace")}
	db := harness.EmptyDatabase(t)
	for i := range outboxes {
		schema := fmt.Sprint("shop", i)
		_, err := db.DB.Exec(`CREATE SCHEMA ` + schema)
		require.NoError(t, err)
		address, err := url.Parse(db.DSN)
		require.NoError(t, err)
		q := address.Query()
		q.Set("search_path", schema)
		address.RawQuery = q.Encode()
		own, err := sql.Open("postgres", address.String())
		require.NoError(t, err)
		own.SetMaxOpenConns(4)
		t.Cleanup(func() { require.NoError(t, own.Close()) })
		p := &pipe{db: &harness.Database{DSN: address.String(), DB: own}, brokers: harness.Brokers(t), topic: harness.Topic(t, 2), bin: f.bin}
		code, _, stderr := p.millrace(t, "migrate", "up")
		require.Zero(t, code, stderr)
		f.pipes = append(f.pipes, p)
	}
	return f
}

// relay starts one `millrace relay` over all the outboxes.
func (f *fleet) relay(t *testing.T, args ...string) *lab.Program {
	var list []string
	for i, p := range f.pipes {
		list = append(list, fmt.Sprintf("shop%d=%s", i, p.db.DSN))
	}
	return lab.StartProgram(t, lab.ProgramConfig{
		Path: f.bin, Args: append([]string{"relay", "--hand-over-after", "2s", "--kafka", strings.Join(f.pipes[0].brokers, ",")}, args...),
		Env: []string{"MILLRACE_OUTBOXES=" + strings.Join(list, ",")},
	})
}

// write starts a writer on each outbox.
func (f *fleet) write(t *testing.T) {
	for _, p := range f.pipes {
		f.loads = append(f.loads, p.loadEvery(t, 40*time.Millisecond))
	}
}

// flow waits until every outbox has got n more rows, and has moved its cursor.
func (f *fleet) flow(t *testing.T, n int64) {
	t.Helper()
	for i, p := range f.pipes {
		at := p.place()
		f.loads[i].await(t, n)
		require.Eventually(t, func() bool { return p.place().position > at.position }, liveness, 10*time.Millisecond)
	}
}

// leads counts the leases that run, by process id.
func (f *fleet) leads() map[int]int {
	n := map[int]int{}
	for _, p := range f.pipes {
		var owner string
		_ = p.db.DB.QueryRow(`SELECT owner FROM outbox_cursor WHERE lease_until > clock_timestamp()`).Scan(&owner)
		if parts := strings.Split(owner, ":"); len(parts) == 3 { // host:pid:random/outbox
			pid, _ := strconv.Atoi(parts[1])
			n[pid]++
		}
	}
	return n
}

// await waits until the outboxes are spread over these relays as evenly as can be.
func (f *fleet) await(t *testing.T, relays ...*lab.Program) {
	t.Helper()
	var seen map[int]int
	require.Eventually(t, func() bool {
		seen = f.leads()
		counts := []int{}
		for _, r := range relays {
			counts = append(counts, seen[r.PID()])
		}
		sum := 0
		for _, n := range counts {
			sum += n
		}
		return sum == len(f.pipes) && slices.Max(counts)-slices.Min(counts) <= 1
	}, liveness, 20*time.Millisecond, "the spread is %v", &seen)
}

// stable waits until no outbox has changed hands for the given time. On a busy machine
// members decide by what they knew a while ago, so that a move or two may follow an even
// spread; leads that went to and fro without an end would never leave such a pause.
func (f *fleet) stable(t *testing.T, span time.Duration) {
	t.Helper()
	until(t, liveness, "leads stay where they are", func() bool {
		epochs := f.epochs()
		<-time.After(span)
		return slices.Equal(epochs, f.epochs())
	})
}

// lostLeads counts how often a lease ran out under a relay that runs.
func lostLeads(relays ...*lab.Program) (n int) {
	for _, r := range relays {
		n += strings.Count(r.Stderr(), "lost the lead")
	}
	return n
}

func (f *fleet) epochs() (all []int64) {
	for _, p := range f.pipes {
		all = append(all, p.place().epoch)
	}
	return all
}

// finish ends the writers and the relays, and returns the duplicates of all
// topics, having found nothing lost and each key in order.
func (f *fleet) finish(t *testing.T, relays ...*lab.Program) (duplicates int) {
	t.Helper()
	for _, l := range f.loads {
		l.end()
		require.Zero(t, l.failed.Load())
	}
	for _, p := range f.pipes {
		p.awaitPending(t, 0, liveness)
	}
	for _, r := range relays {
		require.Zero(t, r.Terminate(liveness), r.Stderr())
	}
	for _, p := range f.pipes {
		duplicates += p.verify(t)
		require.Empty(t, column(t, p.db.DB, `SELECT instance FROM outbox_roster WHERE until > clock_timestamp()`), "a member that stops leaves the list")
	}
	return duplicates
}

// TestFleet_SpreadsOverInstancesThatComeAndGo: a second and a third instance take
// their share, a stopped one's goes to the others, its successor gets it back; all
// of it under load, and nothing is sent twice.
func TestFleet_SpreadsOverInstancesThatComeAndGo(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 4)
	f.write(t)
	first := f.relay(t)
	f.await(t, first)
	second := f.relay(t)
	f.await(t, first, second)
	third := f.relay(t)
	f.await(t, first, second, third)
	f.flow(t, 400)
	f.stable(t, 8*time.Second)
	f.await(t, first, second, third)
	if lostLeads(first, second, third) == 0 {
		require.GreaterOrEqual(t, strings.Count(first.Stderr()+second.Stderr()+third.Stderr(), "relay hands over"), 3, "two to the second, one to the third")
	}

	require.Zero(t, second.Terminate(liveness), second.Stderr())
	f.await(t, first, third)
	f.flow(t, 400)
	again := f.relay(t)
	f.await(t, first, again, third)
	f.flow(t, 400)
	duplicates := f.finish(t, first, again, third)
	require.LessOrEqual(t, duplicates, window*lostLeads(first, second, third, again), "graceful moves repeat nothing")
}

// TestFleet_SurvivesDeadAndFrozenInstances: what a killed instance led is taken by
// the others, likewise what a frozen one led; thawed, it changes nothing and gets
// a share again.
func TestFleet_SurvivesDeadAndFrozenInstances(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 4)
	f.write(t)
	dead, zombie, sound := f.relay(t), f.relay(t), f.relay(t)
	f.await(t, dead, zombie, sound)
	var unmoved []func()
	for _, p := range f.pipes {
		unmoved = append(unmoved, p.watch(t))
	}
	f.flow(t, 400)
	lost := f.leads()[dead.PID()]
	began := time.Now()
	dead.Kill()
	f.await(t, zombie, sound)
	t.Logf("what a killed instance led was taken after %s", time.Since(began).Round(time.Millisecond))
	f.flow(t, 400)

	lost += f.leads()[zombie.PID()]
	began = time.Now()
	require.NoError(t, zombie.Pause())
	f.await(t, sound)
	t.Logf("what a frozen instance led was taken after %s", time.Since(began).Round(time.Millisecond))
	f.flow(t, 400)
	epochs := f.epochs()
	require.NoError(t, zombie.Resume())
	require.Eventually(t, func() bool { return strings.Count(zombie.Stderr(), "lost the lead") >= 2 }, liveness, 10*time.Millisecond)
	for i, p := range f.pipes { // it may have been handed a share by now, under an epoch of its own
		if at := p.place(); strings.Contains(at.owner, fmt.Sprintf(":%d:", zombie.PID())) {
			require.Greater(t, at.epoch, epochs[i], "the zombie changes nothing")
		}
	}
	f.await(t, zombie, sound)
	f.flow(t, 400)

	again := f.relay(t)
	f.await(t, again, zombie, sound)
	f.flow(t, 400)
	for _, check := range unmoved {
		check()
	}
	duplicates := f.finish(t, again, zombie, sound)
	lost += lostLeads(again, sound) + max(0, lostLeads(zombie)-2)
	t.Logf("%d duplicates, %d allowed for %d outboxes that lost their leader", duplicates, lost*window, lost)
	require.LessOrEqual(t, duplicates, lost*window)
}

// TestFleet_OneOutboxOutOfOrderDoesNotStopTheOthers: one is not migrated and one
// names a server that is not there. Both are reported; the others flow.
func TestFleet_OneOutboxOutOfOrderDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	f.write(t)
	empty := harness.EmptyDatabase(t)
	port, err := lab.FreePort()
	require.NoError(t, err)
	list := []string{"empty=" + empty.DSN, "away=postgres://u:hush@127.0.0.1:1/d?sslmode=disable"}
	for i, p := range f.pipes {
		list = append(list, fmt.Sprintf("shop%d=%s", i, p.db.DSN))
	}
	relay := lab.StartProgram(t, lab.ProgramConfig{
		Path: f.bin, Args: []string{"relay", "--kafka", strings.Join(f.pipes[0].brokers, ","), "--http", fmt.Sprint("127.0.0.1:", port)},
		Env: []string{"MILLRACE_OUTBOXES=" + strings.Join(list, ",")},
	})
	f.await(t, relay)
	f.flow(t, 400)
	var ready string
	require.Eventually(t, func() bool {
		ready = page(t, port, "/readyz")
		return strings.Contains(ready, "empty: not ready: ") && strings.Contains(ready, "away: not ready: ")
	}, liveness, 50*time.Millisecond)
	require.Contains(t, ready, "millrace migrate up")
	require.Contains(t, ready, "shop0: ok: leading\nshop1: ok: leading")
	require.Equal(t, "shop1: ok: leading\n", page(t, port, "/readyz?outbox=shop1"))
	metrics := page(t, port, "/metrics")
	require.Contains(t, metrics, `relay_leader{outbox="shop0",relay="relay"} 1`)
	require.Contains(t, metrics, `relay_leader{outbox="away",relay="relay"} 0`)
	require.NotContains(t, relay.Stderr()+ready, "hush")

	p := &pipe{db: empty, bin: f.bin}
	code, _, stderr := p.millrace(t, "migrate", "up")
	require.Zero(t, code, stderr)
	require.Eventually(t, func() bool { return page(t, port, "/readyz?outbox=empty") == "empty: ok: leading\n" }, liveness, 50*time.Millisecond,
		"it is served once somebody has fixed it")
	require.Zero(t, f.finish(t, relay))
	require.Empty(t, f.leads())
}
