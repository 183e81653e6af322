// Package cli is the millrace command line: its commands, their flags, output
// and exit codes. Data goes to standard output; logs, progress and errors go to
// standard error.
package cli

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
)

// Process is what a command has of its surroundings.
type Process struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
}

// Run executes the command that args name and returns the exit code. Cancelling
// ctx stops the command; with an Interrupted as its cause the code tells so.
func Run(ctx context.Context, args []string, p Process) int {
	a := newApp(p)
	root := a.root()
	root.SetArgs(args)
	root.SetIn(p.In)
	root.SetOut(p.Out)
	root.SetErr(p.Err)
	err := checkFlags(p, args)
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	switch cause := context.Cause(ctx); {
	case err == nil:
	case errors.Is(err, context.Canceled) && cause != nil:
		report(p.Err, cause)
	default:
		report(p.Err, err)
	}
	return exitCode(ctx, err)
}

// app builds the commands of one run.
type app struct {
	Process
	configPath string
	uses       map[*cobra.Command]config.Use
}

func newApp(p Process) *app { return &app{Process: p, uses: map[*cobra.Command]config.Use{}} }

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "millrace",
		Short: "A transactional outbox for Postgres and Kafka",
		Long: `millrace carries the messages that services write in their Postgres transactions
to Kafka: every committed one, in order per key, and nothing else.

Settings come from flags, else the environment, else the file of --config, else
defaults. Exit codes: 0 ok, 1 failure, 2 wrong usage or configuration,
3 unhealthy, 130 interrupted by SIGINT, 143 by SIGTERM.`,
		Example: `  millrace demo
  millrace migrate up --postgres postgres://app@localhost/app
  millrace relay --postgres postgres://app@localhost/app --kafka localhost:9092`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noMore,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Annotations:   map[string]string{onlyHolds: "true"},
	}
	root.PersistentFlags().StringVar(&a.configPath, "config", "", "YAML file with settings; its keys are the flags' names [MILLRACE_CONFIG]")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{flagError(cmd, err)} })
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}", `{{if and .Runnable (not (index .Annotations "`+onlyHolds+`"))}}`, 1))
	root.SetHelpCommand(helpCommand())
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(a.relay(), a.migrate(), a.lag(), a.doctor(), a.parked(), a.dlt(), a.jobs(), a.cache(), a.partitions(), a.replay(), a.rebuild(), a.importWatermill(), a.demo(), a.bench(), a.version())
	return root
}

// load reads the settings that cmd declared.
func (a *app) load(cmd *cobra.Command) (*config.Config, error) {
	path := a.configPath
	if path == "" {
		path = a.Getenv("MILLRACE_CONFIG")
	}
	return config.Load(cmd.Flags(), a.Getenv, path, a.uses[cmd])
}
