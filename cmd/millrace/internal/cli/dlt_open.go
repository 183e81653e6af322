package cli

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter/audit"
	"github.com/millrace-go/millrace/adapters/consumer/quarantine"
	"github.com/millrace-go/millrace/adapters/kafka"
)

// deadLetters is what the dlt commands work with.
type deadLetters struct {
	reader *kafka.DeadLetters
	db     *sql.DB    // nil without a database
	audit  *audit.Log // nil without a database
}

// openDeadLetters connects to the servers. Without a Postgres address there is no
// database, and then, or with noAudit, no audit log.
func (c *call) openDeadLetters(ctx context.Context, noAudit bool) (d *deadLetters, err error) {
	adm, _, err := reachKafka(ctx, c.cfg.Kafka)
	if err != nil {
		return nil, err
	}
	adm.Close()
	d = &deadLetters{}
	if d.reader, err = kafka.NewDeadLetters(kafka.Config{Brokers: c.cfg.Kafka, ClientID: "millrace-dlt"}); err != nil {
		return nil, err
	}
	switch {
	case c.cfg.Postgres == "":
	case noAudit:
		d.db, err = reachPostgres(ctx, c.cfg.Postgres)
	default:
		err = d.openAudit(ctx, c.cfg.Postgres)
	}
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *deadLetters) openAudit(ctx context.Context, dsn string) (err error) {
	if d.db, err = reachPostgres(ctx, dsn); err != nil {
		return err
	}
	if d.audit, err = audit.New(d.db); err != nil {
		return err
	}
	return d.audit.Check(ctx)
}

func (d *deadLetters) close() error {
	var errs []error
	if d.reader != nil {
		errs = append(errs, d.reader.Close())
	}
	if d.db != nil {
		errs = append(errs, d.db.Close())
	}
	return errors.Join(errs...)
}

// configure gives cfg the audit log and the quarantine.
func (d *deadLetters) configure(cfg *deadletter.Config) error {
	if d.db == nil {
		return nil
	}
	if d.audit != nil {
		cfg.AuditLog = d.audit
	}
	q, err := quarantine.New(d.db, quarantine.Config{})
	if err != nil {
		return err
	}
	cfg.Quarantine = q
	return nil
}

// explain adds to the error of a topic that does not exist which other dead-letter
// topics the source has.
func (c *call) explain(ctx context.Context, d *dltFlags, err error) error {
	if !errors.Is(err, kafka.ErrNoTopic) || d.dltTopic != "" {
		return err
	}
	adm, adminErr := kafka.NewAdmin(kafka.Config{Brokers: c.cfg.Kafka, ClientID: "millrace-dlt"})
	if adminErr != nil {
		return err
	}
	defer adm.Close()
	found, adminErr := adm.Describe(ctx, d.topic+"-dlt", d.topic+".DLT")
	if adminErr != nil || len(found) == 0 {
		return err
	}
	for name := range found {
		return fmt.Errorf("%w: there is %s: give --dlt-topic %s", err, name, name)
	}
	return err
}
