package doctor

import (
	"context"
	"database/sql"
	"sync"
	"time"

	"github.com/millrace-go/millrace/outbox/pgstore"
)

// bellPatience is how long a notification may take to arrive.
const bellPatience = 3 * time.Second

// Doorbell sends a notification through db, the way that writers take, and waits
// for it on a connection of its own to dsn, as a relay does. It is not heard by
// relays as a wake-up.
func Doorbell(ctx context.Context, dsn string, db *sql.DB) []Check {
	r := &report{}
	bell, err := pgstore.NewListener(dsn, db, "doctor")
	if err != nil {
		r.add(Warn, "doorbell", "relays poll", "cannot listen: %v", err)
		return r.checks
	}
	ctx, cancel := context.WithTimeout(ctx, bellPatience)
	var listening sync.WaitGroup
	defer listening.Wait()
	defer cancel()
	listening.Go(func() { err = bell.Run(ctx, func() {}) })
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
				r.add(Warn, "doorbell", fix, "cannot listen: %v", err)
			} else {
				r.add(Warn, "doorbell", fix, "no notification arrived within %s", bellPatience)
			}
			return r.checks
		case <-look.C:
			if bell.Working() {
				r.ok("doorbell", "a notification arrived after %s", time.Since(began).Round(time.Millisecond))
				return r.checks
			}
		}
	}
}
