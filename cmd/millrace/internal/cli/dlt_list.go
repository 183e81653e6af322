package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// errEnough ends a listing early.
var errEnough = errors.New("enough")

func (a *app) dltList() *cobra.Command {
	var d dltFlags
	var done bool
	return a.command(spec{
		use: "list", short: "List the dead letters of a topic",
		long: `Lists the open dead letters of a topic, and with --done also those that were
replayed, skipped, discarded or parked. With a Postgres address STATE says which;
without one it says resolved.`,
		example: `  millrace dlt list --topic notification.v1 --kafka localhost:9092
  millrace dlt list --topic notification.v1 --group views --since 2h --error 'timeout|refused' --json
  millrace dlt list --topic orders --dlt-topic orders-dlt`,
		settings: dltUse,
		flags: func(f *pflag.FlagSet) {
			d.addTopic(f)
			d.addFilter(f)
			f.BoolVar(&done, "done", false, "also resolved ones")
			f.IntVar(&d.limit, "limit", 100, "list at most this many, 0 for all")
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			found := []listedMessage{}
			err := c.eachMessage(ctx, &d, done, func(l *deadletter.Message) error {
				found = append(found, newListedMessage(l))
				if d.limit > 0 && len(found) >= d.limit {
					return errEnough
				}
				return nil
			})
			if err != nil {
				return err
			}
			return c.printMessages(found, d.asJSON)
		},
	})
}

// eachMessage calls fn for the dead letters that d chooses, the open ones or all.
func (c *call) eachMessage(ctx context.Context, d *dltFlags, done bool, fn func(*deadletter.Message) error) (err error) {
	cfg, err := d.config(time.Now())
	if err != nil {
		return usageError{err}
	}
	if !done {
		cfg.Filter.States = []deadletter.State{deadletter.StateOpen}
	}
	k, err := c.openDeadLetters(ctx, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.close()) }()
	if err := k.configure(&cfg); err != nil {
		return err
	}
	err = deadletter.List(ctx, d.deadLetterTopic(), k.reader, cfg, func(l deadletter.Message) error { return fn(&l) })
	if errors.Is(err, errEnough) {
		return nil
	}
	return c.explain(ctx, d, err)
}

func (c *call) printMessages(list []listedMessage, asJSON bool) error {
	if asJSON {
		return printJSON(c.Out, list)
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(c.Out, "no dead letters")
		return err
	}
	rows := [][]string{{"PLACE", "STATE", "FAILED", "KEY", "TYPE", "GROUP", "WHY", "ATTEMPTS", "REPLAYS", "REASON"}}
	for _, l := range list {
		rows = append(rows, []string{
			fmt.Sprintf("%d/%d", l.Partition, l.Offset), l.State, l.FailedAt.Format(time.RFC3339), strconv.Quote(l.Key), l.EventType, l.Group,
			l.Disposition, strconv.Itoa(l.Attempts), strconv.Itoa(l.Replays), oneLine(l.Reason),
		})
	}
	return printTable(c.Out, rows)
}

// listedMessage is what dlt list --json prints for each dead letter.
type listedMessage struct {
	Topic           string    `json:"topic"` // the dead-letter topic
	Partition       int32     `json:"partition"`
	Offset          int64     `json:"offset"`
	State           string    `json:"state"`
	FailedAt        time.Time `json:"failed_at"`
	Key             string    `json:"key"`
	EventID         string    `json:"event_id"`
	EventType       string    `json:"event_type"`
	Source          string    `json:"source"`
	SourcePartition int32     `json:"source_partition"`
	SourceOffset    int64     `json:"source_offset"`
	Group           string    `json:"group"`
	Disposition     string    `json:"disposition"`
	Attempts        int       `json:"attempts"`
	ErrorType       string    `json:"error_type"`
	Reason          string    `json:"reason"`
	Replays         int       `json:"replays"`
	ValueOmitted    bool      `json:"value_omitted,omitempty"`
	Decision        *decided  `json:"decision,omitempty"`
}

// decided is who resolved a dead letter, when and why.
type decided struct {
	Operation string    `json:"operation"`
	Actor     string    `json:"actor"`
	Note      string    `json:"note"`
	At        time.Time `json:"at"`
}

func newListedMessage(l *deadletter.Message) listedMessage {
	out := listedMessage{
		Topic: l.Record.Topic, Partition: l.Record.Partition, Offset: l.Record.Offset, State: string(l.State), FailedAt: l.FailedAt.UTC(),
		Key: string(l.Record.Key), EventID: headerText(l.Record, outbox.HeaderEventID), EventType: headerText(l.Record, outbox.HeaderEventType),
		Source: l.OriginalTopic, SourcePartition: l.OriginalPartition, SourceOffset: l.OriginalOffset,
		Group: l.Group, Disposition: string(l.Disposition), Attempts: l.Attempts, ErrorType: l.ErrorType, Reason: l.Error,
		Replays: l.ReplayCount, ValueOmitted: l.ValueOmitted,
	}
	if l.Decision != nil {
		out.Decision = &decided{l.Decision.Operation, l.Decision.Actor, l.Decision.Note, l.Decision.At.UTC()}
	}
	return out
}

func headerText(r *record.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}
