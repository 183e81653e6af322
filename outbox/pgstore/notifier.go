package pgstore

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// channel is the Postgres channel on which relays listen.
const channel = "outbox_doorbell"

// notifyInterval is the minimum time between two notifications of one process.
const notifyInterval = 5 * time.Millisecond

// Notifier wakes idle relays in other processes after a commit in this one. It
// never notifies inside a business transaction, and sends nothing while no relay
// has armed its Listener. Calls of Notify that come close together cost one
// statement.
type Notifier struct {
	db      *sql.DB
	pending chan struct{} // capacity 1
}

// NewNotifier returns a Notifier. Give its Notify to outbox.WriterConfig.Wake and
// keep Run running. It does no I/O.
func NewNotifier(db *sql.DB) (*Notifier, error) {
	if db == nil {
		return nil, errors.New("outbox notifier: db: must be set, is nil")
	}
	return &Notifier{db: db, pending: make(chan struct{}, 1)}, nil
}

// Notify asks Run to wake the relays. It never blocks.
func (n *Notifier) Notify() {
	select {
	case n.pending <- struct{}{}:
	default:
	}
}

// Run sends the notifications until ctx ends, and then returns nil. It ignores
// errors of the database: a relay that misses a notification finds the messages
// at its next poll.
func (n *Notifier) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.pending:
		}
		_, _ = n.db.ExecContext(ctx, notifyRelaysSQL)
		pause := time.NewTimer(notifyInterval)
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil
		case <-pause.C:
		}
	}
}
