package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/adapters/consumer"
)

func (a *app) dltReplay() *cobra.Command {
	var w workFlags
	return a.command(spec{
		use: "replay", short: "Send dead letters back to the group that failed",
		long: `Sends the open dead letters that the filters choose back to their source topic,
with their own key, value, headers and partition, up to the end that the topic has
now. Only the group that failed handles them again. Without --yes it only says what
it would do. An interrupted replay goes on where it stopped when it is called again.

Each partition goes in its order, and stops at a letter that the broker refuses;
with --by-key only the later letters of its key stay behind. Letters that were
replayed --max-replays times go to <topic>.parking, if there is such a topic.`,
		example: `  millrace dlt replay --topic notification.v1
  millrace dlt replay --topic notification.v1 --group views --note "index rebuilt" --yes
  millrace dlt replay --topic notification.v1 --key 4711 --rate -1 --by-key --yes`,
		settings: dltUse,
		flags: func(f *pflag.FlagSet) {
			w.add(f)
			w.addSending(f)
			f.BoolVar(&w.byKey, "by-key", false, "a letter that is refused holds back its key alone, not its partition")
			f.BoolVar(&w.allGroups, "all-groups", false, "let every consumer group handle the letters again")
			f.IntVar(&w.maxReplays, "max-replays", 3, "how often one message may be replayed")
			f.StringSliceVar(&w.targets, "target", nil, "topics that letters may go back to, each to its own (default the source topic)")
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			return c.work(ctx, &w, consumer.ActionReplay, consumer.Replay)
		},
	})
}

func (a *app) dltPark() *cobra.Command {
	var w workFlags
	return a.command(spec{
		use: "park", short: "Move dead letters to the parking topic",
		long: `Copies the open dead letters that the filters choose to <topic>.parking, with all
their headers and those that tell who parked them, and offers them no more. The
parking topic must exist, unless --create-topic makes it. Parked letters can be
listed and replayed from there with --dlt-topic <topic>.parking. Without --yes it
only says what it would do.`,
		example: `  millrace dlt park --topic notification.v1 --disposition decode
  millrace dlt park --topic notification.v1 --key 4711 --note "asked the sender" --create-topic --yes`,
		settings: dltUse,
		flags: func(f *pflag.FlagSet) {
			w.add(f)
			w.addSending(f)
			f.BoolVar(&w.createTopic, "create-topic", false, "make the parking topic if it is not there; it keeps its records for ever")
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			return c.work(ctx, &w, consumer.ActionPark, consumer.Park)
		},
	})
}

func (a *app) dltSkip() *cobra.Command {
	var w workFlags
	return a.command(spec{
		use: "skip", short: "Mark dead letters as dealt with by other means",
		long: `Marks the open dead letters that the filters choose as dealt with, without sending
anything: they are not offered again, and stay in dlt list --done until the topic
drops them. Without --yes it only says what it would do.`,
		example: `  millrace dlt skip --topic notification.v1 --partition 0 --from-offset 12 --to-offset 13
  millrace dlt skip --topic notification.v1 --key 4711 --note "corrected by hand, ticket 81" --yes`,
		settings: dltUse,
		flags:    w.add,
		run: func(ctx context.Context, c *call, _ []string) error {
			return c.settle(ctx, &w, consumer.ActionSkip, consumer.Skip)
		},
	})
}

func (a *app) dltDiscard() *cobra.Command {
	var w workFlags
	return a.command(spec{
		use: "discard", short: "Give dead letters up",
		long: `Marks the open dead letters that the filters choose as data given up: they are not
offered again, and stay in dlt list --done until the topic drops them. It needs a
filter. Without --yes it only says what it would do.`,
		example: `  millrace dlt discard --topic notification.v1 --disposition decode
  millrace dlt discard --topic notification.v1 --key load-test --note "test data" --yes`,
		settings: dltUse,
		flags:    w.add,
		run: func(ctx context.Context, c *call, _ []string) error {
			if w.unfiltered() {
				return usageError{errors.New("discard: give a filter: it does not give everything up at once")}
			}
			return c.settle(ctx, &w, consumer.ActionDiscard, consumer.Discard)
		},
	})
}

// settle is work that has to be explained.
func (c *call) settle(ctx context.Context, w *workFlags, action consumer.Action, do worker) error {
	if w.yes && w.note == "" {
		return usageError{errors.New("--note: is missing: say why, for those who ask later")}
	}
	return c.work(ctx, w, action, do)
}
