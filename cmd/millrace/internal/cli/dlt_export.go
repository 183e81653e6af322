package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
)

func (a *app) dltExport() *cobra.Command {
	var d dltFlags
	var out string
	var done bool
	return a.command(spec{
		use: "export", short: "Write dead letters as lines of JSON",
		long: `Writes the dead letters that the filters choose, each as one line of JSON with its
headers, its key and its value in base64, to standard output or to a file that
does not exist yet. Nothing is changed by it.`,
		example: `  millrace dlt export --topic notification.v1 > dead-letters.jsonl
  millrace dlt export --topic notification.v1 --group views --done --out dead-letters.jsonl`,
		settings: dltUse,
		flags: func(f *pflag.FlagSet) {
			d.addTopic(f)
			d.addFilter(f)
			f.BoolVar(&done, "done", false, "also resolved ones")
			f.StringVar(&out, "out", "-", "file to write, - for standard output")
			f.IntVar(&d.limit, "limit", 0, "write at most this many, 0 for all")
			_ = f.MarkHidden("json") // it is always JSON
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			if out == "-" {
				_, err := c.export(ctx, &d, done, c.Out)
				return err
			}
			file, err := os.OpenFile(out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if err != nil {
				return fmt.Errorf("--out: %w", err)
			}
			n, err := c.export(ctx, &d, done, file)
			if err := errors.Join(err, file.Close()); err != nil {
				return err
			}
			fmt.Fprintf(c.Err, "wrote %s to %s\n", plural(n, "dead letter"), out)
			return nil
		},
	})
}

// export writes the dead letters to w and returns their number.
func (c *call) export(ctx context.Context, d *dltFlags, done bool, w io.Writer) (n int, err error) {
	buffered := bufio.NewWriterSize(w, 1<<16)
	lines := json.NewEncoder(buffered)
	lines.SetEscapeHTML(false)
	err = c.eachMessage(ctx, d, done, func(l *deadletter.Message) error {
		if err := lines.Encode(newShownMessage(l)); err != nil {
			return err
		}
		if n++; d.limit > 0 && n >= d.limit {
			return errEnough
		}
		return nil
	})
	return n, errors.Join(err, buffered.Flush())
}
