package cli

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/audit"
	"github.com/millrace-go/millrace/adapters/consumer/quarantine"
	"github.com/millrace-go/millrace/adapters/kafka"
)

// desk is what the dlt commands work with.
type desk struct {
	letters *kafka.DeadLetters
	db      *sql.DB     // nil without a database
	book    *audit.Book // nil without a database
}

// openDesk reaches the servers. Without a Postgres address it has no database, and
// then, or with unrecorded, no book.
func (c *call) openDesk(ctx context.Context, unrecorded bool) (d *desk, err error) {
	adm, _, err := reachKafka(ctx, c.cfg.Kafka)
	if err != nil {
		return nil, err
	}
	adm.Close()
	d = &desk{}
	if d.letters, err = kafka.NewDeadLetters(kafka.Config{Brokers: c.cfg.Kafka, ClientID: "millrace-dlt"}); err != nil {
		return nil, err
	}
	switch {
	case c.cfg.Postgres == "":
	case unrecorded:
		d.db, err = reachPostgres(ctx, c.cfg.Postgres)
	default:
		err = d.openBook(ctx, c.cfg.Postgres)
	}
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *desk) openBook(ctx context.Context, dsn string) (err error) {
	if d.db, err = reachPostgres(ctx, dsn); err != nil {
		return err
	}
	if d.book, err = audit.New(d.db, audit.Config{}); err != nil {
		return err
	}
	return d.book.Check(ctx)
}

func (d *desk) close() error {
	var errs []error
	if d.letters != nil {
		errs = append(errs, d.letters.Close())
	}
	if d.db != nil {
		errs = append(errs, d.db.Close())
	}
	return errors.Join(errs...)
}

// equip gives cfg the reader, the book and the quarantine.
func (d *desk) equip(ctx context.Context, cfg *consumer.ReplayConfig) error {
	cfg.Reader = d.letters
	if d.db == nil {
		return nil
	}
	if d.book != nil {
		cfg.Book = d.book
	}
	store, err := quarantine.NewStore(d.db)
	if err != nil {
		return err
	}
	installed, err := store.Installed(ctx)
	if err != nil {
		return err
	}
	if installed {
		cfg.Quarantine = store
	}
	return nil
}

// explain adds to the error of a topic that is not there what other dead-letter
// topics of the source there are.
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
