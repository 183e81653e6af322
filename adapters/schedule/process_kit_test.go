package schedule_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/outbox/pgstore"
	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

// What a process of a test is told.
const (
	envRole = "MILLRACE_TEST_ROLE"
	envDSN  = "MILLRACE_TEST_DSN"
	envNode = "MILLRACE_TEST_NODE"
)

// The roles.
const (
	roleScheduler = "scheduler" // runs the job j each 200 ms
	roleHolder    = "holder"    // takes the lock j and writes when told to
)

// testLease is short, so that a test can outlast it.
const testLease = 3 * time.Second

func startRole(t *testing.T, role, node string, db *harness.Database) *lab.Program {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	return lab.StartProgram(t, lab.ProgramConfig{
		Path: program, Interactive: true, Env: []string{envRole + "=" + role, envDSN + "=" + db.DSN, envNode + "=" + node},
	})
}

func runRole(role string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := map[string]func(context.Context) error{roleScheduler: beScheduler, roleHolder: beHolder}[role](ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func beScheduler(ctx context.Context) error {
	db, err := pgstore.Open(os.Getenv(envDSN), pgstore.OpenConfig{})
	if err != nil {
		return err
	}
	defer db.Close()
	locks, err1 := lock.NewPostgres(db)
	history, err2 := schedule.NewPostgresHistory(db)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	locker, err := lock.NewLocker(locks, lock.Config{Lease: testLease})
	if err != nil {
		return err
	}
	node := os.Getenv(envNode)
	s, err := schedule.NewScheduler(locker, history, []schedule.Job{{
		Name: "j", Schedule: "200ms", Missed: schedule.MissedRunAll, Crashed: schedule.CrashedRerun,
		Run: func(ctx context.Context) error {
			run, _ := schedule.CurrentRun(ctx)
			if _, err := db.ExecContext(ctx, `SELECT pg_sleep(0.08)`); err != nil { // to be hit in
				return err
			}
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer func() { _ = tx.Rollback() }()
			if err := schedule.Complete(ctx, tx); err != nil {
				return err
			}
			for range 2 { // a freeze may come between them
				if _, err := tx.ExecContext(ctx, `INSERT INTO effect (slot, fence, node) VALUES ($1, $2, $3)`, run.ScheduledAt, run.Fence, node); err != nil {
					return err
				}
			}
			return tx.Commit()
		},
	}}, schedule.SchedulerConfig{Node: node, Poll: 300 * time.Millisecond, Retry: 100 * time.Millisecond})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return s.Run(ctx)
}

// remembering keeps the grant, to write as if the holder's own clock and context
// told it nothing.
type remembering struct {
	*lock.Postgres
	grant lock.Grant
}

func (r *remembering) Acquire(ctx context.Context, c lock.Request) (g lock.Grant, err error) {
	r.grant, err = r.Postgres.Acquire(ctx, c)
	return r.grant, err
}

// beHolder takes the lock, says so, and does what it is told:
//
//	write    a guarded transaction
//	blindly  the same, but only the database is asked whether it may
//	begin    a guarded transaction that stays open until
//	commit
func beHolder(ctx context.Context) error {
	db, err := pgstore.Open(os.Getenv(envDSN), pgstore.OpenConfig{})
	if err != nil {
		return err
	}
	defer db.Close()
	pg, err := lock.NewPostgres(db)
	if err != nil {
		return err
	}
	locks := &remembering{Postgres: pg}
	locker, err := lock.NewLocker(locks, lock.Config{Lease: testLease})
	if err != nil {
		return err
	}
	r := locker.Do(ctx, lock.Lock{Name: "j", AtMostFor: time.Hour}, func(ctx context.Context) error {
		fmt.Println("holding")
		own := context.WithoutCancel(ctx) // deaf to the loss of the lock
		var tx *sql.Tx
		guard := map[string]func() error{
			"write":   func() error { return lock.Guard(own, tx) },
			"blindly": func() error { return locks.Guard(own, tx, locks.grant) },
			"begin":   func() error { return lock.Guard(own, tx) },
		}
		for told := bufio.NewScanner(os.Stdin); told.Scan(); {
			err := errors.New("no transaction")
			if check := guard[told.Text()]; check != nil {
				if tx, err = db.BeginTx(own, nil); err == nil {
					if err = check(); err == nil {
						_, err = tx.ExecContext(own, `INSERT INTO effect (slot, fence, node) VALUES (now(), $1, 'frozen')`, locks.grant.Fence)
					}
				}
			} else if tx != nil {
				err = nil
			}
			if err == nil && told.Text() != "begin" {
				err = tx.Commit()
			} else if err != nil && tx != nil {
				_ = tx.Rollback()
			}
			fmt.Printf("%s: refused %t, told %t, error %v\n", told.Text(), errors.Is(err, lock.ErrLost), errors.Is(context.Cause(ctx), lock.ErrLost), err)
		}
		return nil
	})
	fmt.Println("ended:", r.Err)
	return nil
}
