package quarantine

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/internal/delivery"
	"github.com/millrace-go/millrace/adapters/internal/backoff"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// lookup is what is known of a record before it is handled.
type lookup struct {
	resolved bool  // a copy of it was handled, or it was released
	waits    bool  // it has an entry
	behind   bool  // an earlier record of its key waits
	first    int64 // the first offset of its key that waits, -1 if none does
}

// mustLookUp reports whether the database knows more of the record than memory: a live
// record of a key of which nothing waits passes unseen.
func (h *handling) mustLookUp() bool {
	return h.replayed || h.claim.number == 0 || h.claim.waits(h.entry.Key)
}

// lookUp asks whether the record may pass.
func (h *handling) lookUp() (s lookup, err error) {
	var state, id string
	e := &h.entry
	err = h.q.persist(h.ctx, func(ctx context.Context) error {
		err := h.q.db.QueryRowContext(ctx, lookUpSQL, e.Group, e.Topic, e.Partition, e.Offset, e.Key).Scan(&state, &id, &s.first)
		if err != nil {
			return fmt.Errorf("look up %s/%d/%d: %w", e.Topic, e.Partition, e.Offset, err)
		}
		return nil
	})
	if err != nil {
		return s, err
	}
	h.claim.setWaits(e.Key, s.first >= 0)
	s.waits = state == StateWaiting
	// Without an id, a live record may be that of an earlier topic of this name.
	s.resolved = state != "" && !s.waits && id == e.EventID && (id != "" || h.replayed)
	s.behind = s.first >= 0 && s.first < e.Offset
	return s, nil
}

// enter makes the record wait and returns cause, which makes it a dead letter. It
// is in the database before that: no crash lets a follower pass.
func (h *handling) enter(cause error) error {
	var mine, entered int
	e := &h.entry
	err := h.q.persist(h.ctx, func(ctx context.Context) error {
		return inTx(ctx, h.q.db, func(tx *sql.Tx) error {
			err := tx.QueryRowContext(ctx, enterSQL, e.Group, e.Topic, e.Partition, e.Offset, e.Key, e.EventID, e.Failures, h.claim.epoch).
				Scan(&mine, &entered)
			if err != nil {
				return fmt.Errorf("enter %s/%d/%d: %w", e.Topic, e.Partition, e.Offset, err)
			}
			return nil
		})
	})
	switch {
	case err != nil:
		return err
	case mine == 0: // somebody else has claimed the partition
		h.q.drop(h.claim)
		return consumer.ErrUnfinished
	case entered == 0: // released by a person meanwhile
		return h.skip()
	}
	h.claim.setWaits(e.Key, true)
	h.q.cfg.Hooks.Entered(*e)
	return cause
}

// done records that the record was handled, so that the next one of its key may be.
func (h *handling) done() error {
	var waits bool
	e := &h.entry
	err := h.q.persist(h.ctx, func(ctx context.Context) error {
		return inTx(ctx, h.q.db, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, doneSQL, e.Group, e.Topic, e.Partition, e.Offset)
			if err == nil {
				err = tx.QueryRowContext(ctx, waitsSQL, e.Group, e.Topic, e.Partition, e.Key).Scan(&waits)
			}
			if err != nil {
				return fmt.Errorf("mark %s/%d/%d as handled: %w", e.Topic, e.Partition, e.Offset, err)
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	h.claim.setWaits(e.Key, waits)
	e.State = StateDone
	h.q.cfg.Hooks.Done(*e, !waits)
	return nil
}

// persist repeats f until it succeeds or the delivery's context ends.
func (q *Quarantine) persist(ctx context.Context, f func(context.Context) error) error {
	waits := backoff.Doubling{First: q.cfg.RetryWait, Max: q.cfg.MaxRetryWait}
	for failures := 1; ; failures++ {
		attempt, cancel := context.WithTimeout(ctx, q.cfg.Timeout)
		err := f(attempt)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return consumer.ErrUnfinished
		}
		wait := waits.After(failures)
		q.cfg.Hooks.Error(err, wait)
		if !delivery.Sleep(ctx, wait) {
			return consumer.ErrUnfinished
		}
	}
}

const maxEventID = 255

// eventID is the record's event id, or its digest if it is not fit for a text
// column.
func eventID(rec *record.Record) (id string) {
	for _, h := range rec.Headers {
		if h.Key == outbox.HeaderEventID {
			id = string(h.Value)
		}
	}
	if len(id) > maxEventID || !utf8.ValidString(id) || strings.ContainsRune(id, 0) {
		sum := sha256.Sum256([]byte(id))
		return hex.EncodeToString(sum[:])
	}
	return id
}
