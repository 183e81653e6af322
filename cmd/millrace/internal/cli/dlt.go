package cli

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
)

// dltFlags are those that all dlt commands have: which dead letters, and how to print.
type dltFlags struct {
	topic, dltTopic string
	partitions      []int32
	from, to        int64
	since, until    string
	key, group      string
	dispositions    []string
	error           string
	limit           int
	asJSON          bool
	hasKey          func() bool
}

var dltUse = config.Use{Required: []config.Name{config.Kafka}, Optional: []config.Name{config.Postgres}}

func (d *dltFlags) addTopic(f *pflag.FlagSet) {
	f.StringVar(&d.topic, "topic", "", "source topic, without .dlt; required")
	f.StringVar(&d.dltTopic, "dlt-topic", "", "dead-letter topic, such as orders-dlt or orders.DLT of Spring Kafka (default the source with .dlt)")
	f.BoolVar(&d.asJSON, "json", false, "print JSON")
}

func (d *dltFlags) addFilter(f *pflag.FlagSet) {
	f.Int32SliceVar(&d.partitions, "partition", nil, "only these `partitions` of the dead-letter topic")
	f.Int64Var(&d.from, "from-offset", 0, "only dead letters from this offset on")
	f.Int64Var(&d.to, "to-offset", 0, "only dead letters before this offset, 0 for no bound")
	f.StringVar(&d.since, "since", "", "only failures since this time, or this long ago: 2026-11-22T10:00:00Z or 2h")
	f.StringVar(&d.until, "until", "", "only failures before this time, or before this long ago")
	f.StringVar(&d.key, "key", "", "only dead letters of this key")
	f.StringVar(&d.group, "group", "", "only dead letters of the consumer group that failed")
	f.StringSliceVar(&d.dispositions, "disposition", nil, "only dead letters with one of these dispositions: decode, fatal, exhausted, panic, timeout, quarantined")
	f.StringVar(&d.error, "error", "", "only dead letters whose error message matches this regular expression")
	d.hasKey = func() bool { return f.Changed("key") }
}

// deadLetterTopic is the topic that the command works on.
func (d *dltFlags) deadLetterTopic() string {
	if d.dltTopic != "" {
		return d.dltTopic
	}
	return deadletter.Topic(d.topic)
}

// needTopic refuses to guess whose dead letters are meant.
func (d *dltFlags) needTopic() error {
	if d.topic == "" {
		return errors.New("--topic: must be given: the source topic, without .dlt")
	}
	return nil
}

// config is what all work on dead letters starts from; its error joins all that is
// wrong with the flags.
func (d *dltFlags) config(now time.Time) (deadletter.Config, error) {
	cfg := deadletter.Config{Source: d.topic}
	f := deadletter.Filter{Partitions: d.partitions, FromOffset: d.from, ToOffset: d.to, Group: d.group}
	errs := []error{d.needTopic()}
	if d.from < 0 || d.to < 0 || d.to > 0 && d.to <= d.from {
		errs = append(errs, errors.New("--from-offset, --to-offset: must not be negative, and the second must be the higher one"))
	}
	if d.limit < 0 {
		errs = append(errs, fmt.Errorf("--limit: is %d, must not be negative", d.limit))
	}
	if d.hasKey != nil && d.hasKey() {
		f.Key = []byte(d.key)
	}
	for _, name := range d.dispositions {
		if !slices.Contains(dispositions, deadletter.Disposition(name)) {
			errs = append(errs, fmt.Errorf("--disposition: is %q: give decode, fatal, exhausted, panic, timeout or quarantined", name))
		}
		f.Dispositions = append(f.Dispositions, deadletter.Disposition(name))
	}
	if d.error != "" {
		var err error
		if f.ErrorPattern, err = regexp.Compile(d.error); err != nil {
			errs = append(errs, fmt.Errorf("--error: is not a regular expression: %w", err))
		}
	}
	errs = append(errs, moment("--since", d.since, now, &f.Since), moment("--until", d.until, now, &f.Until))
	cfg.Filter = f
	return cfg, errors.Join(errs...)
}

// dispositions are all that a filter may name.
var dispositions = []deadletter.Disposition{
	deadletter.DispositionDecode, deadletter.DispositionFatal, deadletter.DispositionExhausted,
	deadletter.DispositionPanic, deadletter.DispositionTimeout, deadletter.DispositionQuarantined,
}

// moment reads a time, or how long before now it was.
func moment(flag, v string, now time.Time, at *time.Time) error {
	if v == "" {
		return nil
	}
	if ago, err := time.ParseDuration(v); err == nil && ago >= 0 {
		*at = now.Add(-ago)
		return nil
	}
	t, err := time.Parse(time.RFC3339, v)
	if err != nil {
		return fmt.Errorf("%s: is %q: give a time such as 2026-11-22T10:00:00Z, or how long ago, such as 2h", flag, v)
	}
	*at = t
	return nil
}

func (a *app) dlt() *cobra.Command {
	return group("dlt", "List, show and resolve dead letters",
		a.dltList(), a.dltShow(), a.dltStats(), a.dltExport(),
		a.dltReplay(), a.dltSkip(), a.dltDiscard(), a.dltPark(), a.dltAudit())
}
