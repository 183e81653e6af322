package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
	"github.com/millrace-go/millrace/outbox/pgstore"
)

// dropReport is what partitions drop --json prints.
type dropReport struct {
	DryRun  bool     `json:"dry_run"`
	Dropped []string `json:"dropped"` // or to be dropped, in a dry run
	InUse   bool     `json:"in_use"`  // gave up for an open transaction
}

var partitionsUse = config.Use{Required: []config.Name{config.Postgres}, Optional: []config.Name{config.Retention}}

func (a *app) partitions() *cobra.Command {
	var asJSON bool
	cmd := a.command(spec{
		use: "partitions", short: "List, make, drop and index the log's partitions",
		long: `Lists the partitions of the log and what keeps each of them. A running relay
makes partitions ahead and drops those that every relay has delivered, that hold
no parked message and whose newest row is older than its --retention; the
commands below do the same by hand.`,
		example: `  millrace partitions --postgres postgres://app@localhost/app
  millrace partitions --retention 24h --json`,
		settings: partitionsUse,
		flags:    func(f *pflag.FlagSet) { f.BoolVar(&asJSON, "json", false, "print one JSON array") },
		run: func(ctx context.Context, c *call, _ []string) error {
			return c.withStore(ctx, func(store *pgstore.Store) error {
				all, err := store.Partitions(ctx)
				if err != nil {
					return err
				}
				return c.printPartitions(all, asJSON)
			})
		},
	})
	cmd.AddCommand(a.partitionsMake(), a.partitionsDrop(), a.partitionsIndex())
	return cmd
}

func (a *app) partitionsMake() *cobra.Command {
	return a.command(spec{
		use: "make", short: "Make partitions ahead of need",
		example:  "  millrace partitions make",
		settings: config.Use{Required: []config.Name{config.Postgres}},
		run: func(ctx context.Context, c *call, _ []string) error {
			return c.withStore(ctx, func(store *pgstore.Store) error {
				made, err := store.MakePartitions(ctx)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(c.Out, "made %d partitions\n", made)
				return err
			})
		},
	})
}

func (a *app) partitionsDrop() *cobra.Command {
	var asJSON, yes bool
	return a.command(spec{
		use: "drop", short: "Drop what is delivered and past the retention",
		long: `Drops the partitions that every relay has delivered, that hold no parked message
and whose newest row is older than --retention. Without --yes it only says which.
Writers are kept waiting for 50 ms at most: if a transaction uses the log for
longer, the command gives up and can be called again.`,
		example: `  millrace partitions drop --retention 24h
  millrace partitions drop --retention 24h --yes`,
		settings: partitionsUse,
		flags: func(f *pflag.FlagSet) {
			f.BoolVar(&yes, "yes", false, "do it")
			f.BoolVar(&asJSON, "json", false, "print one JSON object")
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			if c.cfg.Retention == pgstore.Forever {
				return usageError{errors.New("--retention: is forever: nothing is ever dropped")}
			}
			return c.withStore(ctx, func(store *pgstore.Store) error { return c.dropPartitions(ctx, store, yes, asJSON) })
		},
	})
}

func (c *call) dropPartitions(ctx context.Context, store *pgstore.Store, yes, asJSON bool) error {
	r := dropReport{DryRun: !yes, Dropped: []string{}}
	var err error
	if yes {
		var names []string
		names, err = store.DropPartitions(ctx, c.cfg.Retention)
		r.Dropped, r.InUse = append(r.Dropped, names...), errors.Is(err, pgstore.ErrInUse)
	} else {
		var would []pgstore.Partition
		would, err = store.Droppable(ctx, c.cfg.Retention)
		for _, p := range would {
			r.Dropped = append(r.Dropped, p.Name)
		}
	}
	if asJSON && (err == nil || r.InUse) {
		return errors.Join(printJSON(c.Out, r), err)
	}
	verb := "dropped"
	if r.DryRun {
		verb = "would drop"
	}
	if len(r.Dropped) == 0 {
		fmt.Fprintln(c.Out, verb, "nothing")
		return err
	}
	fmt.Fprintf(c.Out, "%s %s\n", verb, strings.Join(r.Dropped, " "))
	if r.DryRun {
		fmt.Fprintln(c.Err, "nothing was dropped: give --yes to do it")
	}
	return err
}

func (a *app) partitionsIndex() *cobra.Command {
	return a.command(spec{
		use: "index", short: "Make the indexes for history by aggregate and key",
		long: `Makes the indexes by aggregate and by key on all partitions, and on those to come.
They make reading and replaying one aggregate or key fast, and each insert
dearer. Writers go on meanwhile; open transactions are waited for. It needs the
owner of the tables, and goes on where it stopped when it is called again.`,
		example:  "  millrace partitions index",
		settings: config.Use{Required: []config.Name{config.Postgres}},
		run: func(ctx context.Context, c *call, _ []string) error {
			return c.withStore(ctx, func(store *pgstore.Store) error {
				n := 0
				err := store.EnableHistory(ctx, func(statement string) {
					n++
					fmt.Fprintln(c.Err, statement)
				})
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(c.Out, "the history has its indexes (%d statements)\n", n)
				return err
			})
		},
	})
}

// withStore opens the outbox of the configured database.
func (c *call) withStore(ctx context.Context, do func(*pgstore.Store) error) error {
	db, err := reachPostgres(ctx, c.cfg.Postgres)
	if err != nil {
		return err
	}
	defer db.Close()
	store, err := pgstore.New(db, pgstore.Config{Retention: c.cfg.Retention})
	if err != nil {
		return err
	}
	if err := store.Check(ctx); err != nil {
		return err
	}
	return do(store)
}

func (c *call) printPartitions(all []pgstore.Partition, asJSON bool) error {
	if asJSON {
		return printJSON(c.Out, all)
	}
	rows := [][]string{{"PARTITION", "FROM", "TO", "ROWS", "MIB", "NEWEST", "KEPT BECAUSE"}}
	for _, p := range all {
		newest, why := "-", p.Why
		if !p.Newest.IsZero() {
			newest = p.Newest.UTC().Format(time.RFC3339)
		}
		if p.Droppable {
			why = "(droppable)"
		}
		rows = append(rows, []string{p.Name, count(p.From), count(p.To), count(p.Rows), fmt.Sprintf("%.1f", float64(p.Bytes)/(1<<20)), newest, why})
	}
	return printTable(c.Out, rows)
}
