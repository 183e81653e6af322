package cli

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/lib/pq"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/adapters/watermillsql"
	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
	"github.com/millrace-go/millrace/cmd/millrace/internal/progress"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
)

type importFlags struct {
	topic, table, offsets, group, key  string
	plain, fromStart, follow, end, yes bool
	asJSON                             bool
	batch                              int
}

// importReport is what import-watermill --json prints.
type importReport struct {
	DryRun   bool     `json:"dry_run"`
	Ready    int64    `json:"ready"`   // in a dry run: rows that would be moved
	Waiting  int64    `json:"waiting"` // rows behind a transaction that still runs
	Refused  []string `json:"refused"` // in a dry run: rows that the outbox cannot take
	Moved    int64    `json:"moved"`
	Batches  int64    `json:"batches"`
	Switched bool     `json:"switched"`
}

func (a *app) importWatermill() *cobra.Command {
	var f importFlags
	return a.command(spec{
		use: "import-watermill", short: "Move unsent messages of a watermill-sql forwarder to the outbox",
		long: `Moves the rows of a watermill-sql table that its forwarder has not acknowledged to
the outbox of the same database, out of their envelopes and in order per key. Each
batch moves the rows and the forwarder's offset in one transaction. Without --yes
it is a dry run: it checks each row and changes nothing.

--follow goes on until it is interrupted. --switch moves the rest and ends the
table: from that instant publishers with watermillsql.NewSwitchSchema write to the
outbox, and other inserts into the table are refused. The guide is
docs/moving-from-watermill-sql.md.`,
		example: `  millrace import-watermill --topic forwarder_topic
  millrace import-watermill --topic forwarder_topic --key partition_key --follow --yes
  millrace import-watermill --topic forwarder_topic --key partition_key --switch --yes`,
		settings: config.Use{Required: []config.Name{config.Postgres}},
		flags:    f.add,
		run:      func(ctx context.Context, c *call, _ []string) error { return c.importWatermill(ctx, f) },
	})
}

func (f *importFlags) add(s *pflag.FlagSet) {
	s.StringVar(&f.topic, "topic", "", "the forwarder's topic (required)")
	s.StringVar(&f.table, "table", "", "messages table (default watermill_TOPIC)")
	s.StringVar(&f.offsets, "offsets-table", "", "offsets table (default watermill_offsets_TOPIC)")
	s.StringVar(&f.group, "group", "", "consumer group of the forwarder's subscriber (default the empty one)")
	s.BoolVar(&f.fromStart, "from-start", false, "move all rows if the group has never read the table")
	s.StringVar(&f.key, "key", outbox.MetadataKey, "metadata with the key; :uuid for no order, :topic for one order a topic")
	s.BoolVar(&f.plain, "plain", false, "the rows are messages for --topic, in no envelope")
	s.IntVar(&f.batch, "batch", 1000, "rows a transaction")
	s.BoolVar(&f.follow, "follow", false, "go on until interrupted")
	s.BoolVar(&f.end, "switch", false, "move the rest and end the table")
	s.BoolVar(&f.yes, "yes", false, "do it")
	s.BoolVar(&f.asJSON, "json", false, "print one JSON object")
}

// importer is the import that the flags ask for.
func (f *importFlags) importer(db *sql.DB, progress func(watermillsql.ImportResult)) (*watermillsql.Importer, error) {
	cfg := watermillsql.ImportConfig{
		ConsumerGroup: f.group, FromStart: f.fromStart, BatchSize: f.batch, Key: keyNamed(f.key), Progress: progress,
	}
	if f.table != "" {
		cfg.Schema.GenerateMessagesTableName = func(string) string { return quoteTable(f.table) }
	}
	if f.offsets != "" {
		cfg.Offsets = wsql.DefaultPostgreSQLOffsetsAdapter{GenerateMessagesOffsetsTableName: func(string) string { return quoteTable(f.offsets) }}
	}
	if f.plain {
		cfg.Unwrap = watermillsql.Plain
	}
	store, err := pgstore.New(db, pgstore.Config{})
	if err != nil {
		return nil, err
	}
	writer, err := outbox.NewWriter(store, outbox.WriterConfig{})
	if err != nil {
		return nil, err
	}
	i, err := watermillsql.NewImporter(db, f.topic, writer, cfg)
	if err != nil {
		return nil, usageError{err}
	}
	return i, nil
}

