package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
)

// flags is the hook by which a command adds flags of its own.
type flags func(*pflag.FlagSet)

// shellCommands are cobra's, for completion in a shell; they take parts of flags.
var shellCommands = []string{"completion", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd}

// checkFlags reports every flag of args that is unknown or has a bad value, and
// with them whatever else is wrong with the configuration; cobra alone would stop
// at the first. It parses into commands of its own, which are then thrown away.
func checkFlags(p Process, args []string) error {
	if len(args) > 0 && slices.Contains(shellCommands, args[0]) {
		return nil
	}
	a := newApp(p)
	cmd, rest, err := a.root().Find(args)
	if err != nil {
		return usageError{fmt.Errorf("%w: see millrace --help", err)}
	}
	if cmd.DisableFlagParsing {
		return nil
	}
	cmd.InitDefaultHelpFlag()
	_ = cmd.InheritedFlags() // merges the parents' flags into cmd.Flags()
	errs := unknownFlags(cmd, rest)
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		f.Value = &lenient{Value: f.Value, refused: func(v string, err error) { errs = append(errs, badValue(f, v, err)) }}
	})
	cmd.FParseErrWhitelist.UnknownFlags = true
	if err := cmd.ParseFlags(rest); err != nil {
		errs = append(errs, flagError(cmd, err))
	}
	if len(errs) == 0 {
		return nil
	}
	if _, err := a.load(cmd); err != nil {
		errs = append(errs, err)
	}
	return usageError{errors.Join(errs...)}
}

func unknownFlags(cmd *cobra.Command, args []string) []error {
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
			errs = append(errs, fmt.Errorf("unknown flag --%s: see %s --help", name, cmd.CommandPath()))
		}
	}
	return errs
}

// lenient is a flag's value that reports what it cannot take and lets the
// parsing go on.
type lenient struct {
	pflag.Value
	refused func(v string, err error)
}

// Set implements pflag.Value.
func (l *lenient) Set(v string) error {
	if err := l.Value.Set(v); err != nil {
		l.refused(v, err)
	}
	return nil
}

// flagError says of pflag's errors what to do next.
func flagError(cmd *cobra.Command, err error) error {
	var bad *pflag.InvalidValueError
	var bare *pflag.ValueRequiredError
	var unknown *pflag.NotExistError
	switch {
	case errors.As(err, &bad):
		return badValue(bad.GetFlag(), bad.GetValue(), errors.Unwrap(bad))
	case errors.As(err, &bare):
		return fmt.Errorf("--%s: needs a value: see %s --help", bare.GetFlag().Name, cmd.CommandPath())
	case errors.As(err, &unknown):
		return fmt.Errorf("unknown flag -%s: see %s --help", unknown.GetSpecifiedShortnames(), cmd.CommandPath())
	}
	return err
}

// badValue says what f takes instead of v.
func badValue(f *pflag.Flag, v string, err error) error {
	if renamed := (config.RenamedError{}); errors.As(err, &renamed) {
		return fmt.Errorf("--%s: %w", f.Name, renamed)
	}
	switch f.Value.Type() {
	case "int", "int32", "int64":
		return fmt.Errorf("--%s: is %q: give a whole number", f.Name, v)
	case "intSlice", "int32Slice":
		return fmt.Errorf("--%s: is %q: give whole numbers, separated by commas", f.Name, v)
	case "duration":
		return fmt.Errorf("--%s: is %q: give a duration such as 3s or 500ms", f.Name, v)
	case "bool":
		return fmt.Errorf("--%s: is %q: give true or false", f.Name, v)
	}
	return fmt.Errorf("--%s: is %q: %w", f.Name, v, err)
}

// helpCommand is help, which refuses a command that it does not know.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [command]", Short: "Help about any command",
		RunE: func(c *cobra.Command, args []string) error {
			cmd, rest, err := c.Root().Find(args)
			if err != nil {
				return usageError{fmt.Errorf("%w: see millrace --help", err)}
			}
			if len(rest) > 0 {
				return usageError{fmt.Errorf("unknown command %q for %q: see %s --help", rest[0], cmd.CommandPath(), cmd.CommandPath())}
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}
