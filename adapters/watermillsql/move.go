package watermillsql

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox"
)

// counts is how many rows one transaction moved and skipped.
type counts struct{ moved, skipped int64 }

// move appends all rows up to the cut that the group has not acknowledged to the
// outbox, and moves the group's offset past them.
func (i *Importer) move(ctx context.Context, tx *sql.Tx, upTo string) (c counts, err error) {
	from, err := i.stock.mark(ctx, tx, i.cfg.ConsumerGroup, true)
	if err != nil {
		return c, err
	}
	var last mark
	err = tx.QueryRowContext(ctx, i.stock.text(lastRowSQL), from.offset, from.xid, upTo).Scan(&last.offset, &last.xid)
	if errors.Is(err, sql.ErrNoRows) {
		return c, nil // a stock subscriber was faster
	}
	if err != nil {
		return c, fmt.Errorf("read %s: %w", i.stock.messages, err)
	}
	if _, err := tx.ExecContext(ctx, i.stock.text(openRowsSQL), from.offset, from.xid, upTo); err != nil {
		return c, fmt.Errorf("read %s: %w", i.stock.messages, err)
	}
	for {
		rows, err := i.fetch(ctx, tx)
		if err != nil {
			return c, fmt.Errorf("read %s: %w", i.stock.messages, err)
		}
		if len(rows) == 0 {
			break
		}
		if err := i.append(ctx, tx, rows, &c); err != nil {
			return c, err
		}
	}
	if _, err := tx.ExecContext(ctx, closeRowsSQL); err != nil {
		return c, err
	}
	if _, err := tx.ExecContext(ctx, i.stock.text(setMarkSQL), i.cfg.ConsumerGroup, last.offset, last.xid); err != nil {
		return c, fmt.Errorf("advance the offset of group %q: %w", i.cfg.ConsumerGroup, err)
	}
	return c, nil
}

// fetch reads the next rows of the open cursor.
func (i *Importer) fetch(ctx context.Context, tx *sql.Tx) ([]StockRow, error) {
	rows, err := tx.QueryContext(ctx, fmt.Sprintf(fetchRowsSQL, i.cfg.BatchSize))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []StockRow
	for rows.Next() {
		var r StockRow
		if err := rows.Scan(&r.Offset, &r.TransactionID, &r.UUID, &r.Payload, &r.Metadata, &r.CreatedAt); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// append appends rows to the outbox at once, or one by one if one is refused.
func (i *Importer) append(ctx context.Context, tx *sql.Tx, rows []StockRow, c *counts) error {
	msgs := make([]outbox.Message, 0, len(rows))
	from := make([]StockRow, 0, len(rows))
	for _, r := range rows {
		m, err := i.message(r)
		if err != nil {
			if err := i.refuse(ctx, r, err, c); err != nil {
				return err
			}
			continue
		}
		msgs, from = append(msgs, m), append(from, r)
	}
	err := i.writer.Append(ctx, tx, msgs...)
	if err == nil {
		c.moved += int64(len(msgs))
		return nil
	}
	if !errors.Is(err, outbox.ErrInvalidMessage) {
		return err
	}
	for n, m := range msgs {
		err := i.writer.Append(ctx, tx, m)
		switch {
		case err == nil:
			c.moved++
		case errors.Is(err, outbox.ErrInvalidMessage):
			if err := i.refuse(ctx, from[n], err, c); err != nil {
				return err
			}
		default:
			return err
		}
	}
	return nil
}

// refuse asks ImportConfig.Refused what to do with a row.
func (i *Importer) refuse(ctx context.Context, r StockRow, cause error, c *counts) error {
	if err := i.cfg.Refused(ctx, &RowError{Table: i.stock.messages, Row: r, Err: cause}); err != nil {
		return err
	}
	c.skipped++
	return nil
}

// message returns the outbox message of a row, with the time at which the row was
// written.
func (i *Importer) message(r StockRow) (outbox.Message, error) {
	m := message.NewMessage(r.UUID, r.Payload)
	if len(r.Metadata) > 0 {
		if err := json.Unmarshal(r.Metadata, &m.Metadata); err != nil {
			return outbox.Message{}, fmt.Errorf("metadata: %w", err)
		}
	}
	topic, m, err := i.cfg.Unwrap(i.topic, m)
	if err != nil {
		return outbox.Message{}, err
	}
	out, err := convert(i.cfg.Key, topic, m)
	if err != nil {
		return out, err
	}
	if _, set := out.Headers[outbox.HeaderOccurredAt]; !set {
		out.Headers[outbox.HeaderOccurredAt] = r.CreatedAt.UTC().Format(time.RFC3339Nano)
	}
	return out, nil
}
