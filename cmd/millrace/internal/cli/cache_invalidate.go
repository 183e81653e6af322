package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/adapters/cache"
)

// invalidateFlags say what to end, and how.
type invalidateFlags struct {
	query               string
	schema              int
	forget, yes, asJSON bool
}

// invalidateReport is what cache invalidate --json prints.
type invalidateReport struct {
	DryRun     bool   `json:"dry_run"`
	Key        string `json:"key,omitempty"`
	Query      string `json:"query,omitempty"`
	Generation string `json:"generation,omitempty"` // the new one of the query
	Version    int64  `json:"version,omitempty"`    // of the entry
	Forgotten  bool   `json:"forgotten"`            // its version, too
}

func (a *app) cacheInvalidate() *cobra.Command {
	var i invalidateFlags
	return oneKey(a.command(spec{
		use: "invalidate [KEY]", short: "End an entry, or all results of a query",
		long: `Makes the entry under KEY count for nothing: the next read loads it from the database.
Its version is kept, so that no old event can take its place, and loads that have
begun cannot fill it any more. With --query it ends all results of that query: a new
generation begins. --forget drops the version as well; only for a database that was
set back, so that what it has is older than what Redis knows. Without --yes it only
says what would happen.`,
		example: `  millrace cache invalidate view:notification:4711 --redis redis://localhost:6379/0
  millrace cache invalidate view:notification:4711 --yes
  millrace cache invalidate --query open-orders --yes`,
		settings: cacheUse,
		flags: func(f *pflag.FlagSet) {
			f.StringVar(&i.query, "query", "", "name of a query, instead of KEY")
			f.IntVar(&i.schema, "schema-version", 1, "with --query: the query's SchemaVersion")
			f.BoolVar(&i.forget, "forget", false, "drop the version as well")
			f.BoolVar(&i.yes, "yes", false, "do it")
			f.BoolVar(&i.asJSON, "json", false, "print one JSON object")
		},
		run: func(ctx context.Context, c *call, args []string) error {
			if (len(args) == 1) == (i.query != "") {
				return usageError{errors.New("give either a key or --query")}
			}
			if i.query != "" && i.forget {
				return usageError{errors.New("--forget: goes with a key, not with --query")}
			}
			return c.withRedis(ctx, func(ctx context.Context, rdb *redis.Client) error {
				if i.query != "" {
					return c.invalidateQuery(ctx, rdb, i)
				}
				return c.invalidateKey(ctx, rdb, args[0], i)
			})
		},
	}), true)
}

func (c *call) invalidateQuery(ctx context.Context, rdb *redis.Client, i invalidateFlags) (err error) {
	rep := invalidateReport{DryRun: !i.yes, Query: i.query}
	text := "would begin a new generation of query " + i.query
	if i.yes {
		if rep.Generation, err = cache.InvalidateQuery(ctx, rdb, i.query, i.schema); err != nil {
			return err
		}
		text = "began generation " + rep.Generation + " of query " + i.query
	}
	return c.printInvalidated(rep, text, i.asJSON)
}

func (c *call) invalidateKey(ctx context.Context, rdb *redis.Client, key string, i invalidateFlags) error {
	s, err := cache.Inspect(ctx, rdb, key)
	if errors.Is(err, cache.ErrMiss) {
		return fmt.Errorf("nothing is stored under %s: give the whole key with its prefix", key)
	}
	if err != nil {
		return fmt.Errorf("%w: it is not an entry of a cache, and is left alone", err)
	}
	rep := invalidateReport{DryRun: !i.yes, Key: key, Version: s.Version, Forgotten: i.forget}
	verb, done, act := "invalidate", "invalidated", cache.Invalidate
	if i.forget {
		verb, done, act = "forget", "forgot", cache.Forget
	}
	text := fmt.Sprintf(" version %d (%s) of %s", s.Version, s.State, key)
	if !i.yes {
		return c.printInvalidated(rep, "would "+verb+text, i.asJSON)
	}
	if _, err := act(ctx, rdb, key); err != nil {
		return err
	}
	return c.printInvalidated(rep, done+text, i.asJSON)
}

func (c *call) printInvalidated(rep invalidateReport, text string, asJSON bool) error {
	if asJSON {
		return printJSON(c.Out, rep)
	}
	_, err := fmt.Fprintln(c.Out, text)
	if rep.DryRun {
		fmt.Fprintln(c.Err, "nothing was changed: give --yes to do it")
	}
	return err
}
