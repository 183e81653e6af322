package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/adapters/consumer"
)

// shownLetter is what dlt show --json prints.
type shownLetter struct {
	letter
	Headers []shownHeader `json:"headers"`
	Value   []byte        `json:"value"` // base64; null for a null value
}

type shownHeader struct {
	Name  string `json:"name"`
	Value []byte `json:"value"` // base64
}

func (a *app) dltShow() *cobra.Command {
	var d dltFlags
	var partition int32
	var offset int64
	return a.command(spec{
		use: "show", short: "Show one dead letter with its headers and bytes",
		example:  "  millrace dlt show --topic notification.v1 --partition 0 --offset 12",
		settings: dltUse,
		flags: func(f *pflag.FlagSet) {
			d.add(f)
			f.Int32Var(&partition, "partition", 0, "partition of the dead-letter topic")
			f.Int64Var(&offset, "offset", 0, "offset in that partition")
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			r, err := c.openLetters(ctx)
			if err != nil {
				return err
			}
			defer r.Close()
			cfg := d.config(r)
			cfg.Filter = consumer.Filter{Partitions: []int32{partition}, FromOffset: offset, ToOffset: offset + 1}
			var found *consumer.Letter
			err = consumer.List(ctx, cfg, func(l consumer.Letter) error { found = &l; return errEnough })
			switch {
			case err != nil && !errors.Is(err, errEnough):
				return err
			case found == nil:
				return fmt.Errorf("there is no dead letter at partition %d, offset %d of %s", partition, offset, cfg.Topic)
			}
			return c.printLetter(found, d.asJSON)
		},
	})
}

func (c *call) printLetter(l *consumer.Letter, asJSON bool) error {
	if asJSON {
		s := shownLetter{letter: newLetter(l), Value: l.Value}
		for _, h := range l.Record.Headers {
			s.Headers = append(s.Headers, shownHeader{h.Key, h.Value})
		}
		return printJSON(c.Out, s)
	}
	rows := [][]string{
		{"place", fmt.Sprintf("%s partition %d offset %d", l.Record.Topic, l.Record.Partition, l.Record.Offset)},
		{"came from", fmt.Sprintf("%s partition %d offset %d", l.OriginalTopic, l.OriginalPartition, l.OriginalOffset)},
		{"group", l.Group},
		{"attempts", strconv.Itoa(l.Attempts)},
		{"replays", strconv.Itoa(l.ReplayCount)},
		{"key", strconv.Quote(string(l.Record.Key))},
		{"reason", oneLine(l.Error)},
	}
	for _, h := range l.Record.Headers {
		rows = append(rows, []string{"header " + h.Key, strconv.Quote(string(h.Value))})
	}
	rows = append(rows, []string{"value", strconv.Quote(string(l.Value))})
	return printTable(c.Out, rows)
}
