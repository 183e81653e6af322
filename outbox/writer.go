package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
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
	// Wake is called by Committed: Relay.Wake of a relay in this process, a
	// notifier to relays elsewhere, or both. It must not block. Default none:
	// relays then find the messages by polling.
	Wake func()
}

// Writer appends messages to the outbox. It is safe for concurrent use.
type Writer struct {
	store Appender
	cfg   WriterConfig
}

// NewWriter returns a Writer on store.
func NewWriter(store Appender, cfg WriterConfig) (*Writer, error) {
	if cfg.MaxPayloadBytes == 0 {
		cfg.MaxPayloadBytes = MaxPayloadBytes
	}
	var errs []error
	if store == nil {
		errs = append(errs, errors.New("store: is nil"))
	}
	if cfg.MaxPayloadBytes < 0 {
		errs = append(errs, errors.New("MaxPayloadBytes: must be positive, or 0 for the default"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("outbox writer: %w", err)
	}
	return &Writer{store: store, cfg: cfg}, nil
}

// Append stores msgs in tx. They become visible to the relay when tx commits and
// vanish if it rolls back. Messages of one key keep their order, within one call
// and over calls, if their transactions are serialized, as a row lock or version
// check on the entity before the append does.
//
// Bad messages are refused before any I/O, all problems at once, each as a
// *MessageError; tx is then still usable. A transaction that has ended is
// refused with ErrTxDone. After any other error tx can only be rolled back.
func (w *Writer) Append(ctx context.Context, tx *sql.Tx, msgs ...Message) error {
	if len(msgs) == 0 {
		return nil
	}
	if err := validate(msgs, w.cfg.MaxPayloadBytes); err != nil {
		return fmt.Errorf("append outbox: %w", err)
	}
	msgs, err := withIDs(msgs)
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

// Committed tells the relay that a transaction with appended messages has
// committed, so that it need not wait for its next poll. Calling it without
// need costs one poll.
func (w *Writer) Wake() {
	if w.cfg.Wake != nil {
		w.cfg.Wake()
	}
}

// withIDs draws the ids that are missing, leaving the caller's slice alone.
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
			return nil, fmt.Errorf("draw event id: %w", err)
		}
		msgs[i].ID = id
	}
	return msgs, nil
}
