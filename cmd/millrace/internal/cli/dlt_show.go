package cli

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
)

// shownMessage is what dlt show --json prints, and dlt export for each dead letter.
type shownMessage struct {
	listedMessage
	Headers []shownHeader `json:"headers"`
	KeyRaw  []byte        `json:"key_base64"` // null for a null key
	Value   []byte        `json:"value"`      // base64; null for a null value
}

type shownHeader struct {
	Name  string `json:"name"`
	Value []byte `json:"value"` // base64
}

func newShownMessage(l *deadletter.Message) shownMessage {
	s := shownMessage{listedMessage: newListedMessage(l), KeyRaw: l.Record.Key, Value: l.Value, Headers: []shownHeader{}}
	for _, h := range l.Record.Headers {
		s.Headers = append(s.Headers, shownHeader{h.Key, h.Value})
	}
	return s
}

func (a *app) dltShow() *cobra.Command {
	var d dltFlags
	var place string
	var partition int32
	var offset int64
	return a.command(spec{
		use: "show", short: "Show one dead letter with its headers and bytes",
		example:  "  millrace dlt show --topic order.v1 --place 0/12",
		settings: dltUse,
		flags: func(f *pflag.FlagSet) {
			d.addTopic(f)
			f.StringVar(&place, "place", "", "partition/offset in the dead-letter topic, as dlt list prints it")
			f.Int32Var(&partition, "partition", 0, "instead of --place: its partition")
			f.Int64Var(&offset, "offset", -1, "instead of --place: its offset")
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			if place == "" && offset >= 0 {
				place = fmt.Sprintf("%d/%d", partition, offset)
			}
			if n, err := fmt.Sscanf(place+"\n", "%d/%d\n", &partition, &offset); n != 2 || err != nil || partition < 0 || offset < 0 {
				return usageError{fmt.Errorf("--place: is %q: give partition/offset as millrace dlt list prints it, such as 0/12", place)}
			}
			d.partitions, d.from, d.to = []int32{partition}, offset, offset+1
			var found *deadletter.Message
			err := c.eachMessage(ctx, &d, true, func(l *deadletter.Message) error { found = l; return errEnough })
			switch {
			case err != nil:
				return err
			case found == nil:
				return fmt.Errorf("there is no dead letter at %s of %s: millrace dlt list --done shows those there are", place, d.deadLetterTopic())
			}
			return c.printMessage(found, d.asJSON)
		},
	})
}

func (c *call) printMessage(l *deadletter.Message, asJSON bool) error {
	if asJSON {
		return printJSON(c.Out, newShownMessage(l))
	}
	rows := [][]string{
		{"place", fmt.Sprintf("%s partition %d offset %d", l.Record.Topic, l.Record.Partition, l.Record.Offset)},
		{"state", stateLine(l)},
		{"came from", fmt.Sprintf("%s partition %d offset %d", l.OriginalTopic, l.OriginalPartition, l.OriginalOffset)},
		{"group", l.Group},
		{"disposition", string(l.Disposition)},
		{"attempts", strconv.Itoa(l.Attempts)},
		{"replays", strconv.Itoa(l.ReplayCount)},
		{"key", strconv.Quote(string(l.Record.Key))},
		{"reason", oneLine(l.Error)},
	}
	for _, h := range l.Record.Headers {
		rows = append(rows, []string{"header " + h.Key, headerLine(h.Key, h.Value)})
	}
	value := strconv.Quote(string(l.Value))
	switch {
	case l.ValueOmitted && l.FailedRecord != nil:
		value = fmt.Sprintf("%d bytes, too large for this topic: at %s partition %d offset %d",
			l.ValueSize, l.FailedRecord.Topic, l.FailedRecord.Partition, l.FailedRecord.Offset)
	case l.Value == nil:
		value = "null (a tombstone)"
	}
	return printTable(c.Out, append(rows, []string{"value", value}))
}

// stateLine says what became of l and, if that is known, who decided and why.
func stateLine(l *deadletter.Message) string {
	if l.Decision == nil {
		return string(l.State)
	}
	line := fmt.Sprintf("%s by %s at %s", l.State, l.Decision.Actor, l.Decision.At.UTC().Format(time.RFC3339))
	if l.Decision.Note != "" {
		line += ": " + oneLine(l.Decision.Note)
	}
	return line
}

// headerLine shows Spring's integers as such.
func headerLine(name string, v []byte) string {
	switch name {
	case deadletter.HeaderOriginalPartition, deadletter.HeaderOriginalOffset, deadletter.HeaderOriginalTimestamp:
		switch len(v) {
		case 4:
			return strconv.FormatInt(int64(int32(binary.BigEndian.Uint32(v))), 10)
		case 8:
			return strconv.FormatInt(int64(binary.BigEndian.Uint64(v)), 10)
		}
	}
	return strconv.Quote(string(v))
}
