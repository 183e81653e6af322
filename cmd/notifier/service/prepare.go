package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox"
	migrations "github.com/millrace-go/millrace/sql"
)

const (
	tryTimeout = 10 * time.Second // for one attempt to reach a server
	longestGap = 5 * time.Second  // between attempts
)

// prepare brings database and topic into the form that the work needs. It waits
// for servers that are away and returns an error only for what waiting cannot
// fix; nil if ctx ended.
func (s *service) prepare(ctx context.Context) error {
	for _, step := range []func(context.Context) error{s.reachPostgres, s.checkDatabase, s.ensureTopic} {
		if err := s.until(ctx, step); err != nil || ctx.Err() != nil {
			return err
		}
	}
	s.waiting.Store(nil)
	return nil
}

// final is an error that waiting cannot fix.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// until repeats step until it succeeds or is final, or ctx ends.
func (s *service) until(ctx context.Context, step func(context.Context) error) error {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, longestGap) {
		try, cancel := context.WithTimeout(ctx, tryTimeout)
		err := step(try)
		cancel()
		if err == nil || ctx.Err() != nil {
			return nil
		}
		if f, ok := errors.AsType[final](err); ok {
			return f.error
		}
		waiting := fmt.Errorf("waiting: %w", err)
		s.waiting.Store(&waiting)
		s.log.WarnContext(ctx, "waiting for a server", "error", err, "again_in", pause.String())
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (s *service) reachPostgres(ctx context.Context) error {
	if err := s.db.PingContext(ctx); err != nil {
		return fmt.Errorf("%s does not answer: %w: start it, or correct the address", s.cfg.postgresAddr(), err)
	}
	if !s.cfg.Migrate {
		return nil
	}
	for _, line := range migrations.Lines() {
		applied, err := migrations.Up(ctx, s.db, line)
		if err != nil {
			return fmt.Errorf("%s: %w", s.cfg.postgresAddr(), err)
		}
		for _, m := range applied {
			s.log.InfoContext(ctx, "migration applied", "line", m.Line, "version", m.Version, "name", m.Name)
		}
	}
	return nil
}

// checkDatabase refuses a database that the service would fail on later.
func (s *service) checkDatabase(ctx context.Context) error {
	if err := s.store.Check(ctx); errors.Is(err, outbox.ErrUnsafeLog) {
		return final{fmt.Errorf("%s: %w", s.cfg.postgresAddr(), err)}
	} else if err != nil {
		return fmt.Errorf("%s: %w", s.cfg.postgresAddr(), err)
	}
	states, err := migrations.Status(ctx, s.db, migrations.Service)
	if err != nil {
		return fmt.Errorf("%s: %w", s.cfg.postgresAddr(), err)
	}
	for _, m := range states {
		if !m.Applied {
			return final{fmt.Errorf("%s: migration %s of the %s line is not applied: start with --migrate, or run millrace migrate up --line all",
				s.cfg.postgresAddr(), m.Name, m.Line)}
		}
	}
	if err := s.store.Prepare(ctx); err != nil {
		return fmt.Errorf("%s: %w", s.cfg.postgresAddr(), err)
	}
	return nil
}

func (s *service) ensureTopic(ctx context.Context) error {
	if s.cfg.Partitions < 0 {
		return nil
	}
	partitions := int32(s.cfg.Partitions) //nolint:gosec // validated: at most 10000
	err := s.admin.EnsureTopics(ctx, kafka.Topic{Name: s.cfg.Topic, Partitions: partitions},
		kafka.Topic{Name: s.cfg.AccountTopic, Partitions: partitions})
	switch {
	case errors.Is(err, kafka.ErrTopicDiffers):
		return final{err}
	case err != nil:
		return fmt.Errorf("%s: %w: start it, or correct the address", s.cfg.kafkaAddr(), err)
	}
	return nil
}
