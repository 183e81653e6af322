package cli

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
	migrations "github.com/millrace-go/millrace/sql"
)

var migrateUse = config.Use{Required: []config.Name{config.Postgres}}

func (a *app) migrate() *cobra.Command {
	return group("migrate", "Create and update the schema", a.migrateUp(), a.migrateStatus())
}

func (a *app) migrateUp() *cobra.Command {
	var line string
	var asJSON bool
	return a.command(spec{
		use: "up", short: "Apply the pending migrations",
		long: `Applies the pending migrations, each in a transaction. Processes that start at
once wait for each other. The line "outbox" is what every user of the outbox
needs; "service" belongs to the reference service (cmd/notifier).`,
		example: `  millrace migrate up --postgres postgres://app@localhost/app
  millrace migrate up --line all --json`,
		settings: migrateUse,
		flags:    migrateFlags(&line, &asJSON),
		run: func(ctx context.Context, c *call, _ []string) error {
			return c.migrateEach(ctx, line, asJSON, migrations.Up)
		},
	})
}

func (a *app) migrateStatus() *cobra.Command {
	var line string
	var asJSON bool
	return a.command(spec{
		use: "status", short: "List the migrations and whether they are applied",
		example:  "  millrace migrate status --line all",
		settings: migrateUse,
		flags:    migrateFlags(&line, &asJSON),
		run: func(ctx context.Context, c *call, _ []string) error {
			return c.migrateEach(ctx, line, asJSON, migrations.Status)
		},
	})
}

func migrateFlags(line *string, asJSON *bool) flags {
	return func(f *pflag.FlagSet) {
		f.StringVar(line, "line", "outbox", "which schema: outbox, service or all")
		f.BoolVar(asJSON, "json", false, "print one JSON array")
	}
}

// migrateEach runs do on each line that was asked for and prints what it says,
// also what it had done before an error.
func (c *call) migrateEach(ctx context.Context, line string, asJSON bool,
	do func(context.Context, *sql.DB, migrations.Line) ([]migrations.Migration, error),
) error {
	lines, err := parseLine(line)
	if err != nil {
		return err
	}
	db, err := reachPostgres(ctx, c.cfg.Postgres)
	if err != nil {
		return err
	}
	defer db.Close()
	all := []migrations.Migration{}
	for _, l := range lines {
		var some []migrations.Migration
		if some, err = do(ctx, db, l); len(some) > 0 {
			all = append(all, some...)
		}
		if err != nil {
			break
		}
	}
	if printErr := c.printMigrations(all, asJSON); err == nil {
		err = printErr
	}
	return err
}

func (c *call) printMigrations(all []migrations.Migration, asJSON bool) error {
	if asJSON {
		return printJSON(c.Out, all)
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(c.Out, "nothing to apply")
		return err
	}
	rows := [][]string{{"LINE", "VERSION", "NAME", "APPLIED"}}
	for _, m := range all {
		rows = append(rows, []string{m.Line, strconv.FormatInt(m.Version, 10), m.Name, strconv.FormatBool(m.Applied)})
	}
	return printTable(c.Out, rows)
}

func parseLine(name string) ([]migrations.Line, error) {
	if name == "all" {
		return migrations.Lines(), nil
	}
	for _, l := range migrations.Lines() {
		if l.String() == name {
			return []migrations.Line{l}, nil
		}
	}
	return nil, usageError{fmt.Errorf("--line: is %q: give outbox, service or all", name)}
}
