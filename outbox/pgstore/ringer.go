package pgstore

import (
	"context"
	"database/sql"
	"time"
)

// channel is the name that relays listen on.
const channel = "outbox_doorbell"

// ringInterval is the least time between two rings of one process.
const ringInterval = 5 * time.Millisecond

// Ringer wakes relays in other processes after a commit in this one. It never
// notifies inside a business transaction, and not at all while the relays are
// awake. Many rings at once cost one.
type Ringer struct {
	db   *sql.DB
	rung chan struct{}
}

// NewRinger returns a Ringer. Give its Ring to outbox.WriterConfig.Wake and keep
// Run running.
func NewRinger(db *sql.DB) *Ringer { return &Ringer{db: db, rung: make(chan struct{}, 1)} }

// Ring asks for the relays to be woken. It never blocks.
func (r *Ringer) Ring() {
	select {
	case r.rung <- struct{}{}:
	default:
	}
}

// Run sends the rings until ctx ends. An error of the database is no error here:
// a lost ring only means that the relays find the messages at their next poll.
func (r *Ringer) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.rung:
		}
		_, _ = r.db.ExecContext(ctx, ringSQL)
		pause := time.NewTimer(ringInterval)
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil
		case <-pause.C:
		}
	}
}
