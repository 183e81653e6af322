package watermillsql

import (
	"fmt"
	"time"
)

// StockRow is a row of watermill-sql's messages table.
type StockRow struct {
	Offset        int64
	TransactionID string
	UUID          string
	Payload       []byte
	Metadata      []byte // JSON
	CreatedAt     time.Time
}

// RowError is a stock row that the outbox cannot take: it is not an envelope
// (ErrNotEnvelope), has no key, or is refused by the writer
// (outbox.ErrInvalidMessage).
type RowError struct {
	Table string
	Row   StockRow
	Err   error
}

func (e *RowError) Error() string {
	return fmt.Sprintf("%s: row with offset %d, uuid %s: %v", e.Table, e.Row.Offset, e.Row.UUID, e.Err)
}

// Unwrap returns the cause.
func (e *RowError) Unwrap() error { return e.Err }
