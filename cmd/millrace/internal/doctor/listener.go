package doctor

import (
	"context"
	"database/sql"
	"sync"
	"time"

	"github.com/millrace-go/millrace/outbox/pgstore"
)

// notificationLimit is how long a notification may take to arrive.
const notificationLimit = 3 * time.Second

// Listener sends a notification through db, the way that writers take, and waits
// for it on a connection of its own to dsn, as a relay does. It is not heard by
// relays as a wake-up.
func Listener(ctx context.Context, dsn string, db *sql.DB) []Check {
	r := &report{}
	listener, err := pgstore.NewListener(dsn, db, "doctor")
	if err != nil {
		r.add(Warn, "listener", "relays poll", "cannot listen: %v", err)
		return r.checks
	}
	ctx, cancel := context.WithTimeout(ctx, notificationLimit)
	var listening sync.WaitGroup
	defer listening.Wait()
	defer cancel()
	listening.Go(func() { err = listener.Run(ctx, func() {}) })
	began := time.Now()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			cancel()
			listening.Wait()
			const fix = "a pooler in transaction mode swallows notifications: give --listen-postgres an address past it; without, relays poll"
			if err != nil {
				r.add(Warn, "listener", fix, "cannot listen: %v", err)
			} else {
				r.add(Warn, "listener", fix, "no notification arrived within %s", notificationLimit)
			}
			return r.checks
		case <-look.C:
			if listener.Working() {
				r.ok("listener", "a notification arrived after %s", time.Since(began).Round(time.Millisecond))
				return r.checks
			}
		}
	}
}
