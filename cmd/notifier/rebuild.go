package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/cache/rebuild"
	"github.com/millrace-go/millrace/adapters/notifier/codec"
	"github.com/millrace-go/millrace/adapters/notifier/postgres"
	"github.com/millrace-go/millrace/adapters/notifier/views"
	"github.com/millrace-go/millrace/outbox/pgstore"
)

// rebuildUsage has one parameter: the names of the views.
const rebuildUsage = `notifier rebuild VIEW [flags]

Folds the events of the outbox's log into a new generation of a view, beside the
generation that answers, and then lets the new one answer. The service may run on
meanwhile: it writes new events to both. The former generation is removed at the
end. The views are %s.

Without --yes it only says what it would do. If it is interrupted, the same
command goes on where it stopped; --abort removes what it has built. With --to
before the end of the log the generation stays unfinished and does not answer; a
later run without --to finishes it.

  notifier rebuild notification
  notifier rebuild notification --yes
  notifier rebuild counters --from 120000 --yes --json
  notifier rebuild recipient --abort --yes

Exit codes: 0 ok, 1 failure, 2 wrong usage, 130 interrupted by SIGINT, 143 by SIGTERM.

`

// rebuildFlags are the flags of rebuild as they were given.
type rebuildFlags struct {
	postgres, redis    string
	from, to           int64
	topic              string
	batch              int
	abort, yes, asJSON bool
}

// usageError makes the exit code exitUsage.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// rebuildView runs `notifier rebuild`.
func rebuildView(ctx context.Context, args []string, p Process) int {
	err := runRebuild(ctx, args, p)
	var usage usageError
	var interrupted Interrupted
	switch {
	case err == nil:
		return exitOK
	case errors.As(context.Cause(ctx), &interrupted):
		if errors.Is(err, context.Canceled) {
			err = interrupted
		}
		report(p.Err, err)
		return 128 + int(interrupted.Signal)
	case errors.As(err, &usage):
		report(p.Err, err)
		fmt.Fprintln(p.Err, "notifier: see notifier rebuild --help")
		return exitUsage
	}
	report(p.Err, err)
	return exitFailed
}

func runRebuild(ctx context.Context, args []string, p Process) error {
	f, name, err := parseRebuild(args, p)
	if errors.Is(err, pflag.ErrHelp) {
		return nil
	}
	if err != nil {
		return usageError{err}
	}
	opt, err := redis.ParseURL(f.redis)
	if err != nil {
		return usageError{errors.New("redis: must be a Redis URL such as redis://host:6379/0")}
	}
	rdb := redis.NewClient(opt)
	defer rdb.Close()
	if !slices.Contains(views.Names(), name) {
		return usageError{fmt.Errorf("there is no view %q: the views are %s", name, strings.Join(views.Names(), ", "))}
	}
	if err := rdb.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("redis at %s does not answer: %w: start it, or correct --redis", opt.Addr, err)
	}
	db, err := pgstore.Open(f.postgres, pgstore.OpenConfig{})
	if err != nil {
		return usageError{fmt.Errorf("postgres: %w", err)}
	}
	defer db.Close()
	store, err := pgstore.New(db, pgstore.Config{})
	if err != nil {
		return err
	}
	defer store.Close()
	entries, closeEntries, err := openEntries(f.redis)
	if err != nil {
		return err
	}
	defer closeEntries()
	v, err := views.New(rdb, entries, postgres.NewReader(db), views.Config{})
	if err != nil {
		return err
	}
	view, err := v.Rebuildable(name, f.topic)
	if err != nil {
		return err
	}
	return f.build(ctx, p, store, v, view)
}

// openEntries makes the cache that the statuses are written through, with the
// longest waits that it allows: nobody waits for this command.
func openEntries(url string) (entries *cache.Store, closeAll func(), err error) {
	opt, err := redis.ParseURL(url)
	if err != nil {
		return nil, nil, err
	}
	cache.Harden(opt)
	opt.DialTimeout, opt.ReadTimeout, opt.WriteTimeout, opt.PoolTimeout = time.Second, time.Second, time.Second, time.Second
	rdb := redis.NewClient(opt)
	entries, err = cache.NewStore(rdb, cache.StoreConfig{})
	if err != nil {
		_ = rdb.Close()
		return nil, nil, err
	}
	return entries, func() { _, _ = entries.Close(), rdb.Close() }, nil
}

// parseRebuild reads the flags and the name of the view.
func parseRebuild(args []string, p Process) (f rebuildFlags, view string, err error) {
	fs := pflag.NewFlagSet("notifier rebuild", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.SortFlags = false
	fs.Int64Var(&f.from, "from", 0, "first position to read (default the first of the log)")
	fs.Int64Var(&f.to, "to", 0, "last position to read (default the end of the log)")
	fs.StringVar(&f.topic, "topic", codec.TopicNotification, "topic of the view's events")
	fs.IntVar(&f.batch, "batch", 2000, "read the log in batches of this many entries")
	fs.BoolVar(&f.abort, "abort", false, "remove an unfinished generation and what is left of former ones")
	fs.BoolVar(&f.yes, "yes", false, "do it")
	fs.BoolVar(&f.asJSON, "json", false, "print one JSON object")
	fs.StringVar(&f.postgres, "postgres", "", "Postgres address [DATABASE_URL]")
	fs.StringVar(&f.redis, "redis", "", "Redis address [REDIS_URL]")
	err = fs.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintf(p.Err, rebuildUsage, strings.Join(views.Names(), ", "))
		fmt.Fprint(p.Err, fs.FlagUsages())
		return f, "", err
	}
	if err != nil {
		return f, "", err
	}
	var errs []error
	if fs.NArg() == 1 {
		view = fs.Arg(0)
	} else {
		errs = append(errs, fmt.Errorf("rebuild needs the name of one view: %s", strings.Join(views.Names(), ", ")))
	}
	for _, s := range []struct {
		value             *string
		name, environment string
	}{{&f.postgres, "postgres", "DATABASE_URL"}, {&f.redis, "redis", "REDIS_URL"}} {
		if *s.value == "" {
			*s.value = p.Getenv(s.environment)
		}
		if *s.value == "" {
			errs = append(errs, fmt.Errorf("%s: must be given: --%s or %s", s.name, s.name, s.environment))
		}
	}
	return f, view, errors.Join(errs...)
}

func (f *rebuildFlags) build(ctx context.Context, p Process, store *pgstore.Store, v *views.Views, view rebuild.View) error {
	log, err := store.History(ctx)
	if err != nil {
		return err
	}
	defer log.Close()
	floor, err := logFloor(ctx, store)
	if err != nil {
		return err
	}
	bar := newRebuildBar(p.Err)
	defer bar.done()
	builder, err := rebuild.NewBuilder(v.Tracker(), view, log, rebuild.Config{
		From: f.from, To: f.to, Floor: floor, Batch: f.batch, OnProgress: bar.show,
	})
	switch {
	case err != nil:
		return usageError{err}
	case f.abort:
		return f.abortBuild(ctx, p, builder)
	case !f.yes:
		res, err := builder.Plan(ctx)
		return f.reportBuild(p, buildReport{res, true}, err)
	}
	res, err := builder.Run(ctx)
	bar.done()
	if err != nil && res.Generation != "" && !res.Flipped {
		fmt.Fprintln(p.Err, "to go on, give the same command again; to give it up, give --abort --yes")
	}
	return f.reportBuild(p, buildReport{res, false}, err)
}

// logFloor is the position from which on nothing was dropped: the beginning of the
// unbroken sequence of partitions that ends with the newest.
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
