package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/user"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
)

// decideFlags are those of the commands that decide.
type decideFlags struct {
	parkedFlags
	yes  bool
	note string
}

func (d *decideFlags) addDecision(f *pflag.FlagSet) {
	f.StringVar(&d.note, "note", "", "why, for the audit")
	f.BoolVar(&d.yes, "yes", false, "do it")
}

// decisionReport is what the deciding commands print with --json.
type decisionReport struct {
	DryRun bool          `json:"dry_run"`
	Action string        `json:"action"`
	Relay  string        `json:"relay"`
	Keys   []keyDecision `json:"keys"`
}

// keyDecision is what becomes of the parked messages of one key.
type keyDecision struct {
	Topic     string  `json:"topic"`
	Key       string  `json:"key"`
	Positions []int64 `json:"positions"`      // that the decision concerns
	Skip      int64   `json:"skip,omitempty"` // the one of them that is given up
	Reason    string  `json:"reason"`         // of the first
}

func (a *app) parkedRedrive() *cobra.Command {
	var d decideFlags
	return a.command(spec{
		use: "redrive", short: "Publish parked messages again, in order",
		long: `Has the relay publish the parked messages of each chosen key again, in order.
What the broker still does not take is parked again, with all that follows it.
The leading relay carries it out within seconds; if none runs, the next one does
at its start. Without --yes it only says what would happen.`,
		example: `  millrace parked redrive --topic order.v1
  millrace parked redrive --topic order.v1 --key 4711 --note "limit raised" --yes`,
		settings: parkedUse,
		flags:    func(f *pflag.FlagSet) { d.add(f); d.addDecision(f) },
		run: func(ctx context.Context, c *call, _ []string) error {
			return c.decide(ctx, pgstore.Redrive, &d)
		},
	})
}

func (a *app) parkedSkip() *cobra.Command {
	var d decideFlags
	return a.command(spec{
		use: "skip", short: "Give one parked message up and publish those behind it",
		long: `Gives the message at --position up for good and has the relay publish the other
parked messages of its key, in order. The message stays in the log and in
parked list --done. Without --yes it only says what would happen.`,
		example: `  millrace parked skip --position 4711
  millrace parked skip --position 4711 --note "test data" --yes`,
		settings: parkedUse,
		flags:    func(f *pflag.FlagSet) { d.addPosition(f); d.addDecision(f) },
		run: func(ctx context.Context, c *call, _ []string) error {
			if d.position <= 0 {
				return usageError{errors.New("--position: is missing: give one that parked list prints")}
			}
			return c.decide(ctx, pgstore.Skip, &d)
		},
	})
}

func (a *app) parkedDiscard() *cobra.Command {
	var d decideFlags
	return a.command(spec{
		use: "discard", short: "Give all parked messages of a key or topic up",
		long: `Gives all parked messages of the chosen keys up for good; later messages of the
keys flow again. The messages stay in the log and in parked list --done. Without
--yes it only says what would happen.`,
		example: `  millrace parked discard --topic order.v1 --key 4711
  millrace parked discard --topic no-such-topic --note "wrong topic" --yes`,
		settings: parkedUse,
		flags:    func(f *pflag.FlagSet) { d.add(f); d.addDecision(f) },
		run: func(ctx context.Context, c *call, _ []string) error {
			if d.topic == "" && d.key == "" {
				return usageError{errors.New("discard: give --topic or --key: it does not give everything up at once")}
			}
			return c.decide(ctx, pgstore.Discard, &d)
		},
	})
}

