package cli

import (
	"errors"

	"github.com/spf13/cobra"
)

// rebuild is not a command any more: it says where to find it.
func (a *app) rebuild() *cobra.Command {
	return &cobra.Command{
		Use: "rebuild", Hidden: true, DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("millrace rebuild is gone: a view is rebuilt by the program that keeps it: " +
				"`notifier rebuild VIEW` for the views of the reference service; package adapters/cache/rebuild is the library for your own")}
		},
	}
}
