// Package cli is the millrace command line: its commands, their flags, output
// and exit codes. Data goes to standard output; logs, progress and errors go to
// standard error.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/cmd/millrace/config"
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
	a := &app{Process: p, uses: map[*cobra.Command]config.Use{}}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(p.In)
	root.SetOut(p.Out)
	root.SetErr(p.Err)
	err := a.checkFlags(root, args)
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
	}
	root.PersistentFlags().StringVar(&a.configPath, "config", "", "YAML file with settings; its keys are the flags' names [MILLRACE_CONFIG]")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(a.relay(), a.migrate(), a.lag(), a.doctor(), a.parked(), a.dlt(), a.jobs(), a.cache(), a.partitions(), a.replay(), a.rebuild(), a.importWatermill(), a.demo(), a.bench(), a.version())
	return root
}

// checkFlags reports every unknown flag of args, and with them whatever else is
// wrong with the configuration; cobra alone would stop at the first.
func (a *app) checkFlags(root *cobra.Command, args []string) error {
	cmd, rest, err := root.Find(args)
	if err != nil {
		return usageError{fmt.Errorf("%w: see millrace --help", err)}
	}
	cmd.InitDefaultHelpFlag()
	unknown := unknownFlags(cmd, rest)
	if len(unknown) == 0 {
		return nil
	}
	cmd.FParseErrWhitelist.UnknownFlags = true
	errs := unknown
	if err := cmd.ParseFlags(rest); err != nil {
		errs = append(errs, err)
	}
	if _, err := a.load(cmd); err != nil {
		errs = append(errs, err)
	}
	return usageError{errors.Join(errs...)}
}

func unknownFlags(cmd *cobra.Command, args []string) []error {
	_ = cmd.InheritedFlags() // merges the parents' flags into cmd.Flags()
	var errs []error
	for _, arg := range args {
		if arg == "--" {
			break
		}
		name, long := strings.CutPrefix(arg, "--")
		if !long {
			continue
		}
		name, _, _ = strings.Cut(name, "=")
		if cmd.Flags().Lookup(name) == nil {
			errs = append(errs, fmt.Errorf("unknown flag --%s: see millrace %s --help", name, strings.TrimPrefix(cmd.CommandPath(), "millrace ")))
		}
	}
	return errs
}

// load reads the settings that cmd declared.
func (a *app) load(cmd *cobra.Command) (*config.Config, error) {
	path := a.configPath
	if path == "" {
		path = a.Getenv("MILLRACE_CONFIG")
	}
	return config.Load(cmd.Flags(), a.Getenv, path, a.uses[cmd])
}

// flags is the hook by which a command adds flags of its own.
type flags func(*pflag.FlagSet)
