package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/adapters/schedule/lock/redislock"
	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
)

// locksUse are the settings of the commands on locks, which may be kept in either.
var locksUse = config.Use{Optional: []config.Name{config.Postgres, config.Redis}}

var errNoStore = usageError{errors.New("postgres, redis: both are missing: give --postgres, --redis, or both")}

func environmentFlag(f *pflag.FlagSet, environment *string, otherwise string) {
	f.StringVar(environment, "environment", "", "in Redis: the part of the key behind job-lock: (default "+otherwise+")")
}

func (a *app) jobsLocks() *cobra.Command {
	var environment string
	var held, asJSON bool
	return a.command(spec{
		use: "locks", short: "List the locks: who holds what, since when, until when",
		long: `Lists the rows of table shedlock in Postgres, and with --redis the keys job-lock:* that
locks in Redis are, those of Java nodes too. A lock is renewed while its task runs,
so UNTIL moves on; after the task it may be kept for the job's LockAtLeastFor. A lock
that is free is a row still, but no key any more. In Redis SINCE is by the clock of
the holder, and FENCE that of the last holder which was no Java node.`,
		example: `  millrace jobs locks --postgres postgres://app@localhost/app
  millrace jobs locks --redis redis://localhost:6379/0 --held --json`,
		settings: locksUse,
		flags: func(f *pflag.FlagSet) {
			environmentFlag(f, &environment, "all")
			f.BoolVar(&held, "held", false, "only those that are held")
			f.BoolVar(&asJSON, "json", false, "print JSON")
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			if c.cfg.Postgres == "" && c.cfg.Redis == "" {
				return errNoStore
			}
			all, err := c.allLocks(ctx, environment)
			chosen := []lock.State{}
			for _, l := range all {
				if l.Held || !held {
					chosen = append(chosen, l)
				}
			}
			if err != nil && len(all) == 0 {
				return err
			}
			return errors.Join(c.printLocks(chosen, asJSON), err)
		},
	})
}

// allLocks lists the locks of all stores that were given. Those of one are of use
// also if the other does not answer.
func (c *call) allLocks(ctx context.Context, environment string) (all []lock.State, err error) {
	list := func(of interface {
		Locks(context.Context) ([]lock.State, error)
	}) error {
		locks, err := of.Locks(ctx)
		all = append(all, locks...)
		return err
	}
	if c.cfg.Postgres != "" {
		err = c.withLocks(ctx, func(o *lock.Operator) error { return list(o) })
	}
	if c.cfg.Redis != "" {
		cfg := redislock.OperatorConfig{Environment: environment}
		err = errors.Join(err, c.withRedisLocks(ctx, cfg, func(ctx context.Context, o *redislock.Operator) error { return list(o) }))
	}
	return all, err
}

// withRedisLocks opens the locks in Redis.
func (c *call) withRedisLocks(ctx context.Context, cfg redislock.OperatorConfig, do func(context.Context, *redislock.Operator) error) error {
	return c.withRedis(ctx, func(ctx context.Context, rdb *redis.Client) error {
		o, err := redislock.NewOperator(rdb, cfg)
		if err != nil {
			return err
		}
		return do(ctx, o)
	})
}

func (c *call) printLocks(all []lock.State, asJSON bool) error {
	if asJSON {
		return printJSON(c.Out, all)
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(c.Out, "no locks")
		return err
	}
	rows := [][]string{{"LOCK", "STATE", "HOLDER", "SINCE", "UNTIL", "LEFT", "FENCE", "KEPT IN"}}
	for _, l := range all {
		state, left := "free", "-"
		if l.Held {
			state, left = "held", l.Left.Round(time.Second).String()
		}
		if l.Until.IsZero() {
			left = "forever"
		}
		rows = append(rows, []string{l.Name, state, dash(oneLine(l.Owner)), stamp(l.Since), stamp(l.Until), left, count(l.Fence), keptIn(l)})
	}
	return printTable(c.Out, rows)
}

func keptIn(l lock.State) string {
	if l.Store == lock.StoreRedis {
		return "redis " + l.Key
	}
	return l.Store
}
