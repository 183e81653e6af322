package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
)

// call is one execution of a command.
type call struct {
	Process
	cfg *config.Config
	log *slog.Logger
}

// spec is a command: what it is called, what it reads, what it does.
type spec struct {
	use, short, long, example string

	settings config.Use
	flags    flags
	run      func(ctx context.Context, c *call, args []string) error
}

// command turns s into a cobra command whose settings are loaded and checked
// before run is called.
func (a *app) command(s spec) *cobra.Command {
	s.settings.Optional = append(s.settings.Optional, config.LogFormat, config.LogLevel)
	cmd := &cobra.Command{
		Use: s.use, Short: s.short, Long: s.long, Example: s.example,
		Args: noMore,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := a.load(cmd)
		if err != nil {
			return usageError{err}
		}
		return s.run(cmd.Context(), &call{Process: a.Process, cfg: cfg, log: newLogger(a.Err, cfg)}, args)
	}
	if s.flags != nil {
		s.flags(cmd.Flags())
	}
	config.AddFlags(cmd.Flags(), s.settings)
	cmd.Flags().SortFlags = false
	a.uses[cmd] = s.settings
	return cmd
}

// onlyHolds marks a group, whose usage names no flags of its own.
const onlyHolds = "group"

// group is a command that only holds others.
func group(use, short string, sub ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short,
		Args:        noMore,
		RunE:        func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Annotations: map[string]string{onlyHolds: "true"},
	}
	cmd.AddCommand(sub...)
	return cmd
}

// noMore refuses arguments of a command that has none.
func noMore(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case cmd.HasAvailableSubCommands():
		return usageError{fmt.Errorf("unknown command %q for %q: see %s --help", args[0], cmd.CommandPath(), cmd.CommandPath())}
	}
	return usageError{fmt.Errorf("%s takes flags only, not %q: see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())}
}

func newLogger(w io.Writer, cfg *config.Config) *slog.Logger {
	opts := &slog.HandlerOptions{Level: cfg.LogLevel}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// printJSON writes v as one indented object.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// printTable writes rows in aligned columns; the first row is the head.
func printTable(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, cell)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}