// decide finds the keys that d selects, and if d says yes records the decision
// for each.
func (c *call) decide(ctx context.Context, action pgstore.Action, d *decideFlags) error {
	store, closeStore, err := c.openParked(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = closeStore() }()
	keys, err := c.undecided(ctx, store, d)
	if err != nil {
		return err
	}
	report := decisionReport{DryRun: !d.yes, Action: string(action), Relay: c.cfg.RelayName, Keys: []keyDecision{}}
	for _, k := range keys {
		k.Skip = d.position
		if d.yes {
			k.Positions, err = store.Decide(ctx, pgstore.Decision{
				Relay: c.cfg.RelayName, Key: outbox.ParkedKey{Topic: k.Topic, Key: k.Key},
				Action: action, Position: d.position, Actor: actor(), Note: d.note,
			})
			if errors.Is(err, pgstore.ErrNotParked) {
				continue // somebody else has decided meanwhile
			}
			if err != nil {
				return errors.Join(err, c.printDecision(&report, d.asJSON))
			}
		}
		report.Keys = append(report.Keys, k)
	}
	if len(report.Keys) == 0 {
		return fmt.Errorf("relay %q has no parked message that matches: see millrace parked list", c.cfg.RelayName)
	}
	return c.printDecision(&report, d.asJSON)
}

// undecided groups the parked messages that d selects by key, in the order of
// their first positions. A position selects its whole key.
func (c *call) undecided(ctx context.Context, store *pgstore.Store, d *decideFlags) ([]keyDecision, error) {
	f := pgstore.ParkedFilter{Relay: c.cfg.RelayName, Topic: d.topic, Key: d.key, Limit: math.MaxInt32}
	if d.position > 0 {
		m, err := c.findParked(ctx, store, d.position)
		if err != nil {
			return nil, err
		}
		if m.State != "parked" {
			return nil, fmt.Errorf("the message at position %d is no longer parked, its state is %s", d.position, m.State)
		}
		f.Topic, f.Key = m.Topic, m.Key
	}
	all, err := store.Parked(ctx, f)
	if err != nil {
		return nil, err
	}
	var keys []keyDecision
	index := map[outbox.ParkedKey]int{}
	for _, m := range all {
		if m.State != "parked" {
			continue
		}
		k := outbox.ParkedKey{Topic: m.Topic, Key: m.Key}
		i, known := index[k]
		if !known {
			i = len(keys)
			index[k], keys = i, append(keys, keyDecision{Topic: m.Topic, Key: m.Key, Reason: m.Reason})
		}
		keys[i].Positions = append(keys[i].Positions, m.Position)
	}
	return keys, nil
}

func (c *call) printDecision(r *decisionReport, asJSON bool) error {
	if asJSON {
		return printJSON(c.Out, r)
	}
	rows := [][]string{{"TOPIC", "KEY", "MESSAGES", "POSITIONS", "REASON OF THE FIRST"}}
	messages := 0
	for _, k := range r.Keys {
		messages += len(k.Positions)
		span := fmt.Sprintf("%d to %d", slices.Min(k.Positions), slices.Max(k.Positions))
		if len(k.Positions) == 1 {
			span = count(k.Positions[0])
		}
		rows = append(rows, []string{k.Topic, strconv.Quote(k.Key), strconv.Itoa(len(k.Positions)), span, oneLine(k.Reason)})
	}
	if err := printTable(c.Out, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintln(c.Out, r.sentence(messages))
	if r.DryRun {
		fmt.Fprintln(c.Err, "nothing was changed: give --yes to do it")
	}
	return err
}

// sentence says in words what becomes of the messages.
func (r *decisionReport) sentence(messages int) string {
	modal := "the relay will"
	if r.DryRun {
		modal = "would"
	}
	switch pgstore.Action(r.Action) {
	case pgstore.Skip:
		return fmt.Sprintf("%s give position %d up and publish the other %d of its key, in order", modal, r.Keys[0].Skip, messages-1)
	case pgstore.Discard:
		return fmt.Sprintf("%s give %s of %s up", modal, plural(messages, "message"), plural(len(r.Keys), "key"))
	}
	return fmt.Sprintf("%s publish %s of %s again, in order", modal, plural(messages, "message"), plural(len(r.Keys), "key"))
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// actor names who decides, for the audit: the user of this process and the host.
func actor() string {
	name := os.Getenv("USER")
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return cmp.Or(name, "unknown") + "@" + host
}
