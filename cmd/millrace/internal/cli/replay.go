package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
	"github.com/millrace-go/millrace/outbox/pgstore"
	"github.com/millrace-go/millrace/outbox/replay"
)

// replayFlags are the flags of replay as they were given.
type replayFlags struct {
	from, to, aggregate, topic, key string
	toTopic, id, resume             string
	rate                            int
	yes, asJSON                     bool
}

func (r *replayFlags) add(f *pflag.FlagSet) {
	f.StringVar(&r.from, "from", "", "first position, or time such as 2026-11-22T10:00:00Z")
	f.StringVar(&r.to, "to", "", "last position, or time before which the messages were written")
	f.StringVar(&r.aggregate, "aggregate", "", "only one aggregate, as type/id")
	f.StringVar(&r.topic, "topic", "", "only messages of one topic")
	f.StringVar(&r.key, "key", "", "only one key, as topic/key")
	f.StringVar(&r.toTopic, "to-topic", "", "send to this topic (default each message's own)")
	f.IntVar(&r.rate, "rate", 1000, "maximum messages a second, -1 for no limit")
	f.StringVar(&r.id, "id", "", "id of the replay (default random)")
	f.StringVar(&r.resume, "resume", "", "continue an interrupted replay from next:stop, as it printed")
	f.BoolVar(&r.yes, "yes", false, "do it")
	f.BoolVar(&r.asJSON, "json", false, "print one JSON object")
}

func (a *app) replay() *cobra.Command {
	var r replayFlags
	return a.command(spec{
		use: "replay", short: "Send messages of the log again",
		long: `Sends messages that are still in the log again, in their order, to their topic or
to another one. The records have the header millrace-replay with the replay's id
besides their own; the event ids are the same, so consumers that deduplicate by
them do nothing for what they have handled. It goes up to where the log is
complete at its start. Without --yes it only counts, and needs no Kafka. If it is
interrupted it says how to go on; a batch may then be sent twice.`,
		example: `  millrace replay --from 2026-11-22T10:00:00Z --to 2026-11-22T11:00:00Z
  millrace replay --aggregate notification/8f14e45f --to-topic rebuild.v1 --yes
  millrace replay --key notification.v1/8f14e45f --from 120000 --rate 200 --yes`,
		settings: config.Use{
			Required: []config.Name{config.Postgres},
			Optional: []config.Name{config.Kafka, config.Dev},
		},
		flags: r.add,
		run: func(ctx context.Context, c *call, _ []string) error {
			cfg, err := r.config()
			if err == nil && r.yes && len(c.cfg.Kafka) == 0 {
				err = errors.New("kafka: is missing: give --kafka, MILLRACE_KAFKA or KAFKA_BROKERS")
			}
			if err != nil {
				return usageError{err}
			}
			return c.withStore(ctx, func(store *pgstore.Store) error { return c.replayLog(ctx, store, &r, cfg) })
		},
	})
}

// config takes the flags apart; its error joins all that is wrong with them.
func (r *replayFlags) config() (replay.Config, error) {
	cfg := replay.Config{ID: r.id, ToTopic: r.toTopic, Rate: r.rate}
	s := &cfg.Select
	var errs []error
	var ok bool
	errs = append(errs, place("--from", r.from, &s.From, &s.Since), place("--to", r.to, &s.To, &s.Until))
	s.Topic = r.topic
	if s.AggregateType, s.AggregateID, ok = strings.Cut(r.aggregate, "/"); r.aggregate != "" && !ok {
		errs = append(errs, fmt.Errorf("--aggregate: is %q: give type/id", r.aggregate))
	}
	if r.key != "" {
		if s.Topic, s.Key, ok = strings.Cut(r.key, "/"); !ok || s.Topic == "" || s.Key == "" {
			errs = append(errs, fmt.Errorf("--key: is %q: give topic/key", r.key))
		}
		if r.topic != "" && r.topic != s.Topic {
			errs = append(errs, fmt.Errorf("--topic: is %q, but --key names the topic %q", r.topic, s.Topic))
		}
	}
	if r.resume != "" {
		if _, err := fmt.Sscanf(r.resume, "%d:%d", &s.From, &s.To); err != nil {
			errs = append(errs, fmt.Errorf("--resume: is %q: give next:stop", r.resume))
		}
	}
	if r.rate == 0 || r.rate < -1 {
		errs = append(errs, errors.New("--rate: must be positive, or -1 for no limit"))
	}
	return cfg, errors.Join(errs...)
}

