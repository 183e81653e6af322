package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-go/millrace/cmd/millrace/internal/check"
	"github.com/millrace-go/millrace/cmd/millrace/internal/latency"
	"github.com/millrace-go/millrace/cmd/millrace/internal/progress"
	"github.com/millrace-go/millrace/cmd/millrace/internal/servers"
)

// IdleConfig describes a benchmark of a relay that has nothing to do.
type IdleConfig struct {
	For     time.Duration  `json:"-"` // of each round
	Seconds float64        `json:"seconds"`
	Rounds  int            `json:"rounds"`
	Program string         `json:"-"` // the millrace to run; empty: this one
	Servers servers.Config `json:"-"`
}

// Validate reports everything that is wrong with c.
func (c IdleConfig) Validate() error {
	return problems(
		need(c.For >= time.Second, "--for: must be at least 1s"),
		need(c.Rounds >= 1, "--rounds: must be at least 1"),
	)
}

// settle is how long a relay has to come to rest before it is measured, and how
// long Postgres may keep its counters to itself.
const settle = 5 * time.Second

// idleBench measures a child beside the same span with no relay at all.
type idleBench struct {
	*serverGroup
	cfg   IdleConfig
	admin *sql.DB // on another database, so that looking does not count
	name  string  // of the database that is looked at
}

// Idle runs the benchmark.
func Idle(ctx context.Context, cfg IdleConfig, line *progress.Line) (*IdleReport, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.Seconds = cfg.For.Seconds()
	g, err := newServerGroup(ctx, cfg.Servers, line)
	if err != nil {
		return nil, err
	}
	defer g.close()
	ent, err := newEntities(ctx, g.set.Postgres, topicRelay, 1, 100)
	if err != nil {
		return nil, err
	}
	defer ent.close()
	if err := g.set.CreateTopic(ctx, topicRelay, partitions); err != nil {
		return nil, err
	}
	dsn, drop, err := g.another(ctx, "elsewhere")
	if err != nil {
		return nil, err
	}
	defer drop()
	b := &idleBench{serverGroup: g, cfg: cfg}
	if b.admin, err = sql.Open("postgres", dsn); err != nil {
		return nil, err
	}
	defer b.admin.Close()
	if err := ent.db.QueryRowContext(ctx, `SELECT current_database()`).Scan(&b.name); err != nil {
		return nil, err
	}
	ent.db.SetMaxIdleConns(0) // or they would count
	rep := &IdleReport{Config: cfg, Servers: g.set.Names, Nobody: idleResult{Name: "nobody"}, Relay: idleResult{Name: nameRelay}}
	for round := range cfg.Rounds {
		if err := b.round(ctx, ent, rep); err != nil {
			return nil, fmt.Errorf("round %d: %w", round+1, err)
		}
		line.Say("round %d  %.3f%% of a core, %.2f transactions/s (%.2f without a relay), listening %t", round+1,
			last(rep.Relay.CPU), last(rep.Relay.Queries), last(rep.Nobody.Queries), rep.Listening)
	}
	rep.finish(g)
	return rep, nil
}

func last(s Spread) float64 { return s.Rounds[len(s.Rounds)-1] }

// round measures the database with nobody there, then beside a relay, then how
// fast that relay wakes.
func (b *idleBench) round(ctx context.Context, ent *entities, rep *IdleReport) (err error) {
	if err := b.measure(ctx, nil, &rep.Nobody); err != nil {
		return err
	}
	c, err := startChild(ctx, b.cfg.Program, ent.dsn, b.set.Kafka, relayName)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	if err := b.await(ctx, `SELECT EXISTS (SELECT FROM outbox_cursor WHERE relay = $1 AND lease_until > clock_timestamp())`); err != nil {
		return fmt.Errorf("the relay does not lead: %w", err)
	}
	if err := b.wake(ctx, ent, nil); err != nil { // its first message makes it dial the broker
		return err
	}
	if err := b.measure(ctx, c, &rep.Relay); err != nil {
		return err
	}
	rep.Relay.RSS.add(c.peakRSS())
	var listening bool
	if err := b.serverGroup.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM outbox_doorbell WHERE relay = $1 AND idle_until > clock_timestamp())`, relayName).Scan(&listening); err != nil {
		return err
	}
	rep.Listening = listening
	return b.wake(ctx, ent, &rep.Wake)
}

// await polls a question about the relay until it is answered with yes.
func (b *idleBench) await(ctx context.Context, question string) error {
	var yes bool
	var err error
	wait := within(ctx, startLimit, func() bool {
		err = b.serverGroup.db.QueryRowContext(ctx, question, relayName).Scan(&yes)
		return yes
	})
	if !yes && err == nil {
		err = errors.New("time is up")
	}
	return errors.Join(err, wait)
}

// measure counts for the configured span.
func (b *idleBench) measure(ctx context.Context, c *child, r *idleResult) error {
	b.serverGroup.db.SetMaxIdleConns(0)
	if err := pause(ctx, settle); err != nil {
		return err
	}
	before, err := b.transactions(ctx)
	if err != nil {
		return err
	}
	var used time.Duration
	known := false
	if c != nil {
		used, known = c.processorTime()
	}
	began := time.Now()
	if err := pause(ctx, b.cfg.For); err != nil {
		return err
	}
	took := time.Since(began)
	if known {
		now, _ := c.processorTime()
		r.CPU.add(round3(100 * (now - used).Seconds() / took.Seconds()))
	} else {
		r.CPU.add(0)
	}
	after, err := b.transactions(ctx)
	r.Queries.add(round3(float64(after-before) / took.Seconds()))
	return err
}

// transactions is what the database has counted, which includes single statements.
func (b *idleBench) transactions(ctx context.Context) (n int64, err error) {
	err = b.admin.QueryRowContext(ctx, `SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1`, b.name).Scan(&n)
	return n, err
}

// wake writes one message, rings, and adds the milliseconds until a consumer
// has it to s (nil: nowhere).
func (b *idleBench) wake(ctx context.Context, ent *entities, s *Spread) error {
	from, err := b.broker.Ends(ctx, topicRelay)
	if err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	id := uuid.New()
	arrived := make(chan time.Time, 1)
	var g errgroup.Group
	g.Go(func() error {
		return b.broker.Follow(watching, map[string]check.Offsets{topicRelay: from}, func(r check.Record) {
			if r.EventID == id {
				arrived <- time.Now()
			}
		})
	})
	if err := pause(ctx, time.Second); err != nil { // for the consumer to be there
		return err
	}
	_, err = ent.db.ExecContext(ctx, `SELECT outbox_append($1, 'key', 'x'::text, event_id => $2)`, topicRelay, id.String())
	committed := time.Now()
	if err == nil {
		_, err = ent.db.ExecContext(ctx, `SELECT outbox_ring()`)
	}
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	select {
	case at := <-arrived:
		if s != nil {
			s.add(latency.Milliseconds(max(at.Sub(committed), 0)))
		}
	case <-wait.Done():
		return errors.Join(ctx.Err(), errors.New("the message did not arrive"))
	}
	stop()
	return g.Wait()
}