// check refuses flags that contradict each other.
func (f *importFlags) check() error {
	var errs []error
	if f.topic == "" {
		errs = append(errs, errors.New("--topic: is missing: give the forwarder's topic"))
	}
	if f.batch < 1 {
		errs = append(errs, errors.New("--batch: must be positive"))
	}
	if f.follow && f.end {
		errs = append(errs, errors.New("--follow and --switch: give one of them"))
	}
	if (f.follow || f.end) && !f.yes {
		errs = append(errs, errors.New("--follow and --switch change the database: give --yes, or neither for a dry run"))
	}
	if err := errors.Join(errs...); err != nil {
		return usageError{err}
	}
	return nil
}

func keyNamed(name string) outbox.KeyFunc {
	switch name {
	case ":uuid":
		return func(_ string, m *message.Message) (string, error) { return m.UUID, nil }
	case ":topic":
		return func(topic string, _ *message.Message) (string, error) { return topic, nil }
	}
	return watermillsql.KeyFrom(name)
}

// quoteTable quotes a table's name, with or without its schema.
func quoteTable(name string) string {
	if schema, table, ok := strings.Cut(name, "."); ok {
		return pq.QuoteIdentifier(schema) + "." + pq.QuoteIdentifier(table)
	}
	return pq.QuoteIdentifier(name)
}

func (c *call) importWatermill(ctx context.Context, f importFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	db, err := reachPostgres(ctx, c.cfg.Postgres)
	if err != nil {
		return err
	}
	defer db.Close()
	line := progress.New(c.Err)
	defer line.Done()
	r := importReport{Refused: []string{}}
	i, err := f.importer(db, func(done watermillsql.ImportResult) {
		r.Moved, r.Batches = done.Moved, done.Batches
		line.Show("%d messages moved", done.Moved)
	})
	if err != nil {
		return err
	}
	if !f.yes {
		return c.lookWatermill(ctx, i, r, f.asJSON)
	}
	if err := c.moveWatermill(ctx, i, f); err != nil {
		return advise(err)
	}
	look, err := i.Preview(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	line.Done()
	r.Ready, r.Waiting, r.Switched = look.Ready, look.Waiting, look.Switched
	if f.asJSON {
		return printJSON(c.Out, r)
	}
	_, err = fmt.Fprintf(c.Out, "moved %d messages in %d batches; %d left, %d wait for a transaction that still runs\n", r.Moved, r.Batches, r.Ready, r.Waiting)
	if r.Switched {
		fmt.Fprintln(c.Out, "the table has ended: writers use the outbox")
	}
	return err
}

func (c *call) moveWatermill(ctx context.Context, i *watermillsql.Importer, f importFlags) (err error) {
	switch {
	case f.follow:
		c.log.Info("following", "topic", f.topic, "group", f.group)
		return i.Run(ctx)
	case f.end:
		_, err = i.Switch(ctx)
	default:
		_, err = i.Once(ctx)
	}
	return err
}

// lookWatermill is the dry run. Rows that cannot be moved make it end with 3.
func (c *call) lookWatermill(ctx context.Context, i *watermillsql.Importer, r importReport, asJSON bool) error {
	look, err := i.Preview(ctx)
	if err != nil {
		return advise(err)
	}
	r.DryRun, r.Ready, r.Waiting, r.Switched = true, look.Ready, look.Waiting, look.Switched
	for _, row := range look.Refused {
		r.Refused = append(r.Refused, row.Error())
	}
	if asJSON {
		err = printJSON(c.Out, r)
	} else {
		_, err = fmt.Fprintf(c.Out, "would move %d messages; %d wait for a transaction that still runs\n", r.Ready, r.Waiting)
		for _, row := range r.Refused {
			fmt.Fprintln(c.Out, "cannot move", row)
		}
		if len(r.Refused) == 0 && r.Ready > 0 {
			fmt.Fprintln(c.Err, "nothing was changed: give --yes to do it")
		}
	}
	if err == nil && len(r.Refused) > 0 {
		return unhealthyError{"some rows cannot be moved as they are: give another --key, or correct them in the table"}
	}
	return err
}

// advise adds to an error of the import what to do about it.
func advise(err error) error {
	var row *watermillsql.RowError
	switch {
	case errors.Is(err, watermillsql.ErrNoStockTable):
		return fmt.Errorf("%w: check the database and --topic, or give --table and --offsets-table", err)
	case errors.Is(err, watermillsql.ErrUnknownGroup):
		return fmt.Errorf("%w: check --group; if the table was never read, give --from-start to move all of it", err)
	case errors.Is(err, watermillsql.ErrBusy):
		return fmt.Errorf("%w: nothing has changed: end it, or try again", err)
	case errors.As(err, &row):
		return fmt.Errorf("%w: see all such rows without --yes; then give another --key, or correct them in the table", err)
	}
	return err
}
