package service

import (
	"context"
	"database/sql"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/inbox"
	"github.com/millrace-go/millrace/adapters/notifier/postgres"
	"github.com/millrace-go/millrace/domain"
)

// consumeAudit wires the group that writes each event down. It shares nothing
// with the others but the topic: when it fails, they go on.
func (s *service) consumeAudit() error {
	sub, err := s.subscriber(s.cfg.AuditGroup)
	if err != nil {
		return err
	}
	done, err := s.inbox(s.cfg.AuditGroup)
	if err != nil {
		return err
	}
	write := inbox.Typed(s.decode, func(ctx context.Context, tx *sql.Tx, r domain.Recorded) error {
		return postgres.Audit(ctx, tx, r)
	})
	s.router.HandleBatch("audit", s.cfg.Topic, sub, done.Batch(write), consumer.WithGroup(s.cfg.AuditGroup))
	return nil
}
