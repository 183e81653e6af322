// Package demo shows the whole pipeline at work on servers of its own: the
// reference service writes notifications, the relay carries their events to
// Kafka, consumers keep Redis views and send some of the notifications through a
// gateway with faults, poison messages die and are replayed. Then readers that
// share no code with the pipeline check every promise.
package demo

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/notifier/codec"
	"github.com/millrace-go/millrace/cmd/millrace/internal/check"
	"github.com/millrace-go/millrace/cmd/millrace/internal/latency"
	"github.com/millrace-go/millrace/cmd/millrace/internal/progress"
	"github.com/millrace-go/millrace/cmd/millrace/internal/servers"
	migrations "github.com/millrace-go/millrace/sql"
)

// Config describes one demonstration.
type Config struct {
	For     time.Duration // how long to write
	Rate    int           // events a second
	Poison  int           // messages whose handling fails until it is repaired
	Servers servers.Config
	Log     *slog.Logger
}

// Validate reports everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	need := func(ok bool, text string) {
		if !ok {
			errs = append(errs, errors.New(text))
		}
	}
	need(c.For >= 100*time.Millisecond && c.For <= 24*time.Hour, "--for: must be 100ms to 24h")
	need(c.Rate >= 1 && c.Rate <= 100_000, "--rate: must be 1 to 100000")
	need(c.Poison >= 0 && c.Poison <= 10_000, "--poison: must be 0 to 10000")
	return errors.Join(errs...)
}

const (
	partitions = 4
	settle     = 60 * time.Second // longest wait for the pipeline to become quiet
	every      = 200 * time.Millisecond
)

// show is one demonstration under way.
type show struct {
	cfg    Config
	run    string // marks what belongs to this demonstration
	topic  string
	dead   string // its dead-letter topic
	db     *sql.DB
	set    *servers.Set
	broker *check.Broker
	pipe   *pipeline
	load   *load
	obs    *observer
	delay  latency.Recorder
	line   *progress.Line
	start  time.Time
}

// Run starts servers, runs the demonstration and returns its verdict. An error
// means that it could not be held; a broken promise is in the report. What it is
// doing goes to w.
func Run(ctx context.Context, cfg Config, w io.Writer) (*Report, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	line := progress.New(w)
	defer line.Done()
	line.Say("starting servers")
	set, err := servers.Start(ctx, cfg.Servers)
	defer stop(set)
	if err != nil {
		return nil, fmt.Errorf("start servers: %w", err)
	}
	line.Say("postgres  %s\nkafka     %s\nredis     %s", set.Names.Postgres, set.Names.Kafka, set.Names.Redis)
	s := &show{cfg: cfg, run: uuid.NewString()[:8], topic: codec.TopicNotification, set: set, line: line}
	if len(cfg.Servers.Kafka) > 0 {
		s.topic += ".demo-" + s.run // not among what others have there
	}
	s.dead = deadletter.Topic(s.topic)
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	defer s.close()
	return s.perform(ctx)
}

// open prepares schema, topics and the pipeline.
func (s *show) open(ctx context.Context) (err error) {
	if s.db, err = sql.Open("postgres", s.set.Postgres); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	s.db.SetMaxOpenConns(40)
	s.db.SetMaxIdleConns(40)
	for _, line := range migrations.Lines() {
		if _, err := migrations.Up(ctx, s.db, line); err != nil {
			return errors.Join(err, s.db.Close())
		}
	}
	if s.broker, err = check.NewBroker(s.set.Kafka); err != nil {
		return errors.Join(err, s.db.Close())
	}
	for _, t := range []string{s.topic, s.dead} {
		if err := s.set.CreateTopic(ctx, t, partitions); err != nil {
			s.close()
			return err
		}
	}
	s.load = newLoad(s)
	if s.pipe, err = newPipeline(s); err != nil {
		s.close()
	}
	return err
}

func (s *show) close() {
	s.broker.Close()
	_ = s.db.Close() // everything in it is thrown away
}

// perform writes, waits, repairs, replays, stops and judges.
func (s *show) perform(ctx context.Context) (*Report, error) {
	obs, err := newObserver(ctx, s)
	if err != nil {
		return nil, err
	}
	s.obs = obs
	s.start = time.Now()
	stopWatching := background(ctx, s.obs.follow)
	acting, abort := context.WithCancelCause(ctx)
	stopPipe := background(ctx, func(ctx context.Context) error {
		err := s.pipe.run(ctx)
		abort(err) // too late to matter after a clean stop
		return err
	})
	err = s.acts(acting)
	if stopped := stopPipe(); stopped != nil {
		err = fmt.Errorf("the pipeline did not stop cleanly: %w", stopped)
	}
	if err == nil {
		err = s.lastRecords(ctx)
	}
	if watched := stopWatching(); err == nil {
		err = watched
	}
	if err != nil {
		return nil, err
	}
	s.line.Done()
	return s.judge(ctx)
}

// background runs work until stop is called, which returns work's error.
func background(ctx context.Context, work func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- work(ctx) }()
	return func() error {
		cancel()
		return <-ended
	}
}

// acts are the three acts between start and stop of the pipeline.
func (s *show) acts(ctx context.Context) error {
	s.line.Say("writing %d events a second for %s, among them %d poison messages and some rollbacks", s.cfg.Rate, s.cfg.For, s.cfg.Poison)
	if err := s.watch(ctx, s.load.write, nil); err != nil {
		return err
	}
	if err := s.watch(ctx, nil, func() bool { return s.obs.caughtUp(ctx, s.load.planted()) }); err != nil {
		return err
	}
	if n := s.load.planted(); n > 0 {
		s.line.Say("%d poison messages became dead letters; repairing their handler and replaying them", s.obs.deadLetters())
		s.pipe.poison.repair()
		if err := s.replay(ctx); err != nil {
			return err
		}
		return s.watch(ctx, nil, func() bool { return s.obs.replayed() >= n && s.obs.handled(ctx) })
	}
	return nil
}

// watch shows progress while work runs, or until done is true or the pipeline
// had long enough: what is missing then is for the verdict to say.
func (s *show) watch(ctx context.Context, work func(context.Context) error, done func() bool) error {
	finished := make(chan error, 1)
	limit := settle
	if work != nil {
		limit = s.cfg.For + settle
		go func() { finished <- work(ctx) }()
	}
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case err := <-finished:
			return err
		case <-ctx.Done():
			if work != nil {
				<-finished //nolint:errcheck // that the time is up comes first
			}
			return ctx.Err()
		case <-deadline.C:
			return nil
		case <-tick.C:
			s.progress()
			if done != nil && done() {
				return nil
			}
		}
	}
}

func (s *show) progress() {
	written, seen := s.load.committed.Load(), int64(s.obs.tally.Seen())
	s.line.Show("%5.1fs  written %d (%.0f/s)  relayed %d  lag %d  p50 %s  p99 %s  dead letters %d  replayed %d",
		time.Since(s.start).Seconds(), written, float64(written)/min(time.Since(s.start), s.cfg.For).Seconds(), seen, max(written-seen, 0),
		s.delay.Quantile(0.5).Round(10*time.Microsecond), s.delay.Quantile(0.99).Round(10*time.Microsecond),
		s.obs.deadLetters(), s.obs.replayed())
}

// stop ends the servers even if the run was interrupted.
func stop(set *servers.Set) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = set.Stop(ctx) // the data are thrown away in any case
}
