package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
	"github.com/millrace-go/millrace/outbox/pgstore"
)

// parkedFlags are those that the parked commands share.
type parkedFlags struct {
	topic, key string
	position   int64
	asJSON     bool
}

var parkedUse = config.Use{Required: []config.Name{config.Postgres}, Optional: []config.Name{config.RelayName}}

func (p *parkedFlags) add(f *pflag.FlagSet) {
	f.StringVar(&p.topic, "topic", "", "only messages of this topic (default all)")
	f.StringVar(&p.key, "key", "", "only messages of this key (default all)")
	f.BoolVar(&p.asJSON, "json", false, "print JSON")
}

func (p *parkedFlags) addPosition(f *pflag.FlagSet) {
	f.Int64Var(&p.position, "position", 0, "the message's position, as list prints it")
	f.BoolVar(&p.asJSON, "json", false, "print JSON")
}

func (a *app) parked() *cobra.Command {
	return group("parked", "List parked messages, and decide what becomes of them",
		a.parkedList(), a.parkedShow(), a.parkedRedrive(), a.parkedSkip(), a.parkedDiscard())
}

// openParked returns the store of the parked messages and what closes it.
func (c *call) openParked(ctx context.Context) (*pgstore.Store, func() error, error) {
	db, err := reachPostgres(ctx, c.cfg.Postgres)
	if err != nil {
		return nil, nil, err
	}
	store, err := pgstore.New(db, pgstore.Config{})
	if err != nil {
		return nil, nil, err
	}
	if err := store.Check(ctx); err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	relays, err := store.Relays(ctx)
	if err == nil && len(relays) > 0 && !slices.Contains(relays, c.cfg.RelayName) {
		err = fmt.Errorf("no relay %q has run on this outbox: give --relay-name, one of %s", c.cfg.RelayName, strings.Join(relays, ", "))
	}
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return store, db.Close, nil
}

func (a *app) parkedList() *cobra.Command {
	var p parkedFlags
	var done bool
	var limit int
	return a.command(spec{
		use: "list", short: "List parked messages",
		long: `Lists the messages that the broker did not take as they are, and behind each the
later messages of its key, which wait for it. STATE is parked; redrive, skip or
discard once decided and not yet carried out; redriven, skipped or discarded after.`,
		example: `  millrace parked list --postgres postgres://app@localhost/app
  millrace parked list --topic order.v1 --key 4711 --done --json`,
		settings: parkedUse,
		flags: func(f *pflag.FlagSet) {
			p.add(f)
			f.BoolVar(&done, "done", false, "also those that were redriven, skipped or discarded")
			f.IntVar(&limit, "limit", 1000, "maximum number of messages, 0 for all")
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			if limit < 0 {
				return usageError{fmt.Errorf("--limit: is %d, must not be negative", limit)}
			}
			if limit == 0 {
				limit = math.MaxInt32
			}
			store, closeStore, err := c.openParked(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = closeStore() }()
			all, err := store.Parked(ctx, pgstore.ParkedFilter{Relay: c.cfg.RelayName, Topic: p.topic, Key: p.key, Done: done, Limit: limit})
			if err != nil {
				return err
			}
			return c.printParked(all, p.asJSON)
		},
	})
}

func (c *call) printParked(all []pgstore.ParkedMessage, asJSON bool) error {
	if asJSON {
		if all == nil {
			all = []pgstore.ParkedMessage{}
		}
		return printJSON(c.Out, all)
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(c.Out, "no parked messages")
		return err
	}
	rows := [][]string{{"POSITION", "STATE", "PARKED", "ATTEMPTS", "TOPIC", "KEY", "TYPE", "BYTES", "REASON"}}
	for _, m := range all {
		rows = append(rows, []string{
			count(m.Position), m.State, m.FirstAt.UTC().Format(time.RFC3339), strconv.Itoa(m.Attempts),
			m.Topic, strconv.Quote(m.Key), m.EventType, strconv.Itoa(m.Bytes), oneLine(m.Reason),
		})
	}
	return printTable(c.Out, rows)
}
