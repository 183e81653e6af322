package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/cmd/millrace/config"
	"github.com/millrace-go/millrace/outbox"
)

// dltFlags are those that all dlt commands have.
type dltFlags struct {
	topic, group string
	limit        int
	asJSON       bool
}

var dltUse = config.Use{Required: []config.Name{config.Kafka}}

func (d *dltFlags) add(f *pflag.FlagSet) {
	f.StringVar(&d.topic, "topic", "notification.v1", "source topic, without .dlt")
	f.StringVar(&d.group, "group", "", "only letters of the consumer group that failed")
	f.BoolVar(&d.asJSON, "json", false, "print JSON")
}

// config is what consumer.List and consumer.Replay start from.
func (d *dltFlags) config(r consumer.DeadLetterReader) consumer.ReplayConfig {
	return consumer.ReplayConfig{
		Topic: consumer.DeadLetterTopic(d.topic), Reader: r, Filter: consumer.Filter{Group: d.group},
	}
}

func (a *app) dlt() *cobra.Command {
	return group("dlt", "List, show and replay dead letters", a.dltList(), a.dltShow(), a.dltReplay())
}

func (c *call) openLetters(ctx context.Context) (*kafka.DeadLetters, error) {
	adm, _, err := reachKafka(ctx, c.cfg.Kafka)
	if err != nil {
		return nil, err
	}
	adm.Close()
	return kafka.NewDeadLetters(kafka.Config{Brokers: c.cfg.Kafka, ClientID: "millrace-dlt"})
}

// errEnough ends a listing early.
var errEnough = errors.New("enough")

func (a *app) dltList() *cobra.Command {
	var d dltFlags
	return a.command(spec{
		use: "list", short: "List the dead letters of a topic",
		example: `  millrace dlt list --topic notification.v1 --kafka localhost:9092
  millrace dlt list --group views --json`,
		settings: dltUse,
		flags: func(f *pflag.FlagSet) {
			d.add(f)
			f.IntVar(&d.limit, "limit", 100, "most letters, 0 for all")
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			r, err := c.openLetters(ctx)
			if err != nil {
				return err
			}
			defer r.Close()
			letters := []letter{}
			err = consumer.List(ctx, d.config(r), func(l consumer.Letter) error {
				letters = append(letters, newLetter(&l))
				if d.limit > 0 && len(letters) >= d.limit {
					return errEnough
				}
				return nil
			})
			if err != nil && !errors.Is(err, errEnough) {
				return err
			}
			return c.printLetters(letters, d.asJSON)
		},
	})
}

func (c *call) printLetters(letters []letter, asJSON bool) error {
	if asJSON {
		return printJSON(c.Out, letters)
	}
	if len(letters) == 0 {
		_, err := fmt.Fprintln(c.Out, "no dead letters")
		return err
	}
	rows := [][]string{{"PLACE", "FAILED", "KEY", "TYPE", "GROUP", "ATTEMPTS", "REPLAYED", "REASON"}}
	for _, l := range letters {
		rows = append(rows, []string{
			fmt.Sprintf("%d/%d", l.Partition, l.Offset), l.FailedAt.Format(time.RFC3339), strconv.Quote(l.Key), l.EventType, l.Group,
			strconv.Itoa(l.Attempts), strconv.FormatBool(l.Replayed), oneLine(l.Reason),
		})
	}
	return printTable(c.Out, rows)
}

// letter is what dlt list --json prints for each dead letter.
type letter struct {
	Topic           string    `json:"topic"` // the dead-letter topic
	Partition       int32     `json:"partition"`
	Offset          int64     `json:"offset"`
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
	Reason          string    `json:"reason"`
	Replays         int       `json:"replays"`
	Replayed        bool      `json:"replayed"`
}

func newLetter(l *consumer.Letter) letter {
	return letter{
		Topic: l.Record.Topic, Partition: l.Record.Partition, Offset: l.Record.Offset, FailedAt: l.FailedAt.UTC(),
		Key: string(l.Record.Key), EventID: headerText(l.Record, outbox.HeaderEventID), EventType: headerText(l.Record, outbox.HeaderEventType),
		Source: l.OriginalTopic, SourcePartition: l.OriginalPartition, SourceOffset: l.OriginalOffset,
		Group: l.Group, Disposition: string(l.Disposition), Attempts: l.Attempts, Reason: l.Error,
		Replays: l.ReplayCount, Replayed: l.Replayed,
	}
}

func headerText(r *outbox.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}
