package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/kafka"
)

// workFlags are those of the dlt commands that change something.
type workFlags struct {
	dltFlags
	yes, noAudit bool
	note         string

	rate                          int
	byKey, allGroups, createTopic bool
	maxReplays                    int
	targets                       []string
}

func (w *workFlags) add(f *pflag.FlagSet) {
	w.addTopic(f)
	w.addFilter(f)
	f.IntVar(&w.limit, "limit", 0, "most letters, 0 for all")
	f.StringVar(&w.note, "note", "", "why, for the audit")
	f.BoolVar(&w.noAudit, "no-audit", false, "leave no record, and let others work on the topic at the same time")
	f.BoolVar(&w.yes, "yes", false, "do it")
	w.rate = -1
}

func (w *workFlags) addSending(f *pflag.FlagSet) {
	f.IntVar(&w.rate, "rate", 50, "letters a second, -1 for no limit")
}

// unfiltered reports that w chooses all open letters.
func (w *workFlags) unfiltered() bool {
	return len(w.partitions) == 0 && w.from == 0 && w.to == 0 && w.since == "" && w.until == "" && !w.hasKey() && w.group == "" &&
		len(w.dispositions) == 0 && w.error == ""
}

// config checks the flags; its error joins all that is wrong with them.
func (w *workFlags) config(c *call) (consumer.ReplayConfig, error) {
	cfg, err := w.dltFlags.config(time.Now())
	errs := []error{err}
	if w.rate == 0 || w.rate < -1 {
		errs = append(errs, errors.New("--rate: must be positive, or -1 for no limit"))
	}
	if w.maxReplays < 0 {
		errs = append(errs, errors.New("--max-replays: must not be negative"))
	}
	if w.yes && !w.noAudit && c.cfg.Postgres == "" {
		errs = append(errs, errors.New("postgres: is missing: what is done to dead letters is recorded there: "+
			"give --postgres, MILLRACE_POSTGRES or DATABASE_URL, or --no-audit to leave no record"))
	}
	cfg.Execute, cfg.Rate, cfg.Max, cfg.MaxReplays = w.yes, w.rate, w.limit, w.maxReplays
	cfg.ByKey, cfg.AllGroups, cfg.Targets = w.byKey, w.allGroups, w.targets
	cfg.Actor, cfg.Note = actor(), w.note
	return cfg, errors.Join(errs...)
}

// maxLetterBytes is more than any usual topic takes.
const maxLetterBytes = 64 << 20

// worker is consumer.Replay, Skip, Discard or Park.
type worker func(context.Context, consumer.ReplayConfig) (consumer.ReplayResult, error)

func (c *call) work(ctx context.Context, w *workFlags, action consumer.Action, do worker) (err error) {
	cfg, err := w.config(c)
	if err != nil {
		return usageError{err}
	}
	d, err := c.openDesk(ctx, w.noAudit)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.equip(ctx, &cfg); err != nil {
		return err
	}
	if action == consumer.ActionPark && w.yes {
		if err := c.parkingTopic(ctx, &cfg, w.createTopic); err != nil {
			return err
		}
	}
	res, err := c.doWork(ctx, cfg, do)
	if w.yes && res.ID != "" {
		c.log.Info("dead letters", "action", action, "id", res.ID, "topic", cfg.Topic, "letters", res.Letters, "done", res.Done())
	}
	if err != nil && res.Scanned == 0 {
		return c.explain(ctx, &w.dltFlags, err)
	}
	return errors.Join(err, c.printWork(&res, action, w.asJSON))
}

func (c *call) doWork(ctx context.Context, cfg consumer.ReplayConfig, do worker) (res consumer.ReplayResult, err error) {
	bar := newWorkBar(c.Err)
	defer bar.done()
	cfg.OnProgress = bar.show
	if !cfg.Execute {
		return do(ctx, cfg)
	}
	// What the source topic took must go back, so that only the topics' own limits count.
	pub, err := kafka.NewPublisher(kafka.Config{Brokers: c.cfg.Kafka, ClientID: "millrace-dlt", MaxMessageBytes: maxLetterBytes})
	if err != nil {
		return res, err
	}
	cfg.Publisher = pub
	res, err = do(ctx, cfg)
	return res, errors.Join(err, pub.Close())
}

// parkingTopic makes sure that there is one.
func (c *call) parkingTopic(ctx context.Context, cfg *consumer.ReplayConfig, create bool) error {
	adm, err := kafka.NewAdmin(kafka.Config{Brokers: c.cfg.Kafka, ClientID: "millrace-dlt"})
	if err != nil {
		return err
	}
	defer adm.Close()
	name := consumer.ParkingTopic(cfg.Source)
	found, err := adm.Describe(ctx, name, cfg.Topic)
	if err != nil {
		return err
	}
	if _, there := found[name]; there {
		return nil
	}
	letters, there := found[cfg.Topic]
	if !there {
		return fmt.Errorf("topic %s: %w", cfg.Topic, kafka.ErrNoTopic)
	}
	if !create {
		return fmt.Errorf("topic %s: %w: make it with %d partitions, or give --create-topic", name, kafka.ErrNoTopic, letters.Partitions)
	}
	return adm.EnsureTopics(ctx, kafka.Topic{
		Name: name, Partitions: letters.Partitions, MaxMessageBytes: letters.MaxMessageBytes, Retention: -1, NoDeadLetters: true,
	})
}

