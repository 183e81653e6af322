package pgstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lib/pq"

	"github.com/millrace-go/millrace/outbox"
)

// Listener receives the notifications that Notifier and the SQL function
// outbox_ring() send, by LISTEN on a connection of its own. That connection must
// not go through a pooler in transaction mode. The Listener sends itself a
// notification now and then: if it does not arrive, because a pooler swallows it,
// Working reports false and the relay polls as if there were no Listener.
type Listener struct {
	dsn      string
	db       *sql.DB
	relay    string
	schema   string // the schema of this outbox, which its notifications name; empty until it is known
	working  atomic.Bool
	sent     atomic.Int64 // number of the last self-test
	received atomic.Int64 // number of the last self-test that arrived
}

var _ outbox.Listener = (*Listener)(nil)

// How often the Listener tests itself, and how long a test may take.
const (
	selfTestInterval = 30 * time.Second
	selfTestTimeout  = 2 * time.Second
)

// NewListener returns the listener of the named relay. dsn is for the listening
// connection. db, which must be reached as the writers' notifications are, is for
// the rest. It does no I/O.
func NewListener(dsn string, db *sql.DB, relay string) (*Listener, error) {
	var errs []error
	if db == nil {
		errs = append(errs, errors.New("db: must be set, is nil"))
	}
	if relay == "" {
		errs = append(errs, errors.New("relay: must be set, is empty"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("outbox listener: %w", err)
	}
	return &Listener{dsn: dsn, db: db, relay: relay}, nil
}

// Working implements outbox.Listener.
func (l *Listener) Working() bool { return l.working.Load() }

// Arm implements outbox.Listener.
func (l *Listener) Arm(ctx context.Context, d time.Duration) error {
	if _, err := l.db.ExecContext(ctx, armSQL, l.relay, d.Milliseconds()); err != nil {
		return fmt.Errorf("arm the outbox listener: %w", err)
	}
	return nil
}

// Disarm implements outbox.Listener.
func (l *Listener) Disarm(ctx context.Context) error {
	if _, err := l.db.ExecContext(ctx, armSQL, l.relay, 0); err != nil {
		return fmt.Errorf("disarm the outbox listener: %w", err)
	}
	return nil
}

// Run listens until ctx ends, and then returns nil. It calls wake for every
// notification, and after every reconnection, when some may have been missed.
func (l *Listener) Run(ctx context.Context, wake func()) error {
	connection := pq.NewListener(l.dsn, 100*time.Millisecond, 10*time.Second, nil)
	defer connection.Close()
	defer l.working.Store(false)
	listening := make(chan error, 1)
	go func() { listening <- connection.Listen(channel) }() // returns once connected, or closed
	tick := time.NewTicker(selfTestInterval)
	defer tick.Stop()
	timeout := time.NewTimer(selfTestTimeout)
	defer timeout.Stop()
	test := func() {
		l.sendSelfTest(ctx)
		timeout.Reset(selfTestTimeout)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-listening:
			if err != nil {
				return fmt.Errorf("listen for notifications: %w", err)
			}
			listening = nil
			test()
		case n := <-connection.Notify:
			if n == nil { // reconnected
				test()
				wake()
			} else if schema, commit := strings.CutPrefix(n.Extra, "@"); !commit && schema != "" {
				l.receiveSelfTest(n.Extra)
			} else if schema == l.schema || schema == "" || l.schema == "" {
				wake()
			}
		case <-tick.C:
			test()
		case <-timeout.C:
			l.working.Store(l.received.Load() == l.sent.Load() && l.sent.Load() > 0)
		}
	}
}

// sendSelfTest notifies the Listener itself. A failure shows in that it is not received.
func (l *Listener) sendSelfTest(ctx context.Context) {
	if l.schema == "" {
		_ = l.db.QueryRowContext(ctx, schemaSQL).Scan(&l.schema) // until it succeeds, every notification counts
	}
	n := l.sent.Add(1)
	_, _ = l.db.ExecContext(ctx, notifySQL, channel, l.relay+" "+strconv.FormatInt(n, 10))
}

func (l *Listener) receiveSelfTest(extra string) {
	if extra == l.relay+" "+strconv.FormatInt(l.sent.Load(), 10) {
		l.received.Store(l.sent.Load())
		l.working.Store(true)
	}
}
