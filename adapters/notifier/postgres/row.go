package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/millrace-go/millrace/adapters/notifier/internal/dberror"
	"github.com/millrace-go/millrace/domain"
)

// ErrNotTheTrigger means that the row has another version than the aggregate:
// the table's trigger entity_touch is missing or not the one of the migrations.
var ErrNotTheTrigger = errors.New("version of the row is not that of the aggregate: is the trigger entity_touch in place?")

// aggregate is what a repository must know to write an aggregate's row.
type aggregate interface {
	Pending() []domain.Event
	Stored() int64
	Version() int64
	Settle(createdAt, updatedAt time.Time)
}

// stored is what the database sets on every write.
type stored struct {
	version              int64
	createdAt, updatedAt time.Time
}

// write updates the row of an aggregate that has the given version.
type write func(version int64) (stored, error)

func scanRow(row *sql.Row) (s stored, err error) {
	err = row.Scan(&s.version, &s.createdAt, &s.updatedAt)
	s.createdAt, s.updatedAt = domain.Time(s.createdAt), domain.Time(s.updatedAt)
	return s, err
}

// added finishes the insert of a, which gave row and err.
func added(a aggregate, row stored, err error, update write) error {
	if err != nil {
		return dberror.Map(err)
	}
	return finish(a, row, update)
}

// save writes the pending events of a, whose id the query exists asks for.
func save(ctx context.Context, tx *sql.Tx, a aggregate, exists string, id any, update write) error {
	if len(a.Pending()) == 0 {
		return nil
	}
	row, err := update(a.Stored())
	if errors.Is(err, sql.ErrNoRows) {
		err = whyNone(ctx, tx, exists, id)
	}
	if err != nil {
		return dberror.Map(err)
	}
	return finish(a, row, update)
}

// finish writes the row until it has counted every pending event, since the
// database adds one version for each write and each event has its own. row is
// what the first write gave.
func finish(a aggregate, row stored, update write) error {
	for expected := a.Stored() + 1; ; expected++ {
		if row.version != expected {
			return ErrNotTheTrigger
		}
		if expected == a.Version() {
			break
		}
		var err error
		if row, err = update(expected); err != nil {
			return dberror.Map(err)
		}
	}
	a.Settle(row.createdAt, row.updatedAt)
	return nil
}

// whyNone tells why an update found no row of the version it asked for.
func whyNone(ctx context.Context, tx *sql.Tx, exists string, id any) error {
	var there bool
	if err := tx.QueryRowContext(ctx, exists, id).Scan(&there); err != nil {
		return err
	}
	if there {
		return domain.ErrVersionConflict
	}
	return domain.ErrNotFound
}
