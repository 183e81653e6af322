package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
	"github.com/millrace-go/millrace/cmd/millrace/internal/doctor"
)

// doctorReport is what doctor --json prints.
type doctorReport struct {
	Status doctor.Status  `json:"status"`
	Checks []doctor.Check `json:"checks"`
}

func (a *app) doctor() *cobra.Command {
	var asJSON bool
	return a.command(spec{
		use: "doctor", short: "Check Postgres, Kafka and Redis, and say what to correct",
		long: `Looks at the servers of a pipeline and changes nothing. Each check is ok, warn
or fail, with what to do. The exit code is 3 if any check fails.`,
		example: `  millrace doctor --postgres postgres://app@localhost/app --kafka localhost:9092
  millrace doctor --json`,
		settings: config.Use{
			Required: []config.Name{config.Postgres},
			Optional: []config.Name{config.ListenPostgres, config.Kafka, config.Redis, config.Topics},
		},
		flags: func(f *pflag.FlagSet) { f.BoolVar(&asJSON, "json", false, "print one JSON object") },
		run: func(ctx context.Context, c *call, _ []string) error {
			checks, err := c.examine(ctx)
			if err != nil {
				return err
			}
			if err := c.printChecks(checks, asJSON); err != nil {
				return err
			}
			if n := doctor.Failed(checks); n > 0 {
				return unhealthyError{fmt.Sprintf("%d of %d checks failed", n, len(checks))}
			}
			return nil
		},
	})
}

func (c *call) examine(ctx context.Context) ([]doctor.Check, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	db, err := openPostgres(c.cfg.Postgres)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	within := func(look func(context.Context) []doctor.Check) []doctor.Check {
		ctx, cancel := context.WithTimeout(ctx, 2*dialTimeout)
		defer cancel()
		return look(ctx)
	}
	checks := within(func(ctx context.Context) []doctor.Check { return doctor.Postgres(ctx, db) })
	if doctor.Find(checks, "outbox guard") == doctor.OK {
		listen := cmp.Or(c.cfg.ListenPostgres, c.cfg.Postgres)
		checks = append(checks, within(func(ctx context.Context) []doctor.Check { return doctor.Listener(ctx, listen, db) })...)
	}
	if len(c.cfg.Kafka) == 0 {
		checks = append(checks, doctor.Skipped("kafka", "kafka")...)
	} else {
		topics := c.cfg.Topics
		if len(topics) == 0 {
			topics = doctor.Topics(ctx, db)
		}
		checks = append(checks, within(func(ctx context.Context) []doctor.Check { return doctor.Kafka(ctx, c.cfg.Kafka, topics) })...)
	}
	if c.cfg.Redis == "" {
		return append(checks, doctor.Skipped("redis", "redis")...), nil
	}
	return append(checks, within(func(ctx context.Context) []doctor.Check { return doctor.Redis(ctx, c.cfg.Redis) })...), nil
}

func (c *call) printChecks(checks []doctor.Check, asJSON bool) error {
	if asJSON {
		return printJSON(c.Out, doctorReport{Status: doctor.Worst(checks), Checks: checks})
	}
	rows := [][]string{{"STATUS", "CHECK", "SEEN"}}
	for _, k := range checks {
		rows = append(rows, []string{strings.ToUpper(string(k.Status)), k.Name, oneLine(k.Detail)})
		if k.Fix != "" {
			rows = append(rows, []string{"", "", "-> " + k.Fix})
		}
	}
	return printTable(c.Out, rows)
}

// oneLine keeps a message of many lines within its cell.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
