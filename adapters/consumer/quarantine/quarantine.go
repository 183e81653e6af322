package quarantine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/consumer/internal/delivery"
	"github.com/millrace-go/millrace/adapters/internal/problems"
	"github.com/millrace-go/millrace/outbox/record"
)

// ErrWaiting is the error in the dead letter of a record that was not handled
// because its key waits.
var ErrWaiting = errors.New("quarantined: its key waits")

// Quarantine holds back the followers of dead letters. One serves any number of
// handlers, groups and topics. A handler's subscriber must tell the record.Record
// of a message, as package kafka's does, and deliver the records of a key one at
// a time; what has no record or no key passes.
//
// While nothing of a partition waits, the database is asked once for each claim
// of it. The tables are those of the migrations sql.Outbox; they may be in any
// database that all members of the group reach.
type Quarantine struct {
	cfg Config
	db  *sql.DB

	mu     sync.Mutex
	claims map[partition]*claim
}

// New returns a quarantine in db.
func New(db *sql.DB, cfg Config) (*Quarantine, error) {
	var l problems.List
	problems.NotNil(&l, "db", db != nil)
	l.AddAll(cfg.validate())
	if err := l.Err(); err != nil {
		return nil, fmt.Errorf("quarantine: %w", err)
	}
	return &Quarantine{cfg: cfg.withDefaults(), db: db, claims: map[partition]*claim{}}, nil
}

// Middleware belongs around retry: consumer.WithAround(q.Middleware()).
func (q *Quarantine) Middleware() message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			rec, ok := record.From(msg.Context())
			if !ok || rec.Key == nil || rec.Offset < 0 || rec.Partition < 0 {
				return next(msg)
			}
			g := &guest{q: q, ctx: msg.Context(), claim: q.claimOf(rec), entry: Entry{
				Group: rec.Group, Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset,
				Key: rec.Key, EventID: eventID(rec), State: Waiting,
			}}
			g.readOrigin(rec)
			return g.deliver(msg, next)
		}
	}
}

// guest is one delivery on its way through the gate.
type guest struct {
	q     *Quarantine
	ctx   context.Context //nolint:containedctx // of the message
	claim *claim
	entry Entry

	replayed bool
}

// readOrigin gives a replayed record the place that it was first consumed at.
func (g *guest) readOrigin(rec *record.Record) {
	isReplay := func(h record.Header) bool { return h.Key == deadletter.HeaderReplayID }
	if !slices.ContainsFunc(rec.Headers, isReplay) {
		return
	}
	if _, offset := deadletter.Origin(rec); offset != rec.Offset {
		g.replayed, g.entry.Offset = true, offset
	}
}

// deliver lets the record pass, turns it back, or skips it.
func (g *guest) deliver(msg *message.Message, next message.HandlerFunc) ([]*message.Message, error) {
	if g.claim == nil {
		return nil, consumer.ErrUnfinished // of a claim that is over
	}
	if err := g.q.load(g.ctx, g.claim); err != nil {
		return nil, err
	}
	if !g.asks() {
		return g.pass(msg, next, false)
	}
	done, err := g.claim.await(g.ctx, g.entry.Key)
	if err != nil {
		return nil, err
	}
	defer done()
	seen, err := g.look()
	switch {
	case err != nil:
		return nil, err
	case seen.resolved:
		return nil, g.skip()
	case seen.behind:
		return nil, g.turnBack(seen.first)
	}
	return g.pass(msg, next, seen.waits)
}

// pass hands the record on and keeps what becomes of it.
func (g *guest) pass(msg *message.Message, next message.HandlerFunc, waits bool) ([]*message.Message, error) {
	out, err := next(msg)
	switch {
	case err == nil && waits:
		return out, g.done()
	case err == nil, unfinished(g.ctx, err):
		return out, err
	}
	g.entry.Failures = 1
	return out, g.enter(err)
}

// turnBack makes the record wait behind the one at offset first.
func (g *guest) turnBack(first int64) error {
	return g.enter(&consumer.FailureError{
		Disposition: deadletter.DispositionQuarantined,
		Err:         fmt.Errorf("%w for %s/%d/%d", ErrWaiting, g.entry.Topic, g.entry.Partition, first),
	})
}

func (g *guest) skip() error {
	g.q.cfg.Hooks.Skipped(g.entry)
	delivery.Skip(g.ctx)
	return nil
}

// unfinished reports that a failure says nothing about the record.
func unfinished(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, consumer.ErrUnfinished)
}
