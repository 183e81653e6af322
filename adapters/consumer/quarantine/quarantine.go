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
	"github.com/millrace-go/millrace/adapters/consumer/internal/failure"
	"github.com/millrace-go/millrace/adapters/internal/problems"
	"github.com/millrace-go/millrace/outbox/record"
)

// ErrWaiting is the error in the dead letter of a record that was not handled
// because its key waits.
var ErrWaiting = errors.New("quarantined: its key waits")

// Quarantine holds back the records that follow a dead letter of their key. One serves
// any number of handlers, groups and topics. The subscriber of a handler must put the
// record.Record of a message into its context, as package kafka's does, and deliver
// the records of a key one at a time. A message without a record or a key passes.
//
// While no record of a partition waits, the database is asked only once each time the
// partition is assigned. The tables come with the migrations of sql.Outbox. They may
// be in any database that all members of the group can reach.
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
			h := &handling{q: q, ctx: msg.Context(), claim: q.claimOf(rec), entry: Entry{
				Group: rec.Group, Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset,
				Key: rec.Key, EventID: eventID(rec), State: StateWaiting,
			}}
			h.readOrigin(rec)
			return h.deliver(msg, next)
		}
	}
}

// handling is one delivery that passes through the middleware.
type handling struct {
	q     *Quarantine
	ctx   context.Context //nolint:containedctx // of the message
	claim *claim
	entry Entry

	replayed bool
}

// readOrigin gives a replayed record the place that it was first consumed at.
func (h *handling) readOrigin(rec *record.Record) {
	isReplay := func(header record.Header) bool { return header.Key == deadletter.HeaderReplayID }
	if !slices.ContainsFunc(rec.Headers, isReplay) {
		return
	}
	if _, offset := deadletter.Origin(rec); offset != rec.Offset {
		h.replayed, h.entry.Offset = true, offset
	}
}

// deliver lets the record pass, makes it wait, or skips it.
func (h *handling) deliver(msg *message.Message, next message.HandlerFunc) ([]*message.Message, error) {
	if h.claim == nil {
		return nil, consumer.ErrUnfinished // of a claim that is over
	}
	if err := h.q.load(h.ctx, h.claim); err != nil {
		return nil, err
	}
	if !h.mustLookUp() {
		return h.pass(msg, next, false)
	}
	unlock, err := h.claim.lockKey(h.ctx, h.entry.Key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	seen, err := h.lookUp()
	switch {
	case err != nil:
		return nil, err
	case seen.resolved:
		return nil, h.skip()
	case seen.behind:
		return nil, h.makeWait(seen.first)
	}
	return h.pass(msg, next, seen.waits)
}

// pass hands the record on and keeps what becomes of it.
func (h *handling) pass(msg *message.Message, next message.HandlerFunc, waits bool) ([]*message.Message, error) {
	out, err := next(msg)
	switch {
	case err == nil && waits:
		return out, h.done()
	case err == nil, unfinished(h.ctx, err):
		return out, err
	}
	h.entry.Failures = 1
	return out, h.enter(err)
}

// makeWait makes the record wait behind the one at offset first.
func (h *handling) makeWait(first int64) error {
	return h.enter(&failure.Error{
		Disposition: deadletter.DispositionQuarantined,
		Err:         fmt.Errorf("%w for %s/%d/%d", ErrWaiting, h.entry.Topic, h.entry.Partition, first),
	})
}

func (h *handling) skip() error {
	h.q.cfg.Hooks.Skipped(h.entry)
	delivery.Skip(h.ctx)
	return nil
}

// unfinished reports that a failure says nothing about the record.
func unfinished(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, consumer.ErrUnfinished)
}
