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

// bell is a relay's doorbell, or none.
type wakeUps struct {
	*pgstore.Listener
	log  *slog.Logger
	host string // where it listens
}

// bell returns the doorbell of the outbox at dsn, whose pool is db.
func (c *call) bell(dsn string, db *sql.DB, log *slog.Logger) (wakeUps, error) {
	if c.cfg.NoListen {
		return wakeUps{}, nil
	}
	dsn = cmp.Or(c.cfg.ListenPostgres, dsn)
	l, err := pgstore.NewListener(dsn, db, c.cfg.RelayName)
	return wakeUps{l, log, postgresHost(dsn)}, err
}

// hung is what RelayConfig takes: nil if there is no bell.
func (b wakeUps) hung() outbox.Listener {
	if b.Listener == nil {
		return nil
	}
	return b.Listener
}

// working is the metric's value.
func (b wakeUps) working() bool { return b.Listener != nil && b.Working() }

const (
	bellRetry = 10 * time.Second // after an error that ended the listening
	bellWatch = 5 * time.Second  // between looks at whether the bell works
)

// listen wakes relay for every ring until ctx ends. Nothing that befalls the bell
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
			b.log.Warn("doorbell stopped", "error", err, "postgres", b.host, "again_in", bellRetry.String())
			pauseFor(ctx, bellRetry)
		}
	}
}

// watch tells the log when the bell begins or ceases to work.
func (b wakeUps) watch(ctx context.Context) {
	for worked, first := false, true; ; first = false {
		if pauseFor(ctx, bellWatch); ctx.Err() != nil {
			return
		}
		works := b.Working()
		switch {
		case works && !worked:
			b.log.Info("doorbell works", "postgres", b.host)
		case !works && (worked || first):
			b.log.Warn("doorbell is silent; the relay polls", "postgres", b.host)
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
