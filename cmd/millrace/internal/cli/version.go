package cli

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Version is set when a release is linked; otherwise the build info tells.
var Version = ""

// buildVersion is what version prints; its JSON keys are part of the interface.
type buildVersion struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Modified bool   `json:"modified"`
	Built    string `json:"commit_time"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (a *app) version() *cobra.Command {
	var asJSON bool
	return a.command(spec{
		use: "version", short: "Print version, commit and Go release",
		example: "  millrace version --json",
		flags:   func(f *pflag.FlagSet) { f.BoolVar(&asJSON, "json", false, "print one JSON object") },
		run: func(_ context.Context, c *call, _ []string) error {
			v := readVersion()
			if asJSON {
				return printJSON(c.Out, v)
			}
			commit := v.Commit
			if v.Modified {
				commit += "+changes"
			}
			_, err := fmt.Fprintf(c.Out, "millrace %s (commit %s, %s, %s)\n", v.Version, commit, v.Go, v.Platform)
			return err
		},
	})
}

func readVersion() buildVersion {
	v := buildVersion{Version: Version, Commit: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if v.Version == "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		case "vcs.time":
			v.Built = s.Value
		}
	}
	return v
}
