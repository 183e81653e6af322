package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/adapters/notifier/codec"
	"github.com/millrace-go/millrace/adapters/notifier/views"
	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
	"github.com/millrace-go/millrace/outbox/pgstore"
)

// rebuildFlags are the flags of rebuild as they were given.
type rebuildFlags struct {
	from, to           int64
	topic              string
	batch              int
	abort, yes, asJSON bool
}

func (r *rebuildFlags) add(f *pflag.FlagSet) {
	f.Int64Var(&r.from, "from", 0, "first position to read (default the first of the log)")
	f.Int64Var(&r.to, "to", 0, "last position to read (default the end of the log)")
	f.StringVar(&r.topic, "topic", codec.TopicNotification, "topic of the view's events")
	f.IntVar(&r.batch, "batch", 2000, "entries of the log in one pipeline")
	f.BoolVar(&r.abort, "abort", false, "remove an unfinished generation and what is left of former ones")
	f.BoolVar(&r.yes, "yes", false, "do it")
	f.BoolVar(&r.asJSON, "json", false, "print one JSON object")
}

func (a *app) rebuild() *cobra.Command {
	var r rebuildFlags
	cmd := a.command(spec{
		use: "rebuild VIEW", short: "Build a view in Redis anew from the log",
		long: `Folds the events of the log into a new generation of a view of the reference
service, beside the one that answers, and then lets the new one answer. The
service may run on: it writes new events to both. The former generation is
removed at the end. The views are ` + viewNames() + `.

Without --yes it only says what it would do. If it is interrupted, the same
command goes on where it stopped; --abort removes what it has built. With --to
before the end of the log the generation stays unfinished and does not answer;
a later run without --to goes on with it.`,
		example: `  millrace rebuild notification
  millrace rebuild notification --yes
  millrace rebuild counters --from 120000 --yes --json
  millrace rebuild recipient --abort --yes`,
		settings: config.Use{Required: []config.Name{config.Postgres, config.Redis}},
		flags:    r.add,
		run: func(ctx context.Context, c *call, args []string) error {
			rdb, err := c.openRedis()
			if err != nil {
				return err
			}
			defer rdb.Close()
			p, err := viewNamed(rdb, args[0])
			if err != nil {
				return err
			}
			if err := rdb.Ping(ctx).Err(); err != nil {
				return fmt.Errorf("redis at %s does not answer: %w: start it, or correct --redis", rdb.Options().Addr, err)
			}
			return c.withStore(ctx, func(store *pgstore.Store) error { return c.rebuildView(ctx, store, p, &r) })
		},
	})
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageError{fmt.Errorf("rebuild needs the name of one view: %s", viewNames())}
		}
		return nil
	}
	return cmd
}

func viewNames() string {
	return strings.Join([]string{views.Status, views.Recipients, views.Counters}, ", ")
}

// openRedis returns a client with patience: a batch may take a while. It does not
// dial.
func (c *call) openRedis() (*redis.Client, error) {
	opt, err := redis.ParseURL(c.cfg.Redis)
	if err != nil {
		return nil, usageError{errors.New("redis: is no Redis URL: give redis://host:6379/0")}
	}
	return redis.NewClient(opt), nil
}

func viewNamed(rdb redis.Cmdable, name string) (views.Projection, error) {
	all, err := views.New(rdb, views.Config{})
	if err != nil {
		return views.Projection{}, err
	}
	known := all.Projections()
	i := slices.IndexFunc(known, func(p views.Projection) bool { return p.Name() == name })
	if i < 0 {
		return views.Projection{}, usageError{fmt.Errorf("there is no view %q: the views are %s", name, viewNames())}
	}
	return known[i], nil
}

func (c *call) rebuildView(ctx context.Context, store *pgstore.Store, p views.Projection, r *rebuildFlags) error {
	h, err := store.History(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	floor, err := logFloor(ctx, store)
	if err != nil {
		return err
	}
	bar := newRebuildBar(c.Err)
	defer bar.done()
	rebuilder, err := views.NewRebuilder(p, h, views.RebuildConfig{
		From: r.from, To: r.to, Floor: floor, Topic: r.topic, Batch: r.batch, OnProgress: bar.show,
	})
	switch {
	case err != nil:
		return usageError{err}
	case r.abort:
		return c.abortRebuild(ctx, rebuilder, r)
	case !r.yes:
		res, err := rebuilder.Plan(ctx)
		return c.reportRebuild(rebuildReport{res, true}, r, err)
	}
	res, err := rebuilder.Run(ctx)
	bar.done()
	c.log.Info("rebuild", "view", res.View, "generation", res.Generation, "events", res.Events, "from", res.From, "next", res.Next, "to", res.To, "flipped", res.Flipped)
	if err != nil && res.Generation != "" && !res.Flipped {
		fmt.Fprintln(c.Err, "to go on, give the same command again; to give it up, give --abort --yes")
	}
	return c.reportRebuild(rebuildReport{res, false}, r, err)
}

// logFloor is the position from which on nothing was dropped: the beginning of the
// unbroken row of partitions that ends with the newest.
func logFloor(ctx context.Context, store *pgstore.Store) (int64, error) {
	all, err := store.Partitions(ctx)
	if err != nil {
		return 0, err
	}
	var floor int64
	for i := len(all) - 1; i >= 0; i-- {
		switch p := all[i]; {
		case p.To == 0: // the default partition
		case i == len(all)-1 || p.To == floor:
			floor = p.From
		default:
			return floor, nil
		}
	}
	return floor, nil
}