// place reads a position or a time.
func place(flag, v string, position *int64, at *time.Time) error {
	if v == "" {
		return nil
	}
	if n, err := strconv.ParseInt(v, 10, 64); err == nil {
		if *position = n; n < 1 {
			return fmt.Errorf("%s: is %d: positions begin with 1", flag, n)
		}
		return nil
	}
	t, err := time.Parse(time.RFC3339, v)
	if err != nil {
		return fmt.Errorf("%s: is %q: give a position or a time such as 2026-11-22T10:00:00Z", flag, v)
	}
	*at = t
	return nil
}

func (c *call) replayLog(ctx context.Context, store *pgstore.Store, r *replayFlags, cfg replay.Config) (err error) {
	h, err := store.History(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	if !r.yes {
		replayer, err := replay.New(h, nil, cfg)
		if err != nil {
			return usageError{err}
		}
		res, err := replayer.Plan(ctx)
		return c.printReplay(r, res, err)
	}
	if err := c.checkBroker(ctx); err != nil {
		return err
	}
	pub, err := kafka.NewPublisher(kafka.Config{Brokers: c.cfg.Kafka, ClientID: "millrace-replay"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pub.Close()) }()
	bar := newReplayBar(c.Err)
	cfg.OnProgress = bar.show
	replayer, err := replay.New(h, pub, cfg)
	if err != nil {
		return usageError{err}
	}
	defer bar.done()
	res, err := replayer.Run(ctx)
	return c.printReplay(r, res, err)
}

func (c *call) printReplay(r *replayFlags, res replay.Result, err error) error {
	if r.yes {
		c.log.Info("replay", "id", res.ID, "messages", res.Messages, "from", res.From, "next", res.Next, "stop", res.Stop, "done", res.Done)
	}
	if err != nil && r.yes && res.Stop > 0 {
		fmt.Fprintf(c.Err, "to go on, give the same flags with --resume %d:%d --id %s\n", res.Next, res.Stop, res.ID)
	}
	if r.asJSON {
		return errors.Join(printJSON(c.Out, res), err)
	}
	if err != nil {
		return err
	}
	verb := "replayed"
	if res.DryRun {
		verb = "would replay"
	}
	if res.Messages == 0 {
		_, err = fmt.Fprintln(c.Out, verb, "nothing")
		return err
	}
	where := fmt.Sprintf("positions %d to %d", res.First, res.Last)
	if res.First == res.Last {
		where = fmt.Sprintf("position %d", res.First)
	}
	_, err = fmt.Fprintf(c.Out, "%s %s of %s\n", verb, plural(int(res.Messages), "message"), where)
	if res.DryRun {
		fmt.Fprintln(c.Err, "nothing was sent: give --yes to do it")
	}
	return err
}

// replayBar is the progress bar of a terminal; elsewhere it shows nothing.
type replayBar struct {
	w   io.Writer
	bar *progressbar.ProgressBar
}

func newReplayBar(w io.Writer) *replayBar {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &replayBar{}
	}
	return &replayBar{w: w}
}

// show is a Replayer's OnProgress. The bar counts positions.
func (b *replayBar) show(res replay.Result) {
	if b.w == nil {
		return
	}
	if b.bar == nil {
		b.bar = progressbar.NewOptions64(res.Stop-res.From+1, progressbar.OptionSetWriter(b.w), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetDescription("replay"), progressbar.OptionShowCount(), progressbar.OptionThrottle(100*time.Millisecond))
	}
	_ = b.bar.Set64(res.Next - res.From)
}

func (b *replayBar) done() {
	if b.bar != nil {
		_ = b.bar.Finish()
	}
}
