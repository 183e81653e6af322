package outbox

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/millrace-go/millrace/outbox/internal/problems"
)

// Appender stores messages in the caller's transaction; pgstore.Store is one.
type Appender interface {
	// Append stores msgs, which are valid and have their ids, in the given order.
	Append(ctx context.Context, tx *sql.Tx, msgs []Message) error
}

// WriterConfig configures a Writer. The zero value is usable.
type WriterConfig struct {
	// MaxPayloadBytes is the largest payload that Append takes, in bytes.
	// Default 1,000,000, which fits Kafka's default max.message.bytes.
	MaxPayloadBytes int
	// Wake is called by Writer.Wake: it is Relay.Wake of a relay in this process,
	// pgstore.Notifier.Notify for relays elsewhere, or both. It must not block.
	// Default: none; relays then find the messages by polling.
	Wake func()
}

func (c WriterConfig) withDefaults() WriterConfig {
	c.MaxPayloadBytes = cmp.Or(c.MaxPayloadBytes, MaxPayloadBytes)
	if c.Wake == nil {
		c.Wake = func() {}
	}
	return c
}

// Writer appends messages to the outbox. It is safe for concurrent use.
type Writer struct {
	store Appender
	cfg   WriterConfig
}

// NewWriter returns a Writer on store. It does no I/O.
func NewWriter(store Appender, cfg WriterConfig) (*Writer, error) {
	cfg = cfg.withDefaults()
	var p problems.List
	p.NotNil("store", store != nil)
	problems.Positive(&p, "MaxPayloadBytes", cfg.MaxPayloadBytes)
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("outbox writer: %w", err)
	}
	return &Writer{store: store, cfg: cfg}, nil
}

// Append stores msgs in tx. They become visible to the relay when tx commits and
// vanish if it rolls back. Messages of one key keep their order, within one call and
// across calls, if their transactions run one after the other: a row lock or version
// check on the entity before the append sees to that.
//
// Bad messages are refused before any I/O, all problems at once, each as a
// *MessageError; tx is then still usable. A transaction that has ended is
// refused with ErrTxDone. After any other error tx can only be rolled back.
func (w *Writer) Append(ctx context.Context, tx *sql.Tx, msgs ...Message) error {
	if len(msgs) == 0 {
		return nil
	}
	msgs, err := Prepare(msgs, w.cfg.MaxPayloadBytes)
	if err != nil {
		return fmt.Errorf("append outbox: %w", err)
	}
	if err := w.store.Append(ctx, tx, msgs); err != nil {
		if errors.Is(err, sql.ErrTxDone) {
			err = errors.Join(ErrTxDone, err)
		}
		return fmt.Errorf("append outbox: %w", err)
	}
	return nil
}

// Wake wakes the relay after a transaction with appended messages has committed, so
// that it does not wait for its next poll. An unnecessary call costs one poll.
func (w *Writer) Wake() { w.cfg.Wake() }

// Prepare is what Append does before any I/O, for other ways of storing messages: it
// refuses bad messages, all problems at once, each as a *MessageError, and returns
// the messages with an id each. It leaves msgs as it is. maxPayload is as
// WriterConfig.MaxPayloadBytes; 0 is its default.
func Prepare(msgs []Message, maxPayload int) ([]Message, error) {
	if err := validate(msgs, cmp.Or(maxPayload, MaxPayloadBytes)); err != nil {
		return nil, err
	}
	return withIDs(msgs)
}

// withIDs generates the missing ids, leaving the caller's slice alone.
func withIDs(msgs []Message) ([]Message, error) {
	copied := false
	for i := range msgs {
		if msgs[i].ID != uuid.Nil {
			continue
		}
		if !copied {
			msgs, copied = slices.Clone(msgs), true
		}
		id, err := uuid.NewV7()
		if err != nil {
			return nil, fmt.Errorf("generate event id: %w", err)
		}
		msgs[i].ID = id
	}
	return msgs, nil
}
