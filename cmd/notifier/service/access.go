package service

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/notifier/codec"
	"github.com/millrace-go/millrace/adapters/notifier/orm"
	"github.com/millrace-go/millrace/adapters/notifier/passwords"
	"github.com/millrace-go/millrace/adapters/notifier/postgres"
	"github.com/millrace-go/millrace/adapters/notifier/views"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
)

// The repositories that --repository chooses between.
const (
	repositorySQL = "sql"
	repositoryORM = "orm"
)

func (c Config) validateAccess() error {
	var errs []error
	if c.Repository != repositorySQL && c.Repository != repositoryORM {
		errs = append(errs, fmt.Errorf("repository: must be %s or %s, is %q", repositorySQL, repositoryORM, c.Repository))
	}
	if c.AccountTopic == c.Topic {
		errs = append(errs, fmt.Errorf("account topic: must not be the topic %s of the notifications", c.Topic))
	}
	if slices.Contains([]string{c.Group, c.Sending.Group, c.AuditGroup}, c.SessionGroup) {
		errs = append(errs, fmt.Errorf("session group: must not be another group, is %s", c.SessionGroup))
	}
	return errors.Join(errs...)
}

// topic is where the events go that the codec has for the topic of that name.
func (c Config) topic(name string) string {
	if name == codec.TopicAccount {
		return c.AccountTopic
	}
	return c.Topic
}

// repositories is the part of the unit of work's configuration that says whose
// repositories it gives its closures.
func (s *service) repositories() postgres.Config {
	if s.cfg.Repository != repositoryORM {
		return postgres.Config{}
	}
	o := orm.New(s.db)
	return postgres.Config{Notifications: o.Notifications, Accounts: o.Accounts, Sessions: o.Sessions}
}

// buildAccess wires accounts, sessions and reports, with what Redis keeps of them.
func (s *service) buildAccess() (err error) {
	reader := postgres.NewAccountReader(s.db)
	if s.sessions, err = views.NewSessions(s.cache, reader, views.SessionsConfig{}); err != nil {
		return err
	}
	hasher, err := passwords.New(passwords.Config{})
	if err != nil {
		return err
	}
	s.access, err = app.NewAccess(s.uow, reader, s.sessions, hasher, app.AccessConfig{
		SessionLife: s.cfg.SessionLife,
		CacheFailed: func(ctx context.Context, err error) {
			s.log.WarnContext(ctx, "the session was not written to redis; its event will correct it", "error", err)
		},
	})
	if err != nil {
		return err
	}
	statistics, err := views.NewStatistics(s.cache, postgres.NewStatistics(s.db), 0)
	if err != nil {
		return err
	}
	s.reports, err = app.NewReports(statistics)
	return err
}

// consumeAccounts wires the handler that tells Redis of sessions that were
// revoked, for the case that the one who revoked them could not. A Redis that is
// away is waited for, as by the views.
func (s *service) consumeAccounts() error {
	sub, err := s.subscriber(s.cfg.SessionGroup)
	if err != nil {
		return err
	}
	apply := func(ctx context.Context, r domain.Recorded) error { return s.sessions.Apply(ctx, r) }
	s.router.Handle("sessions", s.cfg.AccountTopic, sub, consumer.Typed(s.decode, apply), consumer.WithGroup(s.cfg.SessionGroup))
	return nil
}
