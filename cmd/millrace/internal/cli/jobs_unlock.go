package cli

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/adapters/schedule/lock/redislock"
)

// unlockFlags say which lock is meant, and why.
type unlockFlags struct {
	job, store, environment, note string
	yes, asJSON                   bool
}

// unlockReport is what jobs unlock --json prints.
type unlockReport struct {
	DryRun  bool       `json:"dry_run"`
	Audited bool       `json:"audited"` // in job_audit; with a dry run: it would be
	Lock    lock.State `json:"lock"`    // as it was
}

func (a *app) jobsUnlock() *cobra.Command {
	var u unlockFlags
	return a.command(spec{
		use: "unlock", short: "Take a lock away from its holder",
		long: `Frees the lock of --job although somebody holds it, in Postgres or in Redis. A task
that still runs is cancelled at its next renewal, within a third of the lease, and
until then works beside the next holder: only what it writes under lock.Guard is
refused at once. A crashed holder needs no unlock: its lock lapses by itself. Without
--yes it only says what would happen; with it the unlock is written into job_audit.

A lock in Redis is freed without --postgres too. Then nothing is written into
job_audit, and what its holder writes under lock.Guard is refused only after the
next holder's first such write.`,
		example: `  millrace jobs unlock --job resend-failed-notifications
  millrace jobs unlock --job resend-failed-notifications --note "node 7 is gone" --yes
  millrace jobs unlock --job report --environment prod --redis redis://localhost:6379/0 --yes`,
		settings: locksUse,
		flags: func(f *pflag.FlagSet) {
			jobFlag(f, &u.job)
			f.StringVar(&u.store, "store", "", "where the lock is kept: postgres or redis (default the one where it is held)")
			environmentFlag(f, &u.environment, "default")
			f.StringVar(&u.note, "note", "", "why, for the audit")
			f.BoolVar(&u.yes, "yes", false, "do it")
			f.BoolVar(&u.asJSON, "json", false, "print JSON")
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			if err := c.checkUnlock(u); err != nil {
				return err
			}
			report, err := c.unlock(ctx, u)
			if errors.Is(err, lock.ErrNoSuchLock) {
				return fmt.Errorf("nobody holds the lock %s%s: see millrace jobs locks", u.job, c.whereLooked(u))
			}
			if err != nil {
				return err
			}
			return c.printUnlock(report, u.asJSON)
		},
	})
}

func (c *call) checkUnlock(u unlockFlags) error {
	switch {
	case u.job == "":
		return errNoJob
	case c.cfg.Postgres == "" && c.cfg.Redis == "":
		return errNoStore
	case u.store != "" && u.store != lock.StorePostgres && u.store != lock.StoreRedis:
		return usageError{fmt.Errorf("--store: is %q, must be postgres or redis", u.store)}
	case u.store == lock.StorePostgres && c.cfg.Postgres == "":
		return usageError{errors.New("--store: is postgres, but --postgres is missing")}
	case u.store == lock.StoreRedis && c.cfg.Redis == "":
		return usageError{errors.New("--store: is redis, but --redis is missing")}
	}
	return nil
}

func (c *call) whereLooked(u unlockFlags) string {
	if c.cfg.Redis == "" || u.store == lock.StorePostgres {
		return ""
	}
	environment := u.environment
	if environment == "" {
		environment = "default"
	}
	if c.cfg.Postgres == "" || u.store == lock.StoreRedis {
		return " in the environment " + environment + " of redis"
	}
	return " in postgres, nor in the environment " + environment + " of redis"
}

// unlock finds the lock and, with --yes, frees it.
func (c *call) unlock(ctx context.Context, u unlockFlags) (r unlockReport, err error) {
	if c.cfg.Redis == "" || u.store == lock.StorePostgres {
		return c.unlockRow(ctx, u)
	}
	if c.cfg.Postgres == "" {
		return c.unlockKey(ctx, u, nil)
	}
	db, err := reachPostgres(ctx, c.cfg.Postgres)
	if err != nil {
		return r, err
	}
	defer db.Close()
	if u.store == "" {
		if u.store, err = c.storeOf(ctx, u, db); err != nil {
			return r, err
		}
	}
	if u.store == lock.StorePostgres {
		return c.unlockRow(ctx, u)
	}
	return c.unlockKey(ctx, u, db)
}

// storeOf is the one store in which somebody holds the lock.
func (c *call) storeOf(ctx context.Context, look unlockFlags, db *sql.DB) (string, error) {
	look.yes = false
	row, err1 := c.unlockRow(ctx, look)
	key, err2 := c.unlockKey(ctx, look, db)
	switch noRow, noKey := errors.Is(err1, lock.ErrNoSuchLock), errors.Is(err2, lock.ErrNoSuchLock); {
	case err1 != nil && !noRow:
		return "", err1
	case err2 != nil && !noKey:
		return "", fmt.Errorf("%w; a lock in postgres needs no redis: --store postgres", err2)
	case noRow && noKey:
		return "", lock.ErrNoSuchLock
	case noRow:
		return lock.StoreRedis, nil
	case noKey:
		return lock.StorePostgres, nil
	}
	return "", fmt.Errorf("%s is held by %s in postgres and by %s in redis: say which with --store", look.job, row.Lock.Owner, key.Lock.Owner)
}

// unlockRow frees a lock in Postgres.
func (c *call) unlockRow(ctx context.Context, u unlockFlags) (r unlockReport, err error) {
	r.DryRun, r.Audited = !u.yes, true
	err = c.withLocks(ctx, func(o *lock.Operator) (err error) {
		if u.yes {
			r.Lock, err = o.Unlock(ctx, u.job, actor(), u.note)
			return err
		}
		all, err := o.Locks(ctx)
		for _, l := range all {
			if l.Name == u.job && l.Held {
				r.Lock = l
				return nil
			}
		}
		return cmp.Or(err, lock.ErrNoSuchLock)
	})
	return r, err
}

// unlockKey frees a lock in Redis; db may be nil.
func (c *call) unlockKey(ctx context.Context, u unlockFlags, db *sql.DB) (r unlockReport, err error) {
	r.DryRun, r.Audited = !u.yes, db != nil
	cfg := redislock.OperatorConfig{Environment: u.environment, DB: db}
	err = c.withRedisLocks(ctx, cfg, func(ctx context.Context, o *redislock.Operator) (err error) {
		if u.yes {
			r.Lock, err = o.Unlock(ctx, u.job, actor(), u.note)
			return noJobTables(err)
		}
		r.Lock, err = o.Held(ctx, u.job)
		return err
	})
	return r, err
}

func (c *call) printUnlock(r unlockReport, asJSON bool) error {
	if asJSON {
		return printJSON(c.Out, r)
	}
	what := "freed"
	if r.DryRun {
		what = "would free"
	}
	where := ""
	if r.Lock.Store == lock.StoreRedis {
		where = " in redis under " + r.Lock.Key
	}
	_, err := fmt.Fprintf(c.Out, "%s %s%s, held by %s since %s, fence %d\n", what, r.Lock.Name, where, oneLine(r.Lock.Owner), stamp(r.Lock.Since), r.Lock.Fence)
	if !r.Audited {
		fmt.Fprintln(c.Err, "not in job_audit, and the holder's guarded writes are refused only after the next holder's first: give --postgres for both")
	}
	if r.DryRun {
		fmt.Fprintln(c.Err, "nothing was changed: give --yes to do it")
	}
	return err
}
