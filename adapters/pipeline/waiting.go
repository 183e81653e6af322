package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/adapters/internal/backoff"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox"
	migrations "github.com/millrace-go/millrace/sql"
)

const (
	attemptTimeout = 10 * time.Second // for one attempt to reach a server
	firstPause     = 100 * time.Millisecond
	longestPause   = 5 * time.Second // between attempts
)

// final is an error that waiting does not cure.
type final struct{ error }

// Unwrap returns the error.
func (f final) Unwrap() error { return f.error }

// await repeats step until it succeeds, and reports true then. It reports false if
// ctx ended before, and returns only errors that are final. Meanwhile /readyz names
// the part and the cause.
func (p *Pipeline) await(ctx context.Context, part string, step func(context.Context) error) (bool, error) {
	pauses := backoff.Doubling{First: firstPause, Max: longestPause}
	for failures := 1; ; failures++ {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		err := step(attempt)
		cancel()
		if ctx.Err() != nil {
			return false, nil
		}
		if err == nil {
			if failures > 1 {
				p.cfg.Logger.InfoContext(ctx, "waiting is over", "part", part)
			}
			p.state.waits(part, nil)
			return true, nil
		}
		if f, ok := errors.AsType[final](err); ok {
			return false, fmt.Errorf("%s: %w", part, f.error)
		}
		again := pauses.After(failures)
		p.cfg.Logger.WarnContext(ctx, "waiting", "part", part, "error", err, "again_in", again.String())
		p.state.waits(part, err)
		pause(ctx, again)
	}
}

func pause(ctx context.Context, d time.Duration) { _ = backoff.Sleep(ctx, d) }

// awaitDatabase closes ready once the outbox can be read.
func (p *Pipeline) awaitDatabase(ctx context.Context, ready chan<- struct{}) error {
	ok, err := p.await(ctx, "postgres", p.prepareDatabase)
	if ok {
		close(ready)
	}
	return err
}

func (p *Pipeline) prepareDatabase(ctx context.Context) error {
	if err := p.db.PingContext(ctx); err != nil {
		return err
	}
	if p.cfg.Migrate {
		applied, err := migrations.Up(ctx, p.db, migrations.Outbox)
		if err != nil {
			return err
		}
		for _, m := range applied {
			p.cfg.Logger.InfoContext(ctx, "migration applied", "line", m.Line, "version", m.Version, "name", m.Name)
		}
	}
	if err := p.parts.Store.Check(ctx); errors.Is(err, outbox.ErrUnsafeLog) {
		return final{err}
	} else if err != nil {
		return err
	}
	return p.prepareStatements(ctx)
}

func (p *Pipeline) prepareStatements(ctx context.Context) error {
	if p.cfg.NoPrepare {
		return nil
	}
	if err := p.parts.Store.Prepare(ctx); err != nil {
		return err
	}
	for _, g := range p.groups {
		if g.inbox != nil {
			if err := g.inbox.Prepare(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// awaitTopics makes the topics that are to be made, and waits for those that are
// consumed. It reports false if ctx ended before.
func (p *Pipeline) awaitTopics(ctx context.Context) (bool, error) {
	if !p.needsTopics() {
		return true, nil
	}
	return p.await(ctx, "kafka", func(ctx context.Context) error {
		if len(p.cfg.Topics) > 0 {
			if err := p.admin.EnsureTopics(ctx, p.cfg.Topics...); errors.Is(err, kafka.ErrTopicDiffers) {
				return final{err}
			} else if err != nil {
				return err
			}
		}
		return p.findTopics(ctx)
	})
}

func (p *Pipeline) needsTopics() bool { return len(p.cfg.Topics) > 0 || len(p.groups) > 0 }

// findTopics names every consumed topic that is not there, or whose dead letters
// would have no place.
func (p *Pipeline) findTopics(ctx context.Context) error {
	var names []string
	for _, g := range p.groups {
		for _, topic := range g.topics {
			names = append(names, topic, g.deadLetters(topic))
		}
	}
	if len(names) == 0 {
		return nil
	}
	found, err := p.admin.Describe(ctx, names...)
	if err != nil {
		return err
	}
	missing := map[string]bool{}
	var errs []error
	for i, name := range names {
		info, ok := found[name]
		switch {
		case !ok && !missing[name]:
			missing[name] = true
			errs = append(errs, fmt.Errorf("topic %s does not exist: make it, or name it in Config.Topics", name))
		case ok && i%2 == 1 && info.Partitions < found[names[i-1]].Partitions:
			errs = append(errs, fmt.Errorf("topic %s has %d partitions, fewer than the %d of %s", name, info.Partitions, found[names[i-1]].Partitions, names[i-1]))
		}
	}
	return errors.Join(errs...)
}
