package cli

import (
	"cmp"
	"context"
	"database/sql"
	"log/slog"
	"sync"
	"time"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
)

// wakeUps is a relay's listener, or none.
type wakeUps struct {
	*pgstore.Listener
	log  *slog.Logger
	host string // where it listens
}

// listener returns the listener of the outbox at dsn, whose pool is db.
func (c *call) listener(dsn string, db *sql.DB, log *slog.Logger) (wakeUps, error) {
	if c.cfg.NoListen {
		return wakeUps{}, nil
	}
	dsn = cmp.Or(c.cfg.ListenPostgres, dsn)
	l, err := pgstore.NewListener(dsn, db, c.cfg.RelayName)
	return wakeUps{l, log, postgresHost(dsn)}, err
}

// orNil is what RelayConfig takes: nil without a listener.
func (b wakeUps) orNil() outbox.Listener {
	if b.Listener == nil {
		return nil
	}
	return b.Listener
}

// working is the metric's value.
func (b wakeUps) working() bool { return b.Listener != nil && b.Working() }

const (
	listenRetry = 10 * time.Second // after an error that ended the listening
	listenWatch = 5 * time.Second  // between checks whether wake-ups arrive
)

// listen wakes relay for every notification until ctx ends. No error of the listener
// stops the relay: it polls meanwhile.
func (b wakeUps) listen(ctx context.Context, relay *outbox.Relay) {
	if b.Listener == nil {
		return
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { b.watch(ctx) })
	for ctx.Err() == nil {
		if err := b.Run(ctx, relay.Wake); err != nil && ctx.Err() == nil {
			b.log.Warn("listener stopped; the relay polls", "error", err, "postgres", b.host, "again_in", listenRetry.String())
			pauseFor(ctx, listenRetry)
		}
	}
}

// watch logs when wake-ups begin or cease to arrive.
func (b wakeUps) watch(ctx context.Context) {
	for worked, first := false, true; ; first = false {
		if pauseFor(ctx, listenWatch); ctx.Err() != nil {
			return
		}
		works := b.Working()
		switch {
		case works && !worked:
			b.log.Info("wake-ups arrive", "postgres", b.host)
		case !works && (worked || first):
			b.log.Warn("no wake-ups arrive; the relay polls", "postgres", b.host)
		}
		worked = works
	}
}

// pauseFor waits for d or until ctx ends.
func pauseFor(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
