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

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
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
	f.IntVar(&w.limit, "limit", 0, "work on at most this many, 0 for all")
	f.StringVar(&w.note, "note", "", "why, for the audit log")
	f.BoolVar(&w.noAudit, "no-audit", false, "write no audit log, and let others work on the topic at the same time")
	f.BoolVar(&w.yes, "yes", false, "do it")
	w.rate = -1
}

func (w *workFlags) addSending(f *pflag.FlagSet) {
	f.IntVar(&w.rate, "rate", 50, "dead letters sent per second, -1 for no limit")
}

// unfiltered reports whether w chooses all open dead letters.
func (w *workFlags) unfiltered() bool {
	return len(w.partitions) == 0 && w.from == 0 && w.to == 0 && w.since == "" && w.until == "" && !w.hasKey() && w.group == "" &&
		len(w.dispositions) == 0 && w.error == ""
}

// config checks the flags; its error joins all that is wrong with them.
func (w *workFlags) config(c *call) (deadletter.Config, error) {
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
			"give --postgres, MILLRACE_POSTGRES or DATABASE_URL, or --no-audit to record nothing"))
	}
	cfg.Rate, cfg.Max, cfg.MaxReplays = w.rate, w.limit, w.maxReplays
	cfg.ByKey, cfg.AllGroups, cfg.Targets = w.byKey, w.allGroups, w.targets
	cfg.Actor, cfg.Note = actor(), w.note
	return cfg, errors.Join(errs...)
}

// maxDeadLetterBytes is more than any usual topic accepts.
const maxDeadLetterBytes = 64 << 20

func (c *call) work(ctx context.Context, w *workFlags, action deadletter.Action) (err error) {
	cfg, err := w.config(c)
	if err != nil {
		return usageError{err}
	}
	d, err := c.openDeadLetters(ctx, w.noAudit)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.configure(&cfg); err != nil {
		return err
	}
	if action == deadletter.ActionPark && w.yes {
		if err := c.parkingTopic(ctx, cfg.Source, w.deadLetterTopic(), w.createTopic); err != nil {
			return err
		}
	}
	res, err := c.doWork(ctx, w, action, d.reader, cfg)
	if w.yes && res.ID != "" {
		c.log.Info("dead letters", "action", action, "id", res.ID, "topic", w.deadLetterTopic(), "open", res.Open, "resolved", res.Resolved())
	}
	if err != nil && res.Scanned == 0 {
		return c.explain(ctx, &w.dltFlags, err)
	}
	return errors.Join(err, c.printWork(&res, action, w.asJSON))
}

func (c *call) doWork(ctx context.Context, w *workFlags, action deadletter.Action, reader deadletter.Reader, cfg deadletter.Config) (res deadletter.Result, err error) {
	bar := newWorkBar(c.Err)
	defer bar.done()
	cfg.OnProgress = bar.show
	topic := w.deadLetterTopic()
	switch {
	case !w.yes:
		return deadletter.Preview(ctx, action, topic, reader, cfg)
	case action == deadletter.ActionSkip:
		return deadletter.Skip(ctx, topic, reader, cfg)
	case action == deadletter.ActionDiscard:
		return deadletter.Discard(ctx, topic, reader, cfg)
	}
	// What the source topic accepted must be sent back, so only the topics' own limits count.
	pub, err := kafka.NewPublisher(kafka.Config{Brokers: c.cfg.Kafka, ClientID: "millrace-dlt", MaxMessageBytes: maxDeadLetterBytes})
	if err != nil {
		return res, err
	}
	if action == deadletter.ActionPark {
		res, err = deadletter.Park(ctx, topic, reader, pub, cfg)
	} else {
		res, err = deadletter.Replay(ctx, topic, reader, pub, cfg)
	}
	return res, errors.Join(err, pub.Close())
}

// parkingTopic makes sure that the parking topic of source exists.
func (c *call) parkingTopic(ctx context.Context, source, deadLetterTopic string, create bool) error {
	adm, err := kafka.NewAdmin(kafka.Config{Brokers: c.cfg.Kafka, ClientID: "millrace-dlt"})
	if err != nil {
		return err
	}
	defer adm.Close()
	name := deadletter.ParkingTopic(source)
	found, err := adm.Describe(ctx, name, deadLetterTopic)
	if err != nil {
		return err
	}
	if _, there := found[name]; there {
		return nil
	}
	like, there := found[deadLetterTopic]
	if !there {
		return fmt.Errorf("topic %s: %w", deadLetterTopic, kafka.ErrNoTopic)
	}
	if !create {
		return fmt.Errorf("topic %s: %w: create it with %d partitions, or give --create-topic", name, kafka.ErrNoTopic, like.Partitions)
	}
	return adm.EnsureTopics(ctx, kafka.Topic{
		Name: name, Partitions: like.Partitions, MaxMessageBytes: like.MaxMessageBytes, Retention: -1, NoDeadLetters: true,
	})
}

// workReport is what the commands that change something print with --json.
type workReport struct {
	ID         string       `json:"id"` // dlt-replay-id of what was sent
	Action     string       `json:"action"`
	DryRun     bool         `json:"dry_run"`
	Open       int          `json:"open"`     // open dead letters that were met
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

func (c *call) printWork(res *deadletter.Result, action deadletter.Action, asJSON bool) error {
	if asJSON {
		r := workReport{
			ID: res.ID, Action: string(action), DryRun: res.Preview, Open: res.Open, Replayed: res.Replayed, Skipped: res.Skipped,
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
		fmt.Fprintf(c.Err, "partition %d stopped at offset %d: %s: park or skip that dead letter, or give --by-key\n", s.Partition, s.Offset, oneLine(s.Reason))
	}
	if res.Capped > 0 {
		fmt.Fprintln(c.Err, "dead letters that were replayed too often stay open, as there is no parking topic: see millrace dlt park --help")
	}
	if res.Preview && res.Resolved() > 0 {
		fmt.Fprintln(c.Err, "nothing was changed: give --yes to do it")
	}
	return err
}

// workSentence says what was done, or would be.
func workSentence(res *deadletter.Result, action deadletter.Action) string {
	verbs := map[deadletter.Action][2]string{
		deadletter.ActionReplay: {"replayed", "would replay"}, deadletter.ActionSkip: {"skipped", "would skip"},
		deadletter.ActionDiscard: {"discarded", "would discard"}, deadletter.ActionPark: {"parked", "would park"},
	}[action]
	verb, done := verbs[0], res.Resolved()
	if res.Preview {
		verb = verbs[1]
	}
	var more []string
	if action == deadletter.ActionReplay && res.Parked > 0 {
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
	line := fmt.Sprintf("%s %d of %s", verb, done, plural(res.Open, "open dead letter"))
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

// show is a deadletter.Config's OnProgress. The bar counts offsets.
func (b *workBar) show(res deadletter.Result) {
	if b.w == nil {
		return
	}
	if b.bar == nil {
		b.bar = progressbar.NewOptions64(res.Total, progressbar.OptionSetWriter(b.w), progressbar.OptionClearOnFinish(),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionThrottle(100*time.Millisecond))
	}
	b.bar.Describe(fmt.Sprintf("%s, %d done", res.Action, res.Resolved()))
	_ = b.bar.Set64(res.Scanned)
}

func (b *workBar) done() {
	if b.bar != nil {
		_ = b.bar.Finish()
	}
}