// workReport is what the commands that change something print with --json.
type workReport struct {
	ID         string       `json:"id"` // dlt-replay-id of what was sent
	Action     string       `json:"action"`
	DryRun     bool         `json:"dry_run"`
	Letters    int          `json:"letters"`  // open ones that were met
	Replayed   int          `json:"replayed"` // or would be, in a dry run
	Skipped    int          `json:"skipped"`
	Discarded  int          `json:"discarded"`
	Parked     int          `json:"parked"`
	Duplicates int          `json:"duplicates"`
	Filtered   int          `json:"filtered"`
	Capped     int          `json:"capped"`
	Refused    int          `json:"refused"`
	Held       int          `json:"held"`
	Stopped    []stopReport `json:"stopped"`
}

type stopReport struct {
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Reason    string `json:"reason"`
}

func (c *call) printWork(res *consumer.ReplayResult, action consumer.Action, asJSON bool) error {
	if asJSON {
		r := workReport{
			ID: res.ID, Action: string(action), DryRun: res.DryRun, Letters: res.Letters, Replayed: res.Replayed, Skipped: res.Skipped,
			Discarded: res.Discarded, Parked: res.Parked, Duplicates: res.Duplicates, Filtered: res.Filtered, Capped: res.Capped,
			Refused: res.Refused, Held: res.Held, Stopped: []stopReport{},
		}
		for _, s := range res.Stopped {
			r.Stopped = append(r.Stopped, stopReport(s))
		}
		return printJSON(c.Out, r)
	}
	_, err := fmt.Fprintln(c.Out, workSentence(res, action))
	for _, s := range res.Stopped {
		fmt.Fprintf(c.Err, "partition %d stopped at offset %d: %s: park or skip that letter, or give --by-key\n", s.Partition, s.Offset, oneLine(s.Reason))
	}
	if res.Capped > 0 {
		fmt.Fprintln(c.Err, "letters that were replayed too often stay, as there is no parking topic: see millrace dlt park --help")
	}
	if res.DryRun && res.Done() > 0 {
		fmt.Fprintln(c.Err, "nothing was changed: give --yes to do it")
	}
	return err
}

// workSentence says in words what was done, or would be.
func workSentence(res *consumer.ReplayResult, action consumer.Action) string {
	verbs := map[consumer.Action][2]string{
		consumer.ActionReplay: {"replayed", "would replay"}, consumer.ActionSkip: {"skipped", "would skip"},
		consumer.ActionDiscard: {"gave up", "would give up"}, consumer.ActionPark: {"parked", "would park"},
	}[action]
	verb, done := verbs[0], res.Done()
	if res.DryRun {
		verb = verbs[1]
	}
	var more []string
	if action == consumer.ActionReplay && res.Parked > 0 {
		done -= res.Parked
		more = append(more, fmt.Sprintf("%d parked as replayed too often", res.Parked))
	}
	for _, part := range []struct {
		n    int
		what string
	}{
		{res.Filtered, "not chosen"}, {res.Capped, "replayed too often"}, {res.Refused, "refused"}, {res.Held, "held back behind those"},
		{res.Duplicates, "of these second copies"},
	} {
		if part.n > 0 {
			more = append(more, fmt.Sprintf("%d %s", part.n, part.what))
		}
	}
	line := fmt.Sprintf("%s %d of %s", verb, done, plural(res.Letters, "open dead letter"))
	if len(more) > 0 {
		line += " (" + strings.Join(more, ", ") + ")"
	}
	return line
}

// workBar is the progress bar of a terminal; elsewhere it shows nothing.
type workBar struct {
	w   io.Writer
	bar *progressbar.ProgressBar
}

func newWorkBar(w io.Writer) *workBar {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &workBar{}
	}
	return &workBar{w: w}
}

// show is a ReplayConfig's OnProgress. The bar counts offsets.
func (b *workBar) show(res consumer.ReplayResult) {
	if b.w == nil {
		return
	}
	if b.bar == nil {
		b.bar = progressbar.NewOptions64(res.Total, progressbar.OptionSetWriter(b.w), progressbar.OptionClearOnFinish(),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionThrottle(100*time.Millisecond))
	}
	b.bar.Describe(fmt.Sprintf("%s, %d done", res.Action, res.Done()))
	_ = b.bar.Set64(res.Scanned)
}

func (b *workBar) done() {
	if b.bar != nil {
		_ = b.bar.Finish()
	}
}
