package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/millrace-go/millrace/cmd/millrace/internal/check"
	"github.com/millrace-go/millrace/cmd/millrace/internal/progress"
	"github.com/millrace-go/millrace/cmd/millrace/internal/servers"
)

// serverGroup is the servers of a benchmark, and an independent view of them.
type serverGroup struct {
	set    *servers.Set
	db     *sql.DB
	broker *check.Broker
	line   *progress.Line
	watch  *watch
}

// newGround starts the servers. The watch over the machine begins when they run.
func newServerGroup(ctx context.Context, cfg servers.Config, line *progress.Line) (*serverGroup, error) {
	line.Say("starting servers")
	set, err := servers.Start(ctx, cfg)
	if err != nil {
		stop(set)
		return nil, fmt.Errorf("start servers: %w", err)
	}
	line.Say("postgres %s, kafka %s", set.Names.Postgres, set.Names.Kafka)
	g := &serverGroup{set: set, line: line, watch: startWatch()}
	if g.db, err = sql.Open("postgres", set.Postgres); err != nil {
		stop(set)
		return nil, fmt.Errorf("postgres: %w", err)
	}
	if g.broker, err = check.NewBroker(set.Kafka); err != nil {
		stop(set)
		return nil, errors.Join(err, g.db.Close())
	}
	return g, nil
}

func (g *serverGroup) close() {
	g.line.Done()
	g.broker.Close()
	_ = g.db.Close() // nothing is left to be lost
	stop(g.set)
}

// stop ends the servers even if the run was interrupted.
func stop(set *servers.Set) {
	if set == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = set.Stop(ctx) // the data are thrown away in any case
}

// checkpoint lets every round begin with the same debt to the disk.
func (g *serverGroup) checkpoint(ctx context.Context) error {
	if _, err := g.db.ExecContext(ctx, "CHECKPOINT"); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// another makes a second database on the same server. drop it after use.
func (g *serverGroup) another(ctx context.Context, suffix string) (dsn string, drop func(), err error) {
	u, err := url.Parse(g.set.Postgres)
	if err != nil {
		return "", nil, err
	}
	name := u.Path[1:] + "_" + suffix
	if _, err := g.db.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		return "", nil, fmt.Errorf("make a second database: %w", err)
	}
	u.Path = "/" + name
	return u.String(), func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, _ = g.db.ExecContext(ctx, "DROP DATABASE "+name+" WITH (FORCE)") // it goes with the server, or stays in sight
	}, nil
}

// hold opens what keeps old snapshots alive: a write transaction in another
// database of the cluster, and a repeatable-read snapshot in ours. release ends it.
func (g *serverGroup) hold(ctx context.Context, elsewhere, here *sql.DB) (release func(), err error) {
	write, err := elsewhere.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	read, err := here.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return nil, errors.Join(err, write.Rollback())
	}
	release = func() { _, _ = read.Rollback(), write.Rollback() }
	var text string
	if err := write.QueryRowContext(ctx, `SELECT pg_current_xact_id()::text`).Scan(&text); err != nil {
		release()
		return nil, err
	}
	if err := read.QueryRowContext(ctx, `SELECT pg_current_snapshot()::text`).Scan(&text); err != nil {
		release()
		return nil, err
	}
	return release, nil
}
