package pgstore

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lib/pq"

	"github.com/millrace-go/millrace/outbox"
)

// Doorbell is the relay's end of the wire that Ringer and outbox_ring() ring. It
// listens on a connection of its own, which must not go through a pooler in
// transaction mode: it tests itself, so that a pooler which swallows
// notifications is noticed, and the relay then polls as if there were no bell.
type Doorbell struct {
	dsn   string
	db    *sql.DB
	relay string
	home  string // the schema that rings for this outbox name; empty until it is known
	works atomic.Bool
	test  atomic.Int64 // number of the last self-test
	heard atomic.Int64 // number of the last one that arrived
}

var _ outbox.Doorbell = (*Doorbell)(nil)

// How often the wire is tested, and how long a test may take.
const (
	bellTest     = 30 * time.Second
	bellPatience = 2 * time.Second
)

// NewDoorbell returns the bell of the named relay. dsn is for the listening
// connection; db, the pool that the writers' notifications take too, for the rest.
func NewDoorbell(dsn string, db *sql.DB, relay string) *Doorbell {
	return &Doorbell{dsn: dsn, db: db, relay: relay}
}

// Working implements outbox.Doorbell.
func (d *Doorbell) Working() bool { return d.works.Load() }

// Idle implements outbox.Doorbell.
func (d *Doorbell) Idle(ctx context.Context, rest time.Duration) error {
	if _, err := d.db.ExecContext(ctx, idleSQL, d.relay, rest.Milliseconds()); err != nil {
		return fmt.Errorf("hang out the doorbell: %w", err)
	}
	return nil
}

// Run listens and calls wake for every ring, and after every reconnection, when
// rings may have been missed, until ctx ends.
func (d *Doorbell) Run(ctx context.Context, wake func()) error {
	listener := pq.NewListener(d.dsn, 100*time.Millisecond, 10*time.Second, nil)
	defer listener.Close()
	defer d.works.Store(false)
	listening := make(chan error, 1)
	go func() { listening <- listener.Listen(channel) }() // returns once connected, or closed
	tick := time.NewTicker(bellTest)
	defer tick.Stop()
	patience := time.NewTimer(bellPatience)
	defer patience.Stop()
	try := func() {
		d.check(ctx)
		patience.Reset(bellPatience)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-listening:
			if err != nil {
				return fmt.Errorf("listen for the doorbell: %w", err)
			}
			listening = nil
			try()
		case n := <-listener.Notify:
			if n == nil { // reconnected
				try()
				wake()
			} else if schema, ring := strings.CutPrefix(n.Extra, "@"); !ring && schema != "" {
				d.hear(n.Extra)
			} else if schema == d.home || schema == "" || d.home == "" {
				wake()
			}
		case <-tick.C:
			try()
		case <-patience.C:
			d.works.Store(d.heard.Load() == d.test.Load() && d.test.Load() > 0)
		}
	}
}

// check sends a notification to itself.
func (d *Doorbell) check(ctx context.Context) {
	if d.home == "" {
		_ = d.db.QueryRowContext(ctx, schemaSQL).Scan(&d.home) // until it succeeds, every ring counts
	}
	n := d.test.Add(1)
	_, _ = d.db.ExecContext(ctx, notifySQL, channel, d.relay+" "+strconv.FormatInt(n, 10)) // not heard if it fails
}

func (d *Doorbell) hear(extra string) {
	if extra == d.relay+" "+strconv.FormatInt(d.test.Load(), 10) {
		d.heard.Store(d.test.Load())
		d.works.Store(true)
	}
}
