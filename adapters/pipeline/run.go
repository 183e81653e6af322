package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/millrace-go/millrace/adapters/schedule"
	"github.com/millrace-go/millrace/outbox"
)

// Job adds a job that the scheduler runs at its times, once on however many nodes,
// under a lock in Postgres of its name. Add jobs before Run; what is wrong with them
// is an error of Run.
func (p *Pipeline) Job(j schedule.Job) {
	p.wire(func() error {
		p.jobs = append(p.jobs, j)
		return nil
	})
}

// errStarting is why a part is not ready before its first attempt has ended.
var errStarting = errors.New("starting")

// wire adds to groups and jobs, unless Run has begun.
func (p *Pipeline) wire(add func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started {
		p.cfg.Logger.Error("pipeline: a group, handler or job was added after Run began, and is ignored")
		return
	}
	if err := add(); err != nil {
		p.wiring = append(p.wiring, err)
	}
}

// Run runs everything until ctx ends. Servers and topics that are not there yet are
// waited for. At the stop consumers and jobs finish what they are at; then the relay
// publishes what is in flight and saves its cursor; then all is closed. It returns
// nil after such a stop.
//
// It returns an error at once, before any I/O, if groups or jobs are wrong, and
// later for what a person must fix: an outbox that is not safe to read, a topic
// with other partitions than asked for, a handler that hangs. Run can be called
// once: see ErrClosed.
func (p *Pipeline) Run(ctx context.Context) error {
	jobs, err := p.begin()
	if err != nil {
		return titled(err)
	}
	defer p.close()
	p.cfg.Logger.InfoContext(ctx, "pipeline starts", "relay", p.cfg.Relay.Name, "groups", len(p.groups), "jobs", len(p.jobs))
	base := context.WithoutCancel(ctx)
	consuming, stopConsuming := context.WithCancel(base)
	defer stopConsuming()
	carrying, stopCarrying := context.WithCancel(base)
	defer stopCarrying()
	consumers, consuming := errgroup.WithContext(consuming)
	carriers, carrying := errgroup.WithContext(carrying)

	database := make(chan struct{}) // closed when it is ready
	carriers.Go(func() error { return p.awaitDatabase(carrying, database) })
	p.carry(carrying, carriers, database)
	p.consume(consuming, consumers, database, jobs)

	select {
	case <-ctx.Done():
	case <-consuming.Done():
	case <-carrying.Done():
	}
	p.state.stop()
	p.cfg.Logger.InfoContext(ctx, "pipeline stops")
	stopConsuming()
	err = consumers.Wait() // they may append until then
	stopCarrying()
	err = errors.Join(err, carriers.Wait())
	if err != nil {
		return fmt.Errorf("pipeline: %w", err)
	}
	return nil
}

// begin ends the wiring and reports everything that is wrong with it.
func (p *Pipeline) begin() (*schedule.Scheduler, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started {
		return nil, ErrClosed
	}
	p.started = true
	p.state.waits("postgres", errStarting)
	if p.needsTopics() {
		p.state.waits("kafka", errStarting)
	}
	errs := slices.Clone(p.wiring)
	for _, g := range p.groups {
		if len(g.topics) == 0 {
			errs = append(errs, fmt.Errorf("Group %q: must have a handler, has none", g.name))
		}
	}
	if p.handlers > 0 {
		errs = append(errs, p.parts.Router.Validate())
	}
	history, err := schedule.NewPostgresHistory(p.db)
	errs = append(errs, err)
	p.cfg.Jobs.Hooks = p.jobHooks()
	jobs, err := schedule.NewScheduler(p.parts.Locker, history, p.jobs, p.cfg.Jobs)
	return jobs, errors.Join(append(errs, under("Jobs", err))...)
}

// carry runs what brings messages from the outbox to Kafka, and what serves the
// handlers.
func (p *Pipeline) carry(ctx context.Context, g *errgroup.Group, database <-chan struct{}) {
	after := func(run func(context.Context) error) { g.Go(func() error { return runAfter(ctx, database, run) }) }
	after(p.parts.Relay.Run)
	after(p.parts.Notifier.Run)
	after(p.watchLag)
	if p.parts.Listener != nil {
		after(p.listen)
	}
	if p.parts.Cache != nil {
		g.Go(func() error { return p.parts.Cache.Run(ctx) })
	}
	for _, group := range p.groups {
		if group.inbox != nil {
			after(group.inbox.Run)
		}
	}
}

// consume runs the handlers and the jobs.
func (p *Pipeline) consume(ctx context.Context, g *errgroup.Group, database <-chan struct{}, jobs *schedule.Scheduler) {
	if len(p.jobs) > 0 {
		g.Go(func() error { return runAfter(ctx, database, jobs.Run) })
	}
	g.Go(func() error {
		topics, err := p.awaitTopics(ctx)
		if err != nil || !topics || len(p.groups) == 0 {
			return err
		}
		return runAfter(ctx, database, p.parts.Router.Run)
	})
}

// runAfter runs a part once ready is closed, unless ctx ends before.
func runAfter(ctx context.Context, ready <-chan struct{}, run func(context.Context) error) error {
	select {
	case <-ctx.Done():
		return nil
	case <-ready:
		return run(ctx)
	}
}

func (p *Pipeline) watchLag(ctx context.Context) error {
	p.count.relay.Follow(p.parts.Relay.Status)
	p.count.relay.WatchLag(ctx, func(ctx context.Context) (outbox.Lag, error) {
		return p.parts.Store.LagOf(ctx, p.cfg.Relay.Name)
	}, 0)
	return nil
}

// listen keeps the relay listening. Without it the relay polls, so an error of it
// does not end the pipeline.
func (p *Pipeline) listen(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := p.parts.Listener.Run(ctx, p.parts.Relay.Wake); err != nil && ctx.Err() == nil {
			p.cfg.Logger.WarnContext(ctx, "listener stopped; the relay polls", "error", err, "again_in", longestPause.String())
			pause(ctx, longestPause)
		}
	}
	return nil
}

// close frees what New made, in the order of use.
func (p *Pipeline) close() {
	p.closePart("publisher", p.parts.Publisher.Close)
	p.closePart("dead-letter publisher", p.dead.Close)
	p.closePart("kafka admin", p.admin.Close)
	for _, g := range p.groups {
		if g.inbox != nil {
			p.closePart("inbox of "+g.name, g.inbox.Close)
		}
	}
	if p.parts.Cache != nil {
		p.closePart("cache", p.parts.Cache.Close)
	}
	p.closePart("store", p.parts.Store.Close)
}

func (p *Pipeline) closePart(name string, closing func() error) {
	if err := closing(); err != nil {
		p.cfg.Logger.Warn("close", "part", name, "error", err)
	}
}
