package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
)

func (a *app) dltReplay() *cobra.Command {
	var w workFlags
	return a.command(spec{
		use: "replay", short: "Send dead letters back to the group that failed",
		long: `Sends the open dead letters that the filters choose back to their source topic,
with their own key, value, headers and partition, up to the end that the topic has
now. Only the group that failed handles them again. Without --yes it only says what
it would do. After an interruption, call it again: it continues where it stopped.

Each partition is sent in its order, and stops at a dead letter that the broker
refuses; with --by-key only the later ones of its key stay behind. Dead letters that
were replayed --max-replays times go to <topic>.parking, if there is such a topic.`,
		example: `  millrace dlt replay --topic notification.v1
  millrace dlt replay --topic notification.v1 --group views --note "index rebuilt" --yes
  millrace dlt replay --topic notification.v1 --key 4711 --rate -1 --by-key --yes`,
		settings: dltUse,
		flags: func(f *pflag.FlagSet) {
			w.add(f)
			w.addSending(f)
			f.BoolVar(&w.byKey, "by-key", false, "a dead letter that is refused holds back only its key, not its partition")
			f.BoolVar(&w.allGroups, "all-groups", false, "let every consumer group handle the messages again")
			f.IntVar(&w.maxReplays, "max-replays", 3, "how often one message may be replayed")
			f.StringSliceVar(&w.targets, "target", nil, "topics that dead letters may be sent back to, each to the one it came from (default the source topic)")
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			return c.work(ctx, &w, deadletter.ActionReplay)
		},
	})
}

func (a *app) dltPark() *cobra.Command {
	var w workFlags
	return a.command(spec{
		use: "park", short: "Move dead letters to the parking topic",
		long: `Copies the open dead letters that the filters choose to <topic>.parking, with all
their headers and those that say who parked them; then they are no longer open. The
parking topic must exist, unless --create-topic creates it. Parked dead letters can
be listed and replayed from there with --dlt-topic <topic>.parking. Without --yes it
only says what it would do.`,
		example: `  millrace dlt park --topic notification.v1 --disposition decode
  millrace dlt park --topic notification.v1 --key 4711 --note "asked the sender" --create-topic --yes`,
		settings: dltUse,
		flags: func(f *pflag.FlagSet) {
			w.add(f)
			w.addSending(f)
			f.BoolVar(&w.createTopic, "create-topic", false, "create the parking topic if it does not exist; it keeps its records forever")
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			return c.work(ctx, &w, deadletter.ActionPark)
		},
	})
}

func (a *app) dltSkip() *cobra.Command {
	var w workFlags
	return a.command(spec{
		use: "skip", short: "Mark dead letters as dealt with by other means",
		long: `Marks the open dead letters that the filters choose as dealt with, without sending
anything: they are no longer open, and stay in dlt list --done until the topic
drops them. Without --yes it only says what it would do.`,
		example: `  millrace dlt skip --topic notification.v1 --partition 0 --from-offset 12 --to-offset 13
  millrace dlt skip --topic notification.v1 --key 4711 --note "corrected by hand, ticket 81" --yes`,
		settings: dltUse,
		flags:    w.add,
		run: func(ctx context.Context, c *call, _ []string) error {
			return c.workWithNote(ctx, &w, deadletter.ActionSkip)
		},
	})
}

func (a *app) dltDiscard() *cobra.Command {
	var w workFlags
	return a.command(spec{
		use: "discard", short: "Give dead letters up",
		long: `Marks the open dead letters that the filters choose as given up: they are no longer
open, and stay in dlt list --done until the topic drops them. It needs a
filter. Without --yes it only says what it would do.`,
		example: `  millrace dlt discard --topic notification.v1 --disposition decode
  millrace dlt discard --topic notification.v1 --key load-test --note "test data" --yes`,
		settings: dltUse,
		flags:    w.add,
		run: func(ctx context.Context, c *call, _ []string) error {
			if w.unfiltered() {
				return usageError{errors.New("discard: give a filter: it does not discard everything at once")}
			}
			return c.workWithNote(ctx, &w, deadletter.ActionDiscard)
		},
	})
}

// workWithNote is work whose reason must be given.
func (c *call) workWithNote(ctx context.Context, w *workFlags, action deadletter.Action) error {
	if w.yes && w.note == "" {
		return usageError{errors.New("--note: is missing: say why, for the audit log")}
	}
	return c.work(ctx, w, action)
}
