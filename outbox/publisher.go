package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
)

// KeyFunc gives the key of a Watermill message.
type KeyFunc func(topic string, m *message.Message) (string, error)

// KeyFromMetadata takes the key from the metadata named MetadataKey.
func KeyFromMetadata(_ string, m *message.Message) (string, error) {
	if key := m.Metadata.Get(MetadataKey); key != "" {
		return key, nil
	}
	return "", &MessageError{Field: "key", Reason: "is empty: set the metadata " + MetadataKey + ", or give the publisher a KeyFunc"}
}

// Publisher is a Watermill publisher that appends to the outbox, for services
// that publish through Watermill's interfaces. It is safe for concurrent use.
type Publisher struct {
	writer *Writer
	key    KeyFunc
	inTx   func(ctx context.Context, store func(tx *sql.Tx) error) error
}

var _ message.Publisher = (*Publisher)(nil)

// NewPublisher returns a publisher that appends in tx: its messages are stored when
// tx commits and vanish if it rolls back. Make one for each transaction. A nil key means KeyFromMetadata.
func NewPublisher(w *Writer, tx *sql.Tx, key KeyFunc) (*Publisher, error) {
	if tx == nil {
		return nil, errors.New("outbox publisher: tx: must not be nil")
	}
	return newPublisher(w, key, func(_ context.Context, store func(*sql.Tx) error) error { return store(tx) })
}

// NewAutoPublisher returns a publisher that commits each call of Publish in its own
// transaction, for messages that belong to no entity. A nil key means
// KeyFromMetadata.
func NewAutoPublisher(w *Writer, db *sql.DB, key KeyFunc) (*Publisher, error) {
	if db == nil {
		return nil, errors.New("outbox publisher: db: must not be nil")
	}
	return newPublisher(w, key, func(ctx context.Context, store func(*sql.Tx) error) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		if err := store(tx); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		if err := tx.Commit(); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
		w.Wake()
		return nil
	})
}

func newPublisher(w *Writer, key KeyFunc, inTx func(context.Context, func(*sql.Tx) error) error) (*Publisher, error) {
	if w == nil {
		return nil, errors.New("outbox publisher: writer: must not be nil")
	}
	if key == nil {
		key = KeyFromMetadata
	}
	return &Publisher{writer: w, key: key, inTx: inTx}, nil
}

// Publish appends msgs in order, all or none. It uses the first message's context.
func (p *Publisher) Publish(topic string, msgs ...*message.Message) error {
	if len(msgs) == 0 {
		return nil
	}
	out := make([]Message, len(msgs))
	for i, m := range msgs {
		key, err := p.key(topic, m)
		if err == nil {
			out[i], err = FromWatermill(topic, m)
		}
		if err != nil {
			return fmt.Errorf("publish to outbox: message %d: %w", i, err)
		}
		out[i].Key = key
	}
	ctx := msgs[0].Context()
	return p.inTx(ctx, func(tx *sql.Tx) error { return p.writer.Append(ctx, tx, out...) })
}

// Close does nothing: the caller ends the transaction and closes the database.
func (p *Publisher) Close() error { return nil }
